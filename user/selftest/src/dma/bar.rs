// SPDX-License-Identifier: GPL-2.0
//! The registers in BAR 0 of a PCI function, mapped through sysfs.

use anyhow::{Context as _, Result};
use rustix::fd::AsFd;
use rustix::mm::{MapFlags, ProtFlags};
use std::fs::File;
use std::ptr::NonNull;

use crate::host::Bdf;

/// The part of BAR 0 that holds the registers.
const LENGTH: usize = 4096;

/// Mapped registers.
pub struct Bar(NonNull<u8>);

// SAFETY: the mapping is the value's own, and registers do not care which thread accesses them.
unsafe impl Send for Bar {}

impl Bar {
    pub fn open(pf: &Bdf) -> Result<Self> {
        let path = pf.path().join("resource0");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        Self::map(&file, 0).with_context(|| format!("cannot map {}", path.display()))
    }

    /// Those that a file shows at an offset.
    pub fn map(file: impl AsFd, offset: u64) -> Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                LENGTH,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                offset,
            )
        }?;
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
        super::wait_for(|| Some(self.read64(offset)).filter(|value| wanted(*value)))
            .with_context(|| format!("register {offset:#x} is {:#x}", self.read64(offset)))
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}
