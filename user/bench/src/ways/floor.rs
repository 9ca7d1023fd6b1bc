// SPDX-License-Identifier: GPL-2.0
//! The floor: the kernel's own functions, timed within it (tests/floor).

use anyhow::{bail, Result};
use rustix::fd::{AsRawFd, OwnedFd};

use super::vfio::{ioctl, open};
use super::{Round, Way};
use crate::memory::Span;

const ROUND: libc::Ioctl = 0x6601;
const NOTHING: libc::Ioctl = 0x6602;

/// What one round is made of; `struct floor_round` of the module.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split {
    va: u64,
    length: u64,
    iova: u64,
    pub runs: u64,
    pub pin: u64,
    pub map: u64,
    pub unmap: u64,
    pub unpin: u64,
}

pub struct Floor {
    device: OwnedFd,
}

impl Floor {
    pub fn new() -> Result<Self> {
        Ok(Self {
            device: open("/dev/qat_floor")?,
        })
    }

    pub fn split(&self, buffer: Span, at: u64) -> Result<Split> {
        let mut split = Split {
            va: buffer.address as u64,
            length: buffer.length as u64,
            iova: at,
            ..Default::default()
        };
        // SAFETY: the structure is the command's, and its buffer is memory that nothing refers to.
        unsafe { ioctl(self.device.as_raw_fd(), "floor", ROUND, &raw mut split) }?;
        Ok(split)
    }

    /// A command that does nothing.
    pub fn nothing(&self) -> Result<()> {
        // SAFETY: it takes no argument.
        unsafe { ioctl(self.device.as_raw_fd(), "floor", NOTHING, 0) }?;
        Ok(())
    }
}

impl Way for Floor {
    fn map(&mut self, _: Span, _: u64) -> Result<u64> {
        bail!("the floor leaves nothing mapped")
    }

    fn unmap(&mut self, _: Span, _: u64) -> Result<()> {
        bail!("the floor leaves nothing mapped")
    }

    fn round(&mut self, buffer: Span, at: u64) -> Result<Round> {
        let split = self.split(buffer, at)?;
        Ok(Round {
            map: split.pin + split.map,
            unmap: split.unmap + split.unpin,
        })
    }

    fn round_of_many(&mut self, buffers: &[Span], at: u64) -> Result<Round> {
        let mut sum = Round::default();
        let mut at = at;
        for buffer in buffers {
            let round = self.round(*buffer, at)?;
            sum.map += round.map;
            sum.unmap += round.unmap;
            at += buffer.length as u64;
        }
        Ok(sum)
    }
}
