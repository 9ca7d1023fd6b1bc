// SPDX-License-Identifier: GPL-2.0
//! ioctl as a 32-bit program makes it: through `int 0x80`, which takes a 64-bit
//! process down the kernel's path for 32-bit callers as well. Pointers must be
//! below 4 GiB, so requests stand in memory from there.

use anyhow::{Context as _, Result};
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::arch::asm;
use std::ptr::NonNull;

use crate::mem::PAGE;

/// `ioctl` among the 32-bit system calls.
const IOCTL: u32 = 54;

/// Room for requests below 4 GiB.
pub struct LowPage(NonNull<u8>);

impl LowPage {
    pub fn new() -> Result<Self> {
        // Not named by rustix: MAP_32BIT, the first 2 GiB.
        let low = MapFlags::from_bits_retain(0x40);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                PAGE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | low,
            )
        }
        .context("cannot allocate memory below 4 GiB")?;
        Ok(Self(NonNull::new(start.cast()).context("mapped at 0")?))
    }

    /// Places a value at an offset; its address as 32-bit programs have it.
    pub fn put<T: Copy>(&self, offset: usize, value: T) -> Result<u32> {
        assert!(offset % align_of::<T>() == 0 && offset + size_of::<T>() <= PAGE);
        // SAFETY: aligned and inside the page, which is this value's own.
        unsafe {
            self.0
                .as_ptr()
                .add(offset)
                .cast::<T>()
                .write_volatile(value)
        };
        Ok(u32::try_from(self.0.as_ptr() as usize + offset)?)
    }

    /// What stands at an offset now. Only for types of which every bit pattern is a value.
    pub fn get<T: Copy>(&self, offset: usize) -> T {
        assert!(offset % align_of::<T>() == 0 && offset + size_of::<T>() <= PAGE);
        // SAFETY: aligned and inside the page; written by `put` or zero.
        unsafe { self.0.as_ptr().add(offset).cast::<T>().read_volatile() }
    }
}

impl Drop for LowPage {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), PAGE) };
    }
}

/// One ioctl through the 32-bit entry.
pub fn ioctl(fd: impl AsFd, command: u32, pointer: u32) -> Result<(), Errno> {
    let number = fd.as_fd().as_raw_fd();
    let result: i32;
    // SAFETY: the kernel preserves what is not named here; rbx is saved by hand because the
    // compiler keeps it for itself. What is written goes where `pointer` leads: a `LowPage`, or
    // an address that must be refused.
    unsafe {
        asm!(
            "mov {saved}, rbx",
            "mov ebx, {number:e}",
            "int 0x80",
            "mov rbx, {saved}",
            saved = out(reg) _,
            number = in(reg) number,
            inlateout("eax") IOCTL => result,
            in("ecx") command,
            in("edx") pointer,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if result < 0 {
        Err(Errno::from_raw_os_error(-result))
    } else {
        Ok(())
    }
}
