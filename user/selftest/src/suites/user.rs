// SPDX-License-Identifier: GPL-2.0
//! Buffers of programs: pinned, mapped at one contiguous range of IOVAs, reached by
//! the device, undone. A part for each concern, and [`Rig`], what most of them use.

mod backings;
mod batches;
mod entries;
mod limits;
mod living;
pub mod many;
mod pfs;
mod placing;
pub mod races;
mod requests;
mod sizes;
mod stuck;
mod undoing;
pub mod untranslated;

use anyhow::{ensure, Context as _, Result};

use crate::abi::Context;
use crate::dma::{self, Bench};
use crate::expect;
use crate::host::{Device, Host, Iommu};
use crate::ktap::Test;
use crate::mem::user::UserMemory;
use crate::mem::{fresh_bytes, Memory, HUGE, PAGE};

const PAGE_U64: u64 = 4096;
/// An address at which no process has anything, far from program, heap, stack and libraries.
const NOWHERE: u64 = 0x1000_0000_0000;

/// Everything that the emulated PF is right for.
pub fn suite_parts() -> Vec<Vec<Test<Host>>> {
    vec![
        sizes::tests(),
        backings::tests(),
        placing::tests(),
        undoing::tests(),
        living::tests(),
        limits::tests(),
        batches::tests(),
        requests::tests(),
        entries::tests(),
        stuck::tests(),
        pfs::tests(),
        races::tests(),
    ]
}

/// What the device edu, slow as it is, sees as well, and what only it can.
pub fn edu_parts() -> Vec<Vec<Test<Host>>> {
    vec![
        sizes::edu_tests(),
        backings::essential_tests(),
        undoing::essential_tests(),
        living::essential_tests(),
        limits::edu_tests(),
    ]
}

/// What holds in a shared space as well.
pub fn shared_parts() -> Vec<Vec<Test<Host>>> {
    vec![
        sizes::shared_tests(),
        placing::shared_tests(),
        undoing::chosen_tests(),
        living::tests(),
        limits::essential_tests(),
        batches::tests(),
        races::shared_tests(),
    ]
}

/// And where such a space takes fixed ranges.
pub fn shared_fixed_parts() -> Vec<Vec<Test<Host>>> {
    vec![
        sizes::shared_fixed_tests(),
        placing::shared_fixed_tests(),
        undoing::fixed_tests(),
    ]
}

/// What a host without a usable PF says.
pub fn nopf_tests() -> Vec<Test<Host>> {
    pfs::nopf_tests()
}

/// A context, a device, and ways to see that the device reaches all of a buffer or nothing.
pub struct Rig {
    bench: Bench,
    device: Device,
    /// The device's own engine, where it moves large amounts fast.
    engine: Option<dma::pf::Engine>,
}

impl Rig {
    pub fn new(host: &Host) -> Result<Self> {
        // Behind first-stage translation the emulated PF moves all data in messages of a page.
        let fast = host.device == Device::Pf && host.iommu != Iommu::IntelFs;
        let engine = match fast {
            true => Some(dma::pf::Engine::open(&host.pf()?)?),
            false => None,
        };
        Ok(Self {
            bench: Bench::new(host)?,
            device: host.device,
            engine,
        })
    }

    pub fn context(&self) -> &Context {
        &self.bench.context
    }

    /// Maps a whole buffer.
    pub fn map(&self, memory: &UserMemory) -> Result<u64> {
        expect::succeeds("map", self.context().map_user(memory.va(), memory.length()))
    }

    /// Unmaps a whole buffer.
    pub fn unmap(&self, memory: &UserMemory) -> Result<()> {
        expect::succeeds(
            "unmap",
            self.context().unmap_user(memory.va(), memory.length()),
        )
    }

    /// The device reads and writes at an offset of the memory at `iova`.
    pub fn reaches_at(&mut self, iova: u64, memory: &dyn Memory, offset: usize) -> Result<()> {
        dma::reaches_at(self.bench.dev.as_mut(), iova, memory, offset, 64)
    }

    pub fn refused_at(&mut self, iova: u64, memory: &dyn Memory, offset: usize) -> Result<()> {
        dma::refused_at(self.bench.dev.as_mut(), iova, memory, offset)
    }

    /// The device sees what the processor wrote and the reverse: in every page where it is fast,
    /// else in some.
    pub fn reaches(&mut self, iova: u64, memory: &dyn Memory) -> Result<()> {
        for offset in self.samples(memory) {
            dma::reaches_at(self.bench.dev.as_mut(), iova, memory, offset, PAGE)?;
        }
        match &self.engine {
            Some(engine) => every_page(engine, iova, memory),
            None => Ok(()),
        }
    }

