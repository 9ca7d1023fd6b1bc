// SPDX-License-Identifier: GPL-2.0

//! `Stamp`, when something happened by the clock that stamps the kernel log: cheap to take, and made a
//! time of when someone asks. That clock is read once per tick of the timer; how much later something
//! is tells the processor's counter of cycles. So it does not matter what becomes of that from one tick
//! to the next, as in a suspend. No lock: whoever is late has the clock of the tick before.

use super::ffi;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{
        Acquire,
        Relaxed,
        Release, //
    }, //
};

/// How many cycles a millisecond has here; what the kernel measures later on does not change it.
static CYCLES: AtomicU64 = AtomicU64::new(0);

/// The tick in which the clock was read last, and what it says when the counter is at 0.
static TICK: AtomicU64 = AtomicU64::new(u64::MAX);
static ORIGIN: AtomicU64 = AtomicU64::new(0);

/// When something happened.
#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    cycles: u64,
    origin: u64,
}

impl Stamp {
    /// The present.
    #[inline]
    pub(crate) fn now() -> Self {
        let tick = ffi::tick();
        if TICK.load(Acquire) != tick {
            read_clock(tick);
        }
        Self {
            cycles: ffi::cycles(),
            origin: ORIGIN.load(Relaxed),
        }
    }

    /// As words.
    #[inline]
    pub(crate) fn words(self) -> [u64; 2] {
        [self.cycles, self.origin]
    }

    /// The one with these words.
    pub(crate) fn of([cycles, origin]: [u64; 2]) -> Self {
        Self { cycles, origin }
    }

    /// As nanoseconds of the clock; to a tick where the counter cannot be relied on.
    pub(crate) fn nanoseconds(self) -> u64 {
        self.origin.wrapping_add(nanoseconds(self.cycles))
    }
}

/// Learns how fast the counter is. For the module's init, before anything else.
pub(crate) fn init() {
    CYCLES.store(ffi::cycles_per_millisecond(), Relaxed);
}

/// Reads the clock. Whoever is interrupted between it and the counter tries again, but not for ever.
#[cold]
#[inline(never)]
fn read_clock(tick: u64) {
    let mut origin = 0;
    for _ in 0..3 {
        let before = ffi::cycles();
        origin = ffi::clock().wrapping_sub(nanoseconds(before));
        if nanoseconds(ffi::cycles().wrapping_sub(before)) < 10_000 {
            break;
        }
    }
    ORIGIN.store(origin, Relaxed);
    TICK.store(tick, Release);
}

/// How long so many cycles take.
fn nanoseconds(cycles: u64) -> u64 {
    const MILLISECOND: u64 = 1_000_000;
    let of = CYCLES.load(Relaxed);
    let whole = cycles.checked_div(of).unwrap_or(0);
    let rest = cycles.checked_rem(of).unwrap_or(0);
    // What remains is less than a millisecond, and that has fewer than 2^32 cycles.
    let rest = rest.wrapping_mul(MILLISECOND).checked_div(of).unwrap_or(0);
    whole.wrapping_mul(MILLISECOND).wrapping_add(rest)
}
