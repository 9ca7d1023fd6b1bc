// SPDX-License-Identifier: GPL-2.0
//! Time: cycles of the time-stamp counter. With `--icount` one of them is one instruction of the
//! guest and one of its nanoseconds, whatever the machine beneath is doing.
//!
//! What is timed stands between two marks, instructions that do nothing: by them the profiler
//! (user/bench-plugin) knows what to count.

use core::arch::{asm, x86_64::_rdtsc};

/// What is being timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Map,
    Unmap,
    Other,
}

/// A NOP of eight bytes whose displacement is this number. The profiler looks for it.
macro_rules! mark {
    ($number:literal) => {
        // SAFETY: it does nothing.
        unsafe {
            asm!(
                ".byte 0x0f, 0x1f, 0x84, 0x00",
                concat!(".long ", $number),
                options(nomem, preserves_flags, nostack)
            )
        }
    };
}

#[inline(always)]
fn begin(mark: Mark) {
    match mark {
        Mark::Map => mark!("0x71a70001"),
        Mark::Unmap => mark!("0x71a70002"),
        Mark::Other => mark!("0x71a70003"),
    }
}

#[inline(always)]
fn end() {
    mark!("0x71a70000");
}

/// The time-stamp counter.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: every x86-64 processor has it.
    unsafe { _rdtsc() }
}

/// What `work` returned, and how long it took.
#[inline(always)]
pub fn timed<T>(mark: Mark, work: impl FnOnce() -> T) -> (T, u64) {
    let start = now();
    begin(mark);
    let result = work();
    end();
    (result, now() - start)
}

/// The middle one.
pub fn median(mut all: Vec<u64>) -> u64 {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one() {
        assert_eq!(median(vec![9, 1, 5]), 5);
        assert_eq!(median(vec![7]), 7);
        assert_eq!(median(vec![]), 0);
    }

    #[test]
    fn work_takes_time() {
        let (sum, cycles) = timed(Mark::Other, || (0..1000u64).sum::<u64>());
        assert_eq!(sum, 499_500);
        assert!(cycles > 0);
    }
}
