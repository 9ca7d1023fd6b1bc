// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Tells the process that made a thing from its children: a page that the kernel
//! zeroes in every child (MADV_WIPEONFORK). Unlike the process id it costs no
//! system call, cannot come round again, and works for every kind of fork, a
//! handler for which need not run.
#![allow(unsafe_code)]

use crate::Wiped;
use rustix::io::Errno;
use std::sync::atomic::{AtomicU32, Ordering};

const MADE_HERE: u32 = 1;

/// A mark that is seen in the process that made it, and in none of its children.
#[derive(Debug)]
pub(crate) struct ForkMark {
    page: Wiped,
}

impl ForkMark {
    pub(crate) fn new() -> Result<Self, Errno> {
        let mark = Self {
            page: Wiped::new(size_of::<AtomicU32>())?,
        };
        mark.atomic().store(MADE_HERE, Ordering::Relaxed);
        Ok(mark)
    }

    #[inline]
    pub(crate) fn made_here(&self) -> bool {
        self.atomic().load(Ordering::Relaxed) == MADE_HERE
    }

    #[inline]
    fn atomic(&self) -> &AtomicU32 {
        // SAFETY: the memory is large enough for the atomic, aligned to a page, zero at
        // first (and in a child), only ever used as this atomic, and there for as long
        // as the mark lives.
        unsafe { self.page.start().cast().as_ref() }
    }
}
