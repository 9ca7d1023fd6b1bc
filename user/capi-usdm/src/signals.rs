// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Calls that no signal ends: programs written for libusdm do not expect any to. Signals
//! come after the call, but for SIGKILL.
#![allow(unsafe_code)]

use libc::EINTR;
use qat_iommu_capi_core::Failure;
use std::{mem::MaybeUninit, ptr};

/// Makes a call, and once more with signals held back if one ended it.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    match call() {
        Err(failure) if failure.errno() == EINTR => {}
        result => return result,
    }
    let _held = Held::new();
    call()
}

/// Signals of this thread are held back for as long as this lives.
struct Held {
    before: libc::sigset_t,
}

impl Held {
    fn new() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::zeroed();
        // SAFETY: the first call fills the one set, the second reads it and fills the
        // other, which is valid as it is, too.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self {
                before: before.assume_init(),
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the set is what `new` found.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_back(signal: i32) -> bool {
        let mut now = MaybeUninit::zeroed();
        // SAFETY: the set is filled, and then asked.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), now.as_mut_ptr());
            libc::sigismember(now.as_ptr(), signal) == 1
        }
    }

    #[test]
    fn an_interrupted_call_is_made_again_without_signals() {
        let mut seen = Vec::new();
        let result = uninterrupted(|| {
            seen.push(held_back(libc::SIGALRM));
            match seen.len() {
                1 => Err(Failure::new(EINTR, "a signal")),
                _ => Ok(7),
            }
        });
        assert_eq!((result, seen), (Ok(7), vec![false, true]));
        assert!(!held_back(libc::SIGALRM));
    }

    #[test]
    fn other_results_are_final() {
        let mut calls = 0;
        let result: Result<(), _> = uninterrupted(|| {
            calls += 1;
            Err(Failure::new(libc::ENOMEM, "no"))
        });
        assert_eq!((result.unwrap_err().errno(), calls), (libc::ENOMEM, 1));
    }
}
