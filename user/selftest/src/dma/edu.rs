// SPDX-License-Identifier: GPL-2.0
//! QEMU's `edu` device: the second opinion, as nothing of this project decides
//! what it may reach. It has a buffer of its own and no error status: a refused
//! read leaves zeros in the buffer, a refused write leaves memory alone.

use anyhow::{ensure, Result};

use super::bar::Bar;
use super::{Access, Dma, Scratch};
use crate::host::Bdf;

const ID: usize = 0x00;
const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;

const RUN: u64 = 1;
const TO_MEMORY: u64 = 2;

/// Where its own buffer stands in its own address space.
const BUFFER: u64 = 0x40000;
/// How long that is. QEMU ends the machine when a transfer exceeds it.
const BUFFER_LENGTH: usize = 4096;

/// The device and a page for its data on the way back.
pub struct Edu {
    bar: Bar,
    scratch: Scratch,
}

impl Edu {
    pub fn open(pf: &Bdf, scratch: Scratch) -> Result<Self> {
        let bar = Bar::open(pf)?;
        let id = bar.read32(ID);
        ensure!(
            id & 0xff == 0xed,
            "{} is no edu device (identification {id:#x})",
            pf.0
        );
        Ok(Self { bar, scratch })
    }

    fn transfer(&self, source: u64, destination: u64, len: usize, command: u64) -> Result<()> {
        ensure!(
            len <= BUFFER_LENGTH,
            "edu moves at most {BUFFER_LENGTH} bytes"
        );
        self.bar.write64(SOURCE, source);
        self.bar.write64(DESTINATION, destination);
        self.bar.write64(COUNT, u64::try_from(len)?);
        self.bar.write64(COMMAND, command | RUN);
        self.bar.wait64(COMMAND, |command| command & RUN == 0)?;
        Ok(())
    }
}

impl Dma for Edu {
    fn max_transfer(&self) -> usize {
        BUFFER_LENGTH
    }

    fn read(&mut self, iova: u64, into: &mut [u8]) -> Result<Access> {
        self.transfer(iova, BUFFER, into.len(), 0)?;
        self.scratch.page.write(0, &vec![0xff; into.len()]);
        self.transfer(BUFFER, self.scratch.iova, into.len(), TO_MEMORY)?;
        into.copy_from_slice(&self.scratch.page.read(0, into.len()));
        Ok(if into.iter().all(|byte| *byte == 0) {
            Access::Refused
        } else {
            Access::Unknown
        })
    }

    fn write(&mut self, iova: u64, data: &[u8]) -> Result<Access> {
        self.scratch.page.write(0, data);
        self.transfer(self.scratch.iova, BUFFER, data.len(), 0)?;
        self.transfer(BUFFER, iova, data.len(), TO_MEMORY)?;
        Ok(Access::Unknown)
    }
}