    /// The device reaches nothing of the memory at `iova`.
    pub fn refused(&mut self, iova: u64, memory: &dyn Memory) -> Result<()> {
        for offset in self.samples(memory) {
            self.refused_at(iova, memory, offset)?;
        }
        Ok(())
    }

    /// Everything that the device can reach by its own record, if it keeps one and answers.
    pub fn recorded(&self) -> Option<Vec<dma::pf::Recorded>> {
        let engine = self.engine.as_ref().filter(|engine| engine.answers());
        engine.map(dma::pf::Engine::recorded)
    }

    /// What the device reads here, or nothing if that is refused.
    pub fn peek(&mut self, iova: u64) -> Result<Option<Vec<u8>>> {
        let mut seen = vec![0; 64];
        let access = self.bench.dev.read(iova, &mut seen)?;
        Ok((access != dma::Access::Refused).then_some(seen))
    }

    /// The device reads this here.
    pub fn sees(&mut self, iova: u64, want: &[u8]) -> Result<()> {
        let seen = self.peek(iova)?;
        let seen = seen.with_context(|| format!("the device's read at {iova:#x} was refused"))?;
        ensure!(
            seen[..] == want[..seen.len()],
            "the device reads at {iova:#x} something else than what is there"
        );
        Ok(())
    }

    /// Has the device write here; what it wrote.
    pub fn poke(&mut self, iova: u64) -> Result<Vec<u8>> {
        let data = fresh_bytes(64);
        let access = self.bench.dev.write(iova, &data)?;
        ensure!(
            access != dma::Access::Refused,
            "the device's write at {iova:#x} was refused"
        );
        Ok(data)
    }

    fn samples(&self, memory: &dyn Memory) -> Vec<usize> {
        let most = match self.device {
            Device::Pf => 16,
            Device::Edu => 2,
        };
        samples(memory.len() / PAGE, most)
    }
}

/// Where some of the pages begin: the first, the last, and others between them.
fn samples(pages: usize, most: usize) -> Vec<usize> {
    let count = pages.min(most);
    (0..count)
        .map(|index| index * (pages - 1) / (count - 1).max(1) * PAGE)
        .collect()
}

/// The device reads every page and writes every page: it copies each half over the other, in one
/// transfer, and every page of the copy must be that of the original.
fn every_page(engine: &dma::pf::Engine, iova: u64, memory: &dyn Memory) -> Result<()> {
    let half = memory.len() / PAGE / 2;
    if half == 0 {
        return Ok(());
    }
    let bytes = u64::try_from(half * PAGE)?;
    for (from, to) in [(0, half), (half, 0)] {
        let salt = fresh_bytes(8);
        let salt = u64::from_ne_bytes(salt.as_slice().try_into()?);
        // Not at the same place in each page.
        let place = |page: usize| page % (PAGE / 8) * 8;
        let tag = |page: usize| salt.wrapping_mul(2 * page as u64 + 1);
        for page in 0..half {
            let offset = (from + page) * PAGE + place(page);
            memory.write(offset, &tag(page).to_ne_bytes());
        }
        let at = |page: usize| iova + page as u64 * PAGE_U64;
        let verdict = engine.copy(at(from), at(to), bytes)?;
        expect::equal("the device's copy", verdict, dma::pf::Verdict::Done)?;
        for page in 0..half {
            let offset = (to + page) * PAGE + place(page);
            let found = memory.read(offset, 8);
            ensure!(
                found == tag(page).to_ne_bytes(),
                "page {} of {} has not what the device copied there from page {}",
                to + page,
                2 * half,
                from + page
            );
        }
    }
    Ok(())
}

/// Whether the bench cannot take a whole table of the IOMMU that is emptied in one go.
///
/// QEMU's amd-iommu ends the machine then (its assertion that a notification is no larger than
/// what was mapped) while a vfio-user device listens. There buffers of that size get larger pages,
/// and the others are seen in the machines with edu.
pub fn full_tables_end_qemu(host: &Host) -> bool {
    host.iommu == Iommu::Amd && host.device == Device::Pf
}

/// Small pages, as many as the bench can take.
fn small_pages(host: &Host, len: usize) -> Result<UserMemory> {
    if full_tables_end_qemu(host) && len >= HUGE {
        UserMemory::transparent(len)
    } else {
        UserMemory::scattered(len)
    }
}

/// Nothing of this context is mapped.
fn nothing_mapped(context: &Context) -> Result<()> {
    let left = context.mappings().context("QUERY")?;
    expect::equal("mappings", left.len(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_begin_with_the_first_page_and_end_with_the_last() {
        assert_eq!(samples(1, 16), [0]);
        assert_eq!(samples(2, 16), [0, PAGE]);
        assert_eq!(samples(1000, 2), [0, 999 * PAGE]);
        assert_eq!(samples(5, 3), [0, 2 * PAGE, 4 * PAGE]);
        assert_eq!(samples(3, 1), [0]);
    }
}
