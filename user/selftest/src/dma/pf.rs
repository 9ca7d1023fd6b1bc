// SPDX-License-Identifier: GPL-2.0
//! The project's emulated PF: a DMA engine that copies, fills and sums, and says
//! when an address is refused to it.

use anyhow::{bail, ensure, Result};

use super::bar::Bar;
use super::{Access, Dma, Scratch};
use crate::host::Bdf;
use crate::mem::PAGE;

const MAGIC: usize = 0x00;
const SOURCE: usize = 0x08;
const DESTINATION: usize = 0x10;
const LENGTH: usize = 0x18;
const COMMAND: usize = 0x20;
const STATUS: usize = 0x28;
const FAULT: usize = 0x30;
const PROBE: usize = 0x58;
const PROBE_FLAGS: usize = 0x60;
const ENTRIES: usize = 0xa0;

const COPY: u64 = 1;

const BUSY: u64 = 0;
const DONE: u64 = 1;
const SOURCE_FAULT: u64 = 2;
const DESTINATION_FAULT: u64 = 4;

/// What came of one command of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done,
    SourceFault(u64),
    DestinationFault(u64),
}

impl Verdict {
    /// What a status other than done means, for an address.
    pub fn fault(status: u64, at: u64) -> Result<Self> {
        match status {
            SOURCE_FAULT => Ok(Self::SourceFault(at)),
            DESTINATION_FAULT => Ok(Self::DestinationFault(at)),
            status => bail!("the device reports the unknown status {status:#x}"),
        }
    }
}

/// A way to have the device copy from one IOVA to another.
pub trait Copies {
    fn copy(&self, source: u64, destination: u64, len: u64) -> Result<Verdict>;
}

/// The engine alone.
pub struct Engine(Bar);

impl Engine {
    pub fn open(pf: &Bdf) -> Result<Self> {
        let bar = Bar::open(pf)?;
        let magic = bar.read64(MAGIC);
        ensure!(
            magic != u64::MAX,
            "{} does not answer: its memory decoding is off",
            pf.0
        );
        Ok(Self(bar))
    }

    fn run(&self, command: u64) -> Result<Verdict> {
        self.0.write64(COMMAND, command);
        match self.0.wait64(STATUS, |status| status != BUSY)? {
            DONE => Ok(Verdict::Done),
            status => Verdict::fault(status, self.0.read64(FAULT)),
        }
    }

    /// How many entries of the IOMMU's tables the PF was told of.
    pub fn entries(&self) -> u64 {
        self.0.read64(ENTRIES)
    }

    /// Whether the IOMMU's tables, as the PF was told of them, let it read and write a page.
    pub fn told(&self, iova: u64) -> (bool, bool) {
        self.0.write64(PROBE, iova);
        let flags = self.0.read64(PROBE_FLAGS);
        (flags & 1 != 0, flags & 2 != 0)
    }

    /// Copies from one IOVA to another.
    pub fn copy(&self, source: u64, destination: u64, len: u64) -> Result<Verdict> {
        self.0.write64(SOURCE, source);
        self.0.write64(DESTINATION, destination);
        self.0.write64(LENGTH, len);
        self.run(COPY)
    }
}

impl Copies for Engine {
    fn copy(&self, source: u64, destination: u64, len: u64) -> Result<Verdict> {
        Engine::copy(self, source, destination, len)
    }
}

/// The engine as a device under test, driven by this program or by the PF's driver.
pub struct EmulatedPf<C> {
    engine: C,
    scratch: Scratch,
}

impl<C: Copies> EmulatedPf<C> {
    pub fn new(engine: C, scratch: Scratch) -> Self {
        Self { engine, scratch }
    }
}

impl<C: Copies> Dma for EmulatedPf<C> {
    fn max_transfer(&self) -> usize {
        PAGE
    }

    fn read(&mut self, iova: u64, into: &mut [u8]) -> Result<Access> {
        let before = vec![0xee; into.len()];
        self.scratch.page.write(0, &before);
        let verdict = self
            .engine
            .copy(iova, self.scratch.iova, u64::try_from(into.len())?)?;
        into.copy_from_slice(&self.scratch.page.read(0, into.len()));
        match verdict {
            Verdict::Done => Ok(Access::Done),
            Verdict::SourceFault(at) => {
                // Up to the refused address it may have copied already.
                ensure!(
                    at != iova || into == before,
                    "a copy whose source is refused wrote its destination"
                );
                Ok(Access::Refused)
            }
            Verdict::DestinationFault(at) => {
                bail!("the device does not reach its own scratch page at {at:#x}")
            }
        }
    }

    fn write(&mut self, iova: u64, data: &[u8]) -> Result<Access> {
        self.scratch.page.write(0, data);
        let verdict = self
            .engine
            .copy(self.scratch.iova, iova, u64::try_from(data.len())?)?;
        match verdict {
            Verdict::Done => Ok(Access::Done),
            Verdict::DestinationFault(_) => Ok(Access::Refused),
            Verdict::SourceFault(at) => {
                bail!("the device does not reach its own scratch page at {at:#x}")
            }
        }
    }
}
