// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Memory that is zero at first, and zero again in every child of the process
//! (MADV_WIPEONFORK).
#![allow(unsafe_code)]

use rustix::{
    io::Errno,
    mm::{madvise, mmap_anonymous, munmap, Advice, MapFlags, ProtFlags},
};
use std::ptr::NonNull;

/// Memory that every child finds zeroed. It takes up pages as they are written.
#[derive(Debug)]
pub struct Wiped {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is no more than an address range; what is done with it is its user's.
unsafe impl Send for Wiped {}
// SAFETY: as above.
unsafe impl Sync for Wiped {}

impl Wiped {
    /// At least `length` zero bytes.
    ///
    /// # Errors
    ///
    /// Those of mmap and madvise.
    pub fn new(length: usize) -> Result<Self, Errno> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        // From here on it is unmapped when this fails.
        let memory = Self {
            start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?,
            length,
        };
        // SAFETY: the mapping is this value's own, and nothing is in it yet.
        unsafe { madvise(start, length, Advice::LinuxWipeOnFork)? };
        // A huge page would be zeroed for the sake of a few words. Kernels without huge
        // pages refuse the advice.
        // SAFETY: as above.
        let _ = unsafe { madvise(start, length, Advice::LinuxNoHugepage) };
        Ok(memory)
    }

    /// Its first byte, aligned to a page. It is mapped, readable and writable for as
    /// long as this value lives, in the process and in its children.
    #[inline]
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own. Unmapping what is mapped does not
        // fail.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}
