// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Calls that no signal ends: programs written for libusdm do not expect any to. Signals
//! come after the call, but for SIGKILL.
#![allow(unsafe_code)]

use libc::EINTR;
use qat_iommu_capi_core::Failure;
use std::{mem::MaybeUninit, ptr};

/// The result of a call, unless a signal ended it: then that of the second call, which is to
/// be made with signals [`held_back`].
#[inline]
pub(crate) fn uninterrupted<T>(
    result: Result<T, Failure>,
    again: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    match result {
        Err(failure) if failure.errno() == EINTR => again(),
        result => result,
    }
}

/// Makes a call with signals held back.
pub(crate) fn held_back<T>(call: impl FnOnce() -> T) -> T {
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

    fn is_held(signal: i32) -> bool {
        let mut now = MaybeUninit::zeroed();
        // SAFETY: the set is filled, and then asked.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), now.as_mut_ptr());
            libc::sigismember(now.as_ptr(), signal) == 1
        }
    }

    #[test]
    fn an_interrupted_call_is_made_again_without_signals() {
        let interrupted = Err(Failure::new(EINTR, "a signal"));
        let again = || held_back(|| Ok(is_held(libc::SIGALRM)));
        assert_eq!(uninterrupted(interrupted, again), Ok(true));
        assert!(!is_held(libc::SIGALRM));
    }

    #[test]
    fn other_results_are_final() {
        for result in [Ok(7), Err(Failure::new(libc::ENOMEM, "no"))] {
            let again = || panic!("no signal ended the call");
            assert_eq!(uninterrupted(result.clone(), again), result);
        }
    }
}
