// SPDX-License-Identifier: GPL-2.0
//! The registers in BAR 0 of a PCI function, mapped through sysfs.

use anyhow::{ensure, Context as _, Result};
use rustix::mm::{MapFlags, ProtFlags};
use std::fs::File;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use crate::host::Bdf;

/// The part of BAR 0 that holds the registers.
const LENGTH: usize = 4096;
/// No transfer of the tests takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Mapped registers.
pub struct Bar(NonNull<u8>);

impl Bar {
    pub fn open(pf: &Bdf) -> Result<Self> {
        let path = pf.path().join("resource0");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                LENGTH,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }
        .with_context(|| format!("cannot map {}", path.display()))?;
        Ok(Self(NonNull::new(start.cast()).context("mapped at 0")?))
    }

    fn register<T>(&self, offset: usize) -> *mut T {
        assert!(offset % size_of::<T>() == 0 && offset + size_of::<T>() <= LENGTH);
        // SAFETY: the offset is inside the mapping.
        unsafe { self.0.as_ptr().add(offset).cast() }
    }

    pub fn read32(&self, offset: usize) -> u32 {
        // SAFETY: `register` checks alignment and bounds.
        unsafe { self.register::<u32>(offset).read_volatile() }
    }

    pub fn read64(&self, offset: usize) -> u64 {
        // SAFETY: `register` checks alignment and bounds.
        unsafe { self.register::<u64>(offset).read_volatile() }
    }

    pub fn write64(&self, offset: usize, value: u64) {
        // SAFETY: `register` checks alignment and bounds; what the device does with the value
        // is confined by the IOMMU to the memory that tests mapped.
        unsafe { self.register::<u64>(offset).write_volatile(value) }
    }

    /// Waits until a register has what is wanted.
    pub fn wait64(&self, offset: usize, wanted: impl Fn(u64) -> bool) -> Result<u64> {
        let start = Instant::now();
        loop {
            let value = self.read64(offset);
            if wanted(value) {
                return Ok(value);
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "the device does not finish: register {offset:#x} is {value:#x}"
            );
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}
