// SPDX-License-Identifier: GPL-2.0
//! Waiting for the signals that end a program.

use anyhow::Context as _;
use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::time::{Duration, Instant};

/// Catches SIGINT, SIGTERM and SIGHUP from now on.
pub fn catch() -> anyhow::Result<Signals> {
    Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot catch signals")
}

/// Waits, or until one of them comes; which.
pub fn within(signals: &mut Signals, pause: Duration) -> Option<Signal> {
    const STEP: Duration = Duration::from_millis(50);
    let end = Instant::now() + pause;
    loop {
        if let Some(number) = signals.pending().next() {
            return Signal::from_named_raw(number);
        }
        match end.checked_duration_since(Instant::now()) {
            None => return None,
            Some(left) => std::thread::sleep(left.min(STEP)),
        }
    }
}
