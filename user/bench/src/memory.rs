// SPDX-License-Identifier: GPL-2.0
//! The buffers that are mapped: the same ones for everybody. Each is made so that its physical
//! memory is of a known kind, and says how many contiguous runs it really is made of.

use anyhow::{ensure, Context as _, Result};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of the smallest page.
pub const PAGE: usize = 4096;
/// Bytes of a huge page.
pub const HUGE: usize = 2 << 20;
/// Bytes of the hugest.
pub const GIANT: usize = 1 << 30;

/// What physical memory a buffer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// Small pages, none beside its neighbour.
    Scattered,
    /// Transparent huge pages.
    Thp,
    /// Huge pages of 2 MiB.
    Huge,
    /// Huge pages of 1 GiB.
    Giant,
}

impl Backing {
    pub fn name(self) -> &'static str {
        match self {
            Backing::Scattered => "scattered",
            Backing::Thp => "THP",
            Backing::Huge => "hugetlb 2 MiB",
            Backing::Giant => "hugetlb 1 GiB",
        }
    }

    fn alignment(self) -> usize {
        match self {
            Backing::Scattered => PAGE,
            Backing::Thp | Backing::Huge => HUGE,
            Backing::Giant => GIANT,
        }
    }
}

/// Bytes of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub address: usize,
    pub length: usize,
}

/// Memory that is there, and goes with the value.
pub struct Memory {
    region: Span,
    used: Span,
}

impl Memory {
    pub fn new(length: usize, backing: Backing) -> Result<Self> {
        let huge = match backing {
            Backing::Huge => MapFlags::HUGETLB | MapFlags::HUGE_2MB,
            Backing::Giant => MapFlags::HUGETLB | MapFlags::HUGE_1GB,
            Backing::Scattered | Backing::Thp => MapFlags::empty(),
        };
        // Room to align in. Huge pages of a file system of their own are aligned as they are.
        let spare = if huge.is_empty() {
            backing.alignment()
        } else {
            0
        };
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing
        // that exists.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                length + spare,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | huge,
            )
        };
        let start = start.with_context(|| format!("no {length} bytes of {}", backing.name()))?;
        let region = Span {
            address: start.expose_provenance(),
            length: length + spare,
        };
        let used = Span {
            address: region.address.next_multiple_of(backing.alignment()),
            length,
        };
        let memory = Self { region, used };
        let advice = match backing {
            Backing::Scattered => Some(Advice::LinuxNoHugepage),
            Backing::Thp => Some(Advice::LinuxHugepage),
            Backing::Huge | Backing::Giant => None,
        };
        if let Some(advice) = advice {
            // SAFETY: it is this value's own memory, and its contents do not change.
            unsafe { rustix::mm::madvise(start, region.length, advice) }?;
        }
        memory.touch(backing);
        Ok(memory)
    }

    /// The whole of it.
    pub fn span(&self) -> Span {
        self.used
    }

    /// Page number `index`, alone.
    pub fn page(&self, index: usize) -> Span {
        Span {
            address: self.used.address + index * PAGE,
            length: PAGE,
        }
    }

    /// Writes to every page. Scattered: every second one first, so that no two that are
    /// neighbours here were handed out one after the other.
    fn touch(&self, backing: Backing) {
        let pages = self.used.length / PAGE;
        let write = |page: usize| {
            let at = std::ptr::with_exposed_provenance_mut::<u64>(self.used.address + page * PAGE);
            // SAFETY: it is within this value's memory, which nothing else uses.
            unsafe { at.write_volatile(page as u64 + 1) };
        };
        if backing == Backing::Scattered {
            (0..pages).step_by(2).for_each(write);
            (1..pages).step_by(2).for_each(write);
        } else {
            (0..pages)
                .step_by(backing.alignment() / PAGE)
                .for_each(write);
        }
    }

    /// How many physically contiguous runs it is made of.
    pub fn runs(&self) -> Result<usize> {
        let frames = frames(self.used)?;
        let breaks = frames.windows(2).filter(|pair| pair[0] + 1 != pair[1]);
        Ok(1 + breaks.count())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let start = std::ptr::with_exposed_provenance_mut(self.region.address);
        // SAFETY: the mapping is this value's own and nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(start, self.region.length) };
    }
}

/// The physical frame behind each page.
pub fn frames(span: Span) -> Result<Vec<u64>> {
    let pagemap = File::open("/proc/self/pagemap").context("cannot open /proc/self/pagemap")?;
    let mut entries = vec![0u8; span.length / PAGE * 8];
    pagemap.read_exact_at(&mut entries, (span.address / PAGE * 8) as u64)?;
    let frame = |entry: &[u8]| {
        let entry = entry
            .iter()
            .rev()
            .fold(0u64, |all, byte| (all << 8) | u64::from(*byte));
        entry & ((1 << 55) - 1)
    };
    let frames: Vec<u64> = entries.chunks_exact(8).map(frame).collect();
    ensure!(
        frames.iter().all(|frame| *frame != 0),
        "a page is not there, or the pagemap hides it"
    );
    Ok(frames)
}
