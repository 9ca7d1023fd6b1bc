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
            SOURCE_FAULT => Ok(Verdict::SourceFault(self.0.read64(FAULT))),
            DESTINATION_FAULT => Ok(Verdict::DestinationFault(self.0.read64(FAULT))),
            status => bail!("the device reports the unknown status {status:#x}"),
        }
    }

    /// How many entries of the IOMMU's tables the PF was told of.
    pub fn entries(&self) -> u64 {
        self.0.read64(ENTRIES)
    }

    /// Copies from one IOVA to another.
    pub fn copy(&self, source: u64, destination: u64, len: u64) -> Result<Verdict> {
        self.0.write64(SOURCE, source);
        self.0.write64(DESTINATION, destination);
        self.0.write64(LENGTH, len);
        self.run(COPY)
    }
}

/// The engine as a device under test.
pub struct EmulatedPf {
    engine: Engine,
    scratch: Scratch,
}

impl EmulatedPf {
    pub fn open(pf: &Bdf, scratch: Scratch) -> Result<Self> {
        let engine = Engine::open(pf)?;
        Ok(Self { engine, scratch })
    }
}

impl Dma for EmulatedPf {
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
