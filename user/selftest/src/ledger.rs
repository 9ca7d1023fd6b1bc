// SPDX-License-Identifier: GPL-2.0
//! What a test must give back: locked memory charged to this process, and pages
//! pinned by anyone on the machine. [`open`] notes both before a test; what it returns tells
//! after the test whether both are what they were.

use anyhow::{ensure, Context as _, Result};
use std::fs;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::ktap::Closing;

/// How long the kernel may take to let go of what a process held that is gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a test has lost on purpose.
static LOST_PINS: AtomicI64 = AtomicI64::new(0);
static LOST_KIB: AtomicU64 = AtomicU64::new(0);

/// So many pins, and KiB charged to this process, will never be given back, and are not missed.
pub fn lose(pins: i64, kib: u64) {
    LOST_PINS.fetch_add(pins, Ordering::Relaxed);
    LOST_KIB.fetch_add(kib, Ordering::Relaxed);
}

/// Notes what is locked and pinned now.
pub fn open() -> Result<Closing> {
    let (locked, pins) = (locked()?, pins()?);
    Ok(Box::new(move || {
        let late = Instant::now() + PATIENCE;
        while self::pins()? != pins && Instant::now() < late {
            std::thread::sleep(Duration::from_millis(20));
        }
        let (locked_now, pins_now) = (self::locked()?, self::pins()?);
        ensure!(
            pins_now == pins,
            "{} pins were not given back",
            pins_now - pins
        );
        ensure!(
            locked_now == locked,
            "locked memory was {locked} KiB before the test and is {locked_now} KiB after it"
        );
        Ok(())
    }))
}

/// KiB that are charged to this process, as locked or as pinned, but for what is lost.
pub fn locked() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let kib = |name| value(&text, name).with_context(|| format!("/proc/self/status: no {name}"));
    let all = kib("VmLck:")? + kib("VmPin:")?;
    Ok(all.saturating_sub(LOST_KIB.load(Ordering::Relaxed)))
}

/// Pins on pages that are held, on the whole machine, but for those that are lost.
pub fn pins() -> Result<i64> {
    // The counters are kept for each processor and added up every now and then, or now.
    fs::write("/proc/sys/vm/stat_refresh", "1").context("cannot refresh the counters")?;
    let text = fs::read_to_string("/proc/vmstat")?;
    let count = |name| value(&text, name).with_context(|| format!("/proc/vmstat has no {name}"));
    let (taken, given) = (
        count("nr_foll_pin_acquired")?,
        count("nr_foll_pin_released")?,
    );
    let held = i64::try_from(taken)? - i64::try_from(given)?;
    Ok(held - LOST_PINS.load(Ordering::Relaxed))
}

/// The number after a name, in a list of one a line.
fn value(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find(|line| line.split_whitespace().next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_name() {
        let text = "nr_foll_pin_acquired_x 1\nnr_foll_pin_acquired 7\nVmLck:\t  12 kB\n";
        assert_eq!(value(text, "nr_foll_pin_acquired"), Some(7));
        assert_eq!(value(text, "VmLck:"), Some(12));
        assert_eq!(value(text, "nr_foll_pin"), None);
    }
}
