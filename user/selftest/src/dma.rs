// SPDX-License-Identifier: GPL-2.0
//! A device that does DMA, seen from the program that drives it: read what the
//! device reads at an IOVA, have it write there. Tests decide by the data on both
//! sides, never by what a call returned.

pub mod bar;
pub mod edu;
pub mod pf;

use anyhow::{bail, ensure, Context as _, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::abi::{address, Context};
use crate::expect;
use crate::host::{Bdf, Device, Host, OWN_DRIVER};
use crate::hostdrv::Driver;
use crate::mem::{fresh_bytes, Buffer, Memory, PAGE};

/// No transfer of the tests takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a device has an answer.
fn wait_for<T>(answer: impl Fn() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = answer() {
            return Ok(value);
        }
        ensure!(start.elapsed() < PATIENCE, "the device does not finish");
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// What came of one access, as far as the device can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Done,
    Refused,
    /// The device does not say; only the memory does.
    Unknown,
}

/// A device under test.
pub trait Dma {
    /// The most bytes of one transfer.
    fn max_transfer(&self) -> usize;
    /// What the device sees at an IOVA.
    fn read(&mut self, iova: u64, into: &mut [u8]) -> Result<Access>;
    /// Has the device write at an IOVA.
    fn write(&mut self, iova: u64, data: &[u8]) -> Result<Access>;
}

/// A page that the device reaches by a mapping of its own, for data on its way.
pub struct Scratch {
    page: Buffer,
    iova: u64,
    // Last: the mapping goes with it.
    _context: Context,
}

impl Scratch {
    fn new(host: &Host, pf: &Bdf) -> Result<Self> {
        let page = Buffer::page()?;
        page.keep_from_children()?;
        let context = Context::open()?;
        let length = u64::try_from(PAGE)?;
        let mapped = if host.takes_fixed() {
            let iova = match host.translated() {
                true => fresh_iova(1),
                false => page.phys(),
            };
            context.map(page.phys(), iova, length).map(|_| iova)
        } else {
            pf.attach(&context)?;
            let va = address(page.start());
            match pf.driver().as_deref() {
                Some(OWN_DRIVER) => context.map_user_at(va, length, fresh_iova(1)),
                _ => context.map_user(va, length),
            }
        };
        let iova = expect::succeeds("mapping the device's scratch page", mapped)?;
        Ok(Self {
            page,
            iova,
            _context: context,
        })
    }
}

static NEXT_IOVA: AtomicU64 = AtomicU64::new(0x10_0000_0000);

/// An IOVA range that no other test uses, free of everything that is reserved, and 16 MiB
/// away from the next. Above 4 GiB, where every kind of space takes fixed ranges.
pub fn fresh_iova(pages: usize) -> u64 {
    let bytes = u64::try_from(pages * PAGE).expect("a size");
    let step = (bytes + (16 << 20)).next_multiple_of(2 << 20);
    NEXT_IOVA.fetch_add(step, Ordering::Relaxed)
}

/// The driver for one PF.
pub fn open(host: &Host, pf: &Bdf) -> Result<Box<dyn Dma>> {
    let scratch = Scratch::new(host, pf)?;
    Ok(match host.device {
        Device::Pf => Box::new(pf::EmulatedPf::new(pf::Engine::open(pf)?, scratch)),
        Device::Edu => Box::new(edu::Edu::open(pf, scratch)?),
    })
}

/// One shared PF, driven by its own driver: the way to use it while that is at work.
pub fn through_driver(host: &Host, pf: &Bdf) -> Result<Box<dyn Dma>> {
    let scratch = Scratch::new(host, pf)?;
    Ok(Box::new(pf::EmulatedPf::new(Driver::of(pf), scratch)))
}

/// The device reads what the processor wrote and the processor reads what the device wrote,
/// at this offset of the buffer.
pub fn reaches_at(
    dev: &mut dyn Dma,
    iova: u64,
    buffer: &dyn Memory,
    offset: usize,
    len: usize,
) -> Result<()> {
    let at = iova + u64::try_from(offset)?;
    let sent = fresh_bytes(len);
    buffer.write(offset, &sent);
    let mut seen = vec![0; len];
    let access = dev.read(at, &mut seen)?;
    ensure!(
        access != Access::Refused,
        "the device's read at {at:#x} was refused"
    );
    ensure!(
        seen == sent,
        "the device read at {at:#x} {} of {len} bytes other than what was written",
        differing(&seen, &sent)
    );

    let stored = fresh_bytes(len);
    let access = dev.write(at, &stored)?;
    ensure!(
        access != Access::Refused,
        "the device's write at {at:#x} was refused"
    );
    let found = buffer.read(offset, len);
    ensure!(
        found == stored,
        "after the device's write at {at:#x} {} of {len} bytes are not what it wrote",
        differing(&found, &stored)
    );
    Ok(())
}

/// The device reaches every page of the buffer, at its beginning and at its end.
pub fn reaches(dev: &mut dyn Dma, iova: u64, buffer: &dyn Memory) -> Result<()> {
    let piece = PAGE.min(dev.max_transfer()).min(buffer.len());
    reaches_at(dev, iova, buffer, 0, piece)?;
    if buffer.len() > piece {
        reaches_at(dev, iova, buffer, buffer.len() - piece, piece)?;
    }
    Ok(())
}

/// The device's read here is refused and shows nothing of the buffer.
pub fn cannot_read(dev: &mut dyn Dma, iova: u64, buffer: &dyn Memory, offset: usize) -> Result<()> {
    let at = iova.wrapping_add(u64::try_from(offset)?);
    let len = 64;
    let kept = fresh_bytes(len);
    buffer.write(offset, &kept);
    let mut seen = vec![0; len];
    match dev.read(at, &mut seen)? {
        Access::Refused => Ok(()),
        _ if seen == kept => bail!("the device still reads the memory at {at:#x}"),
        access => bail!(
            "the device's read at {at:#x} should be refused, was {access:?} and saw something"
        ),
    }
}

/// The device's write here is refused and changes nothing.
pub fn cannot_write(
    dev: &mut dyn Dma,
    iova: u64,
    buffer: &dyn Memory,
    offset: usize,
) -> Result<()> {
    let at = iova.wrapping_add(u64::try_from(offset)?);
    let len = 64;
    let kept = fresh_bytes(len);
    buffer.write(offset, &kept);
    let access = dev.write(at, &fresh_bytes(len))?;
    let found = buffer.read(offset, len);
    ensure!(
        found == kept,
        "the device still wrote the memory at {at:#x}"
    );
    ensure!(
        access != Access::Done,
        "the device's write at {at:#x} should be refused, and was done somewhere"
    );
    Ok(())
}

/// The device reaches nothing at this offset of the buffer's IOVA.
pub fn refused_at(dev: &mut dyn Dma, iova: u64, buffer: &dyn Memory, offset: usize) -> Result<()> {
    cannot_read(dev, iova, buffer, offset)?;
    cannot_write(dev, iova, buffer, offset)
}

/// The device reaches nothing at the buffer's IOVA.
pub fn refused(dev: &mut dyn Dma, iova: u64, buffer: &dyn Memory) -> Result<()> {
    refused_at(dev, iova, buffer, 0)?;
    if buffer.len() > PAGE {
        refused_at(dev, iova, buffer, buffer.len() - PAGE)?;
    }
    Ok(())
}

fn differing(left: &[u8], right: &[u8]) -> usize {
    left.iter()
        .zip(right)
        .filter(|(left, right)| left != right)
        .count()
}

/// What most tests start from: a context of their own and the driver of the first PF.
pub struct Bench {
    pub context: Context,
    pub dev: Box<dyn Dma>,
}

impl Bench {
    pub fn new(host: &Host) -> Result<Self> {
        let pf = host.pf()?;
        Ok(Self {
            context: Context::open()?,
            dev: open(host, &pf).with_context(|| format!("cannot drive {}", pf.0))?,
        })
    }

    /// Maps a whole buffer.
    pub fn map(&self, buffer: &Buffer, iova: u64) -> Result<()> {
        let length = u64::try_from(buffer.len())?;
        let mapped = expect::succeeds("map", self.context.map(buffer.phys(), iova, length))?;
        expect::equal("bytes mapped", mapped, length)
    }

    /// Unmaps a whole buffer.
    pub fn unmap(&self, buffer: &Buffer, iova: u64) -> Result<()> {
        let length = u64::try_from(buffer.len())?;
        expect::succeeds("unmap", self.context.unmap(iova, length))
    }

    pub fn reaches(&mut self, iova: u64, buffer: &dyn Memory) -> Result<()> {
        reaches(self.dev.as_mut(), iova, buffer)
    }

    pub fn refused(&mut self, iova: u64, buffer: &dyn Memory) -> Result<()> {
        refused(self.dev.as_mut(), iova, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that sees a buffer at one IOVA, or says it does.
    struct Model<'a> {
        buffer: &'a Buffer,
        iova: u64,
        readable: bool,
        writable: bool,
        honest: bool,
    }

    impl Dma for Model<'_> {
        fn max_transfer(&self) -> usize {
            PAGE
        }

        fn read(&mut self, iova: u64, into: &mut [u8]) -> Result<Access> {
            if !self.readable {
                return Ok(if self.honest {
                    Access::Refused
                } else {
                    Access::Done
                });
            }
            let offset = usize::try_from(iova - self.iova)?;
            into.copy_from_slice(&self.buffer.read(offset, into.len()));
            Ok(Access::Done)
        }

        fn write(&mut self, iova: u64, data: &[u8]) -> Result<Access> {
            if !self.writable {
                return Ok(if self.honest {
                    Access::Refused
                } else {
                    Access::Done
                });
            }
            let offset = usize::try_from(iova - self.iova)?;
            self.buffer.write(offset, data);
            Ok(if self.honest {
                Access::Done
            } else {
                Access::Unknown
            })
        }
    }

    fn model(buffer: &Buffer, readable: bool, writable: bool, honest: bool) -> Model<'_> {
        Model {
            buffer,
            iova: 0x1000,
            readable,
            writable,
            honest,
        }
    }

    #[test]
    fn a_device_that_reaches_the_buffer_passes_and_is_not_refused() {
        let buffer = Buffer::for_unit_tests();
        let mut dev = model(&buffer, true, true, true);
        assert!(reaches(&mut dev, 0x1000, &buffer).is_ok());
        assert!(cannot_read(&mut dev, 0x1000, &buffer, 0).is_err());
        assert!(cannot_write(&mut dev, 0x1000, &buffer, 0).is_err());
    }

    #[test]
    fn a_refused_device_is_refused_and_does_not_reach() {
        let buffer = Buffer::for_unit_tests();
        let mut dev = model(&buffer, false, false, true);
        assert!(refused(&mut dev, 0x1000, &buffer).is_ok());
        assert!(reaches(&mut dev, 0x1000, &buffer).is_err());
    }

    #[test]
    fn data_decides_where_the_device_lies() {
        let buffer = Buffer::for_unit_tests();
        let mut says_done = model(&buffer, false, false, false);
        assert!(reaches(&mut says_done, 0x1000, &buffer).is_err());
        assert!(cannot_read(&mut says_done, 0x1000, &buffer, 0).is_err());
        let mut writes_silently = model(&buffer, false, true, false);
        assert!(cannot_write(&mut writes_silently, 0x1000, &buffer, 0).is_err());
    }
}
