// SPDX-License-Identifier: GPL-2.0
//! The signals the program takes: SIGTERM and SIGINT end it, SIGUSR1 and SIGUSR2 are the marks of whoever runs the
//! test and cannot have the guest write the mark register.

use crate::record::{MARK_BEGIN, MARK_END};
use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

pub struct Signals {
    end: UnixStream,
    /// Marks that came and were not taken. They need not wake anybody: what they part changes only by what the
    /// server does, and the server takes them before it does anything.
    mark_begin: Arc<AtomicBool>,
    mark_end: Arc<AtomicBool>,
}

impl Signals {
    pub fn new() -> Result<Self> {
        let (end, theirs) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT] {
            signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
        }
        let signals = Signals {
            end,
            mark_begin: Arc::default(),
            mark_end: Arc::default(),
        };
        signal_hook::flag::register(SIGUSR1, signals.mark_begin.clone())?;
        signal_hook::flag::register(SIGUSR2, signals.mark_end.clone())?;
        Ok(signals)
    }

    /// The marks that came since the last call, in the order to set them. Of two that waited together nobody knows
    /// which was first, the kernel included; a test begins before it ends.
    pub fn marks(&self) -> impl Iterator<Item = u64> {
        // The end is looked at first, so that a begin and an end that come right now are not taken the wrong way round.
        let end = self.mark_end.swap(false, Ordering::SeqCst);
        let begin = self.mark_begin.swap(false, Ordering::SeqCst);
        let marks = [begin.then_some(MARK_BEGIN), end.then_some(MARK_END)];
        marks.into_iter().flatten()
    }
}

/// Readable once the program is to end.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}
