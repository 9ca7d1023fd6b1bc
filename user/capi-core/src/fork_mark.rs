// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Tells the process that made a thing from its children: a page that the kernel
//! zeroes in every child (MADV_WIPEONFORK). Unlike the process id it costs no
//! system call, cannot come round again, and works for every kind of fork, a
//! handler for which need not run.
#![allow(unsafe_code)]

use rustix::{
    io::Errno,
    mm::{madvise, mmap_anonymous, munmap, Advice, MapFlags, ProtFlags},
    param::page_size,
};
use std::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

const MADE_HERE: u32 = 1;

/// A mark that is seen in the process that made it, and in none of its children.
#[derive(Debug)]
pub(crate) struct ForkMark {
    page: NonNull<AtomicU32>,
}

// SAFETY: the page is only reached through the atomic at its start.
unsafe impl Send for ForkMark {}
// SAFETY: as above.
unsafe impl Sync for ForkMark {}

impl ForkMark {
    pub(crate) fn new() -> Result<Self, Errno> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing.
        let page = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                page_size(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let page = NonNull::new(page.cast()).ok_or(Errno::NOMEM)?;
        // From here on the page is unmapped when this fails.
        let mark = Self { page };
        // SAFETY: the page is this mark's own, and zero is a value of its atomic.
        unsafe { madvise(page.as_ptr().cast(), page_size(), Advice::LinuxWipeOnFork)? };
        mark.atomic().store(MADE_HERE, Ordering::Relaxed);
        Ok(mark)
    }

    pub(crate) fn made_here(&self) -> bool {
        self.atomic().load(Ordering::Relaxed) == MADE_HERE
    }

    fn atomic(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped, readable and writable for as long as the mark
        // lives, in this process and in its children.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for ForkMark {
    fn drop(&mut self) {
        // SAFETY: the page is this mark's own, and no reference outlives the mark.
        // Unmapping a page that is mapped does not fail.
        let _ = unsafe { munmap(self.page.as_ptr().cast(), page_size()) };
    }
}
