// SPDX-License-Identifier: GPL-2.0
//! Failures made to order, by a kernel with FAULT_INJECTION: the Nth of all the allocations
//! and user copies that this thread asks the kernel for fails, and none besides.

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::cell::Cell;
use std::fs;
use std::os::fd::OwnedFd;

use crate::ktap::skip;

const SETTINGS: &str = "/sys/kernel/debug";

/// What can fail, whoever asks and however urgently; and no word of it in the kernel log, which
/// would take longer than the failure.
const ATTRIBUTES: [(&str, &str); 7] = [
    ("failslab/ignore-gfp-wait", "N"),
    ("failslab/verbose", "0"),
    ("fail_page_alloc/ignore-gfp-wait", "N"),
    ("fail_page_alloc/ignore-gfp-highmem", "N"),
    ("fail_page_alloc/min-order", "0"),
    ("fail_page_alloc/verbose", "0"),
    ("fail_usercopy/verbose", "0"),
];

/// What is to fail in one run of an operation.
pub struct Faults {
    /// The calling thread's counter; nothing fails without.
    counter: Option<OwnedFd>,
    nth: u32,
    reached: Cell<bool>,
}

impl Faults {
    /// Nothing fails.
    pub fn none() -> Self {
        Self {
            counter: None,
            nth: 0,
            reached: Cell::new(false),
        }
    }

    /// The Nth thing that can fail does, counted from 1, in this thread.
    pub fn at(nth: u32) -> Result<Self> {
        let counter = rustix::fs::open(
            "/proc/thread-self/fail-nth",
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let counter = match counter {
            Err(Errno::NOENT) => return Err(skip("this kernel makes no failures to order")),
            counter => counter.context("cannot open the counter of failures")?,
        };
        for (name, value) in ATTRIBUTES {
            let path = format!("{SETTINGS}/{name}");
            fs::write(&path, value).with_context(|| path.clone())?;
        }
        Ok(Self {
            counter: Some(counter),
            nth,
            reached: Cell::new(false),
        })
    }

    /// Does this with the failure due. Once in the life of the value.
    pub fn during<T>(&self, act: impl FnOnce() -> T) -> Result<T> {
        let Some(counter) = &self.counter else {
            return Ok(act());
        };
        let nth = self.nth.to_string();
        rustix::io::pwrite(counter, nth.as_bytes(), 0).context("cannot order a failure")?;
        let value = act();
        // To ask and to call it off are user copies too: what fails now was not reached before.
        let mut left = [0; 16];
        let reached = match rustix::io::pread(counter, &mut left, 0) {
            Ok(length) => left[..length].starts_with(b"0"),
            Err(_) => false,
        };
        let called_off =
            rustix::io::pwrite(counter, b"0", 0).or_else(|_| rustix::io::pwrite(counter, b"0", 0));
        called_off.context("cannot call the failure off")?;
        self.reached.set(reached);
        Ok(value)
    }

    /// Whether what was done asked for enough to meet the failure.
    pub fn reached(&self) -> bool {
        self.reached.get()
    }
}
