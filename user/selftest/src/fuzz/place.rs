// SPDX-License-Identifier: GPL-2.0
//! Where a worker works: what INFO said of the space, the IOVAs that it has to itself, and
//! its memory. Every 8 bytes of that are different, in all workers, so that a device which
//! reads another page than it should is found out.

use anyhow::{Context as _, Result};
use rustix::mm::MprotectFlags;
use serde::{Deserialize, Serialize};

use super::model::PAGE;
use super::ops::Buffer;
use crate::abi::Context;
use crate::host::{self, Bdf, Host, Iommu, PfState};
use crate::mem::user::UserMemory;
use crate::mem::{self, Memory, HUGE};

const PAGE_LEN: usize = mem::PAGE;

/// What is true of the machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// First and last IOVA.
    pub aperture: (u64, u64),
    pub reserved: Vec<(u64, u64)>,
    /// The PF belongs to its own driver.
    pub shared: bool,
    /// The ranges of memory.
    pub ram: Vec<(u64, u64)>,
    pub physical_bits: u32,
    /// The PF, as sysfs names it.
    pub pf: String,
    /// It keeps a record of what it was told of.
    pub records: bool,
    /// QEMU ends itself when a whole table of small pages is emptied.
    pub small_tables: bool,
    /// Workers in all.
    pub workers: usize,
}

impl Facts {
    pub fn new(host: &Host, workers: usize) -> Result<Self> {
        let info = Context::open()?.info()?;
        let pf = host.pf()?;
        Ok(Self {
            aperture: (info.fixed.aperture_first, info.fixed.aperture_last),
            reserved: info
                .reserved
                .iter()
                .map(|range| (range.first, range.last))
                .collect(),
            ram: host::ram()?
                .into_iter()
                .map(|range| (*range.start(), *range.end()))
                .collect(),
            physical_bits: host::physical_bits()?,
            shared: host.pf_state == PfState::Shared,
            pf: pf.0,
            records: host.iommu != Iommu::IntelFs,
            small_tables: host.iommu == Iommu::Amd,
            workers,
        })
    }

    pub fn bdf(&self) -> Bdf {
        Bdf(self.pf.clone())
    }
}

/// Where the zones of the workers begin, each as far from the next.
const ZONES: u64 = 0x10_0000_0000;
const ZONE: u64 = 0x1_0000_0000;
/// How many pages of its zone a worker uses.
const SLOTS: u64 = 2048;

/// The first IOVA of a page of a worker's zone.
pub fn slot(worker: usize, slot: u16) -> u64 {
    ZONES + ZONE * (worker as u64) + u64::from(slot) % SLOTS * PAGE
}

/// Whether an IOVA is in a worker's zone.
pub fn is_zone(worker: usize, iova: u64) -> bool {
    (slot(worker, 0)..slot(worker, 0) + ZONE).contains(&iova)
}

/// A place that all workers compete for.
pub fn contended(slot: usize) -> u64 {
    ZONES - ZONE + slot as u64 * PAGE
}

/// Small pages that may be written, then a hole, then pages that may only be read.
const SMALL: usize = 128;
const HOLE: usize = 8;
const READ_ONLY: usize = 16;
/// Pages of the worker's that are mapped by physical address.
pub const PHYS: usize = 32;

/// The memory of one worker.
pub struct Places {
    small: UserMemory,
    read_only: UserMemory,
    huge: Option<UserMemory>,
    /// Contiguous.
    pub phys: mem::Buffer,
    // Stays, so that nothing else gets its addresses.
    _hole: UserMemory,
}

impl Places {
    pub fn new(worker: usize, facts: &Facts) -> Result<Self> {
        let all = UserMemory::scattered((SMALL + HOLE + READ_ONLY) * PAGE_LEN)?;
        mark(&all, worker as u64);
        let (small, rest) = all.split(SMALL * PAGE_LEN)?;
        let (hole, read_only) = rest.split(HOLE * PAGE_LEN)?;
        hole.protect(MprotectFlags::empty())?;
        read_only.protect(MprotectFlags::READ)?;
        // Where a huge page cannot be had, small ones are as good.
        let huge = UserMemory::transparent(HUGE).ok();
        let huge = huge.filter(|_| !facts.small_tables);
        if let Some(huge) = &huge {
            mark(huge, 0x100 + worker as u64);
        }
        let phys = mem::Buffer::transparent(PHYS)?;
        phys.keep_from_children()?;
        mark(&phys, 0x200 + worker as u64);
        Ok(Self {
            small,
            read_only,
            huge,
            phys,
            _hole: hole,
        })
    }

    /// Address and length of a buffer.
    pub fn find(&self, buffer: &Buffer) -> (u64, u64) {
        let at = |page: usize| self.small.va() + (page * PAGE_LEN) as u64;
        match *buffer {
            Buffer::Small {
                page,
                offset,
                length,
            } => {
                let va = at(usize::from(page) % SMALL) + u64::from(offset);
                (va, u64::from(length).min(at(SMALL) - va))
            }
            Buffer::Huge { page, pages } => {
                let (start, room) = match &self.huge {
                    Some(huge) => (huge.va(), HUGE / PAGE_LEN),
                    None => (self.small.va(), SMALL),
                };
                let page = usize::from(page) % room;
                let pages = usize::from(pages).min(room - page);
                (start + (page * PAGE_LEN) as u64, (pages * PAGE_LEN) as u64)
            }
            Buffer::ReadOnly { page, pages } => {
                let page = usize::from(page) % READ_ONLY;
                let pages = usize::from(pages).min(READ_ONLY - page);
                (
                    self.read_only.va() + (page * PAGE_LEN) as u64,
                    (pages * PAGE_LEN) as u64,
                )
            }
            Buffer::Hole { before } => {
                let pages = u64::from(before) + 1;
                (at(SMALL) - (pages - 1) * PAGE, pages * PAGE)
            }
            Buffer::Wild { va, length } => (va, length),
        }
    }

    /// Whether all bytes from `first` to `last` are there, and can be written.
    pub fn access(&self, first: u64, last: u64) -> (bool, bool) {
        let within = |memory: &UserMemory| {
            memory.va() <= first && last < memory.va() + Memory::len(memory) as u64
        };
        let writable = within(&self.small) || self.huge.as_ref().is_some_and(within);
        (writable || within(&self.read_only), writable)
    }

    fn holds(&self, va: u64) -> Option<(&dyn Memory, usize)> {
        let all = [Some(&self.small), Some(&self.read_only), self.huge.as_ref()];
        all.into_iter().flatten().find_map(|memory| {
            let offset = usize::try_from(va.checked_sub(memory.va())?).ok()?;
            (offset < Memory::len(memory)).then_some((memory as &dyn Memory, offset))
        })
    }

    /// What 8 bytes of a buffer are now.
    pub fn read(&self, va: u64) -> Result<[u8; 8]> {
        let (memory, offset) = self.holds(va).context("not the worker's memory")?;
        Ok(memory.read(offset, 8).try_into().unwrap_or_default())
    }

    pub fn write(&self, va: u64, data: [u8; 8]) -> Result<()> {
        let (memory, offset) = self.holds(va).context("not the worker's memory")?;
        memory.write(offset, &data);
        Ok(())
    }
}

/// Writes different bytes everywhere.
fn mark(memory: &dyn Memory, number: u64) {
    for offset in (0..memory.len()).step_by(8) {
        let word = ((number << 40) | offset as u64)
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        memory.write(offset, &word.to_ne_bytes());
    }
}
