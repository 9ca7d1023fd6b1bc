// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The border between C and Rust: results become return values and errno, and a
//! panic becomes a failure. errno is left alone by calls that succeed.

use crate::{errno::Errno, Failure};
use std::panic::{catch_unwind, AssertUnwindSafe};

/// CPA_STATUS_SUCCESS of Intel's `cpa.h`.
const SUCCESS: i32 = 0;
/// CPA_STATUS_FAIL.
const FAIL: i32 = -1;

/// Runs the body of the exported function `call`, which returns a CpaStatus.
#[inline]
pub fn status(call: &str, body: impl FnOnce() -> Result<(), Failure>) -> i32 {
    match cross(call, body) {
        Some(()) => SUCCESS,
        None => FAIL,
    }
}

/// [`status`] for a body that leaves errno alone by itself when it succeeds, as a system call of
/// this library does, and what [`keeping_errno`] runs.
#[inline]
pub fn plain_status(call: &str, body: impl FnOnce() -> Result<(), Failure>) -> i32 {
    match run(call, body) {
        Some(()) => SUCCESS,
        None => FAIL,
    }
}

/// Runs something that may change errno, and puts back what it was before.
pub fn keeping_errno<T>(body: impl FnOnce() -> T) -> T {
    let errno = Errno::of_this_thread();
    let before = errno.get();
    let result = body();
    errno.set(before);
    result
}

/// Runs the body of the exported function `call`, which returns a size, 0 for a
/// failure.
#[inline]
pub fn size(call: &str, body: impl FnOnce() -> Result<usize, Failure>) -> usize {
    cross(call, body).unwrap_or(0)
}

/// Runs the body of the exported function `call`, which returns `failed` for a failure.
#[inline]
pub fn value<T>(call: &str, failed: T, body: impl FnOnce() -> Result<T, Failure>) -> T {
    cross(call, body).unwrap_or(failed)
}

#[inline]
fn cross<T>(call: &str, body: impl FnOnce() -> Result<T, Failure>) -> Option<T> {
    let errno = Errno::of_this_thread();
    let before = errno.get();
    let value = run(call, body)?;
    errno.set(before);
    Some(value)
}

#[inline]
fn run<T>(call: &str, body: impl FnOnce() -> Result<T, Failure>) -> Option<T> {
    // Unwind safety: what the bodies share with later calls is one atomic pointer,
    // which is always whole.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(failure)) => failed(call, &failure),
        Err(_) => failed(call, &panicked()),
    }
    None
}

#[cold]
#[inline(never)]
fn failed(call: &str, failure: &Failure) {
    failure.report(call);
    Errno::of_this_thread().set(failure.errno());
}

#[cold]
fn panicked() -> Failure {
    Failure::new(
        libc::EIO,
        "an error in the library itself; please report it with the message before this one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_leaves_errno_alone() {
        let errno = Errno::of_this_thread();
        errno.set(libc::ESRCH);
        let result = status("test", || {
            errno.set(libc::ENOMEM);
            Ok(())
        });
        assert_eq!((result, errno.get()), (0, libc::ESRCH));
        assert_eq!(size("test", || Ok(4096)), 4096);
    }

    #[test]
    fn what_keeps_errno_keeps_it() {
        let errno = Errno::of_this_thread();
        errno.set(libc::ESRCH);
        let result = plain_status("test", || {
            keeping_errno(|| errno.set(libc::ENOMEM));
            Ok(())
        });
        assert_eq!((result, errno.get()), (0, libc::ESRCH));
        let failing = || Err(Failure::new(libc::EEXIST, "mapped"));
        assert_eq!(plain_status("test", || keeping_errno(failing)), -1);
        assert_eq!(errno.get(), libc::EEXIST);
    }

    #[test]
    fn failure_sets_errno() {
        let errno = Errno::of_this_thread();
        let result = status("test", || Err(Failure::new(libc::EEXIST, "mapped")));
        assert_eq!((result, errno.get()), (-1, libc::EEXIST));
        let result = value("test", 1, || Err(Failure::new(libc::ENOENT, "not mapped")));
        assert_eq!((result, errno.get()), (1, libc::ENOENT));
        let result = size("test", || Err(Failure::new(libc::EOVERFLOW, "too big")));
        assert_eq!((result, errno.get()), (0, libc::EOVERFLOW));
    }

    #[test]
    fn a_panic_is_a_failure() {
        let errno = Errno::of_this_thread();
        let result = status("test", || panic!("this panic is part of the test"));
        assert_eq!((result, errno.get()), (-1, libc::EIO));
    }
}
