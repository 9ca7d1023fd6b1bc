// SPDX-License-Identifier: GPL-2.0
//! The project's emulated PF: a DMA engine that copies, fills and sums, and says
//! when an address is refused to it.

use anyhow::{bail, ensure, Context as _, Result};

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
const PATTERN: usize = 0x38;
const CHECKSUM: usize = 0x40;
const PROBE: usize = 0x58;
const PROBE_FLAGS: usize = 0x60;
const ENTRIES: usize = 0xa0;
const LIST: usize = 0xa8;
const INDEX: usize = 0xb8;
const RANGE_IOVA: usize = 0xc0;
const RANGE_SIZE: usize = 0xc8;
const RANGE_ACCESS: usize = 0xd0;

const COPY: u64 = 1;
const FILL: u64 = 2;
const SUM: u64 = 3;

const SIGN: u64 = u64::from_le_bytes(*b"QATPFDMA");

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

/// What came of one command to a PF that may be gone, or be reset meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    Ended(Verdict),
    /// It does not answer, or not as it would if nothing had happened to it.
    Lost,
}

/// Where the engine's registers are.
pub trait Registers: Send {
    fn read64(&self, register: usize) -> u64;
    fn write64(&self, register: usize, value: u64);
}

impl Registers for Bar {
    fn read64(&self, register: usize) -> u64 {
        Bar::read64(self, register)
    }

    fn write64(&self, register: usize, value: u64) {
        Bar::write64(self, register, value);
    }
}

/// The engine alone.
pub struct Engine(Box<dyn Registers>);

/// A range of IOVAs, and whether it can be read and written.
pub type Recorded = (std::ops::Range<u64>, bool, bool);

impl Engine {
    pub fn open(pf: &Bdf) -> Result<Self> {
        Self::over(Bar::open(pf)?).with_context(|| pf.0.clone())
    }

    /// That behind registers that are at hand already.
    pub fn over(registers: impl Registers + 'static) -> Result<Self> {
        let engine = Self(Box::new(registers));
        ensure!(
            engine.answers(),
            "the function does not answer: its memory decoding is off"
        );
        Ok(engine)
    }

    /// Waits until a register has what is wanted.
    fn wait64(&self, register: usize, wanted: impl Fn(u64) -> bool) -> Result<u64> {
        super::wait_for(|| Some(self.0.read64(register)).filter(|value| wanted(*value)))
            .with_context(|| format!("register {register:#x} is {:#x}", self.0.read64(register)))
    }

    fn run(&self, command: u64) -> Result<Verdict> {
        self.0.write64(COMMAND, command);
        match self.wait64(STATUS, |status| status != BUSY)? {
            DONE => Ok(Verdict::Done),
            status => Verdict::fault(status, self.0.read64(FAULT)),
        }
    }

    /// Whether the function is there and decodes its memory.
    pub fn answers(&self) -> bool {
        self.0.read64(MAGIC) == SIGN
    }

    fn attempt(&self, command: u64) -> Attempt {
        let read = |status| match status {
            DONE => Some(Verdict::Done),
            SOURCE_FAULT => Some(Verdict::SourceFault(self.0.read64(FAULT))),
            DESTINATION_FAULT => Some(Verdict::DestinationFault(self.0.read64(FAULT))),
            _ => None,
        };
        self.0.write64(COMMAND, command);
        loop {
            match self.0.read64(STATUS) {
                BUSY if self.answers() => std::thread::yield_now(),
                status => return read(status).map_or(Attempt::Lost, Attempt::Ended),
            }
        }
    }

    /// Copies, or finds that the PF is gone.
    pub fn try_copy(&self, source: u64, destination: u64, len: u64) -> Attempt {
        self.0.write64(SOURCE, source);
        self.0.write64(DESTINATION, destination);
        self.0.write64(LENGTH, len);
        self.attempt(COPY)
    }

    /// The sum of what the device reads there, if it may.
    pub fn sum(&self, source: u64, len: u64) -> Result<Option<u64>> {
        self.0.write64(SOURCE, source);
        self.0.write64(LENGTH, len);
        match self.run(SUM)? {
            Verdict::Done => Ok(Some(self.0.read64(CHECKSUM))),
            _ => Ok(None),
        }
    }

    /// Has the device write a pattern there; whether it may.
    pub fn fill(&self, destination: u64, len: u64, pattern: u64) -> Result<bool> {
        self.0.write64(DESTINATION, destination);
        self.0.write64(LENGTH, len);
        self.0.write64(PATTERN, pattern);
        Ok(self.run(FILL)? == Verdict::Done)
    }

    /// Everything that it can reach, by its own record: in order, and neighbours merged.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.0.write64(LIST, 1);
        let range = |index| {
            self.0.write64(INDEX, index);
            let (iova, size) = (self.0.read64(RANGE_IOVA), self.0.read64(RANGE_SIZE));
            let access = self.0.read64(RANGE_ACCESS);
            // 2^64 is said as 0, and nothing of the kind is expected.
            (
                iova..iova.saturating_add(size),
                access & 1 != 0,
                access & 2 != 0,
            )
        };
        (0..self.0.read64(LIST)).map(range).collect()
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

/// What [`Engine::sum`] says of these bytes: FNV-1a.
pub fn sum_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
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
