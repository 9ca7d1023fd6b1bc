// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! A value that each process makes for itself at first use: a child never sees what
//! is in its parent's, nor waits for a lock in it that another thread held at the
//! moment of the fork.
#![allow(unsafe_code)]

use crate::{fork_mark::ForkMark, Failure};
use std::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

/// One value per process.
#[derive(Debug)]
pub struct PerProcess<T: 'static> {
    current: AtomicPtr<Marked<T>>,
}

/// Never freed, so that no thread can be left with a stale reference: there is one per
/// process, and those of its ancestors.
#[derive(Debug)]
struct Marked<T> {
    value: T,
    mark: ForkMark,
}

impl<T: Send + Sync> PerProcess<T> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            current: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// The value of this process, if it has one.
    #[inline]
    pub fn get(&self) -> Option<&'static T> {
        let marked = self.marked()?;
        marked.mark.made_here().then_some(&marked.value)
    }

    /// The value of this process, or, in a child that has none yet, that of the process
    /// it was forked from: for values that themselves are different in a child, where
    /// the look-up must cost next to nothing.
    #[inline]
    pub fn get_even_inherited(&self) -> Option<&'static T> {
        Some(&self.marked()?.value)
    }

    /// The value of this process, made by `make` if there is none.
    ///
    /// # Errors
    ///
    /// Those of `make`; ENOMEM.
    #[inline]
    pub fn get_or_make(
        &self,
        make: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<&'static T, Failure> {
        match self.get() {
            Some(value) => Ok(value),
            None => self.make(make),
        }
    }

    #[cold]
    #[inline(never)]
    fn make(&self, make: impl FnOnce() -> Result<T, Failure>) -> Result<&'static T, Failure> {
        let old = self.current.load(Ordering::Acquire);
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let mark = ForkMark::new().map_err(Failure::no_memory)?;
        let new = Box::into_raw(Box::new(Marked {
            value: make()?,
            mark,
        }));
        match self
            .current
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
        {
            // SAFETY: the pointer is from the box above, which is leaked.
            Ok(_) => Ok(unsafe { &(*new).value }),
            Err(faster) => {
                // SAFETY: the pointer is from the box above and was not given away.
                drop(unsafe { Box::from_raw(new) });
                // SAFETY: what another thread of this process put there is a leaked box.
                Ok(unsafe { &(*faster).value })
            }
        }
    }

    #[inline]
    fn marked(&self) -> Option<&'static Marked<T>> {
        // SAFETY: the pointer is null or from `get_or_make`, which leaks the box.
        unsafe { self.current.load(Ordering::Acquire).as_ref() }
    }
}

impl<T: Send + Sync> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Barrier, Mutex};

    #[test]
    fn threads_share_one_value() {
        static MADE: Barrier = Barrier::new(4);
        static VALUE: PerProcess<Mutex<u32>> = PerProcess::new();
        assert!(VALUE.get().is_none());
        let make = || {
            MADE.wait();
            Ok(Mutex::new(0))
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| *VALUE.get_or_make(make).unwrap().lock().unwrap() += 1);
            }
        });
        assert_eq!(*VALUE.get().unwrap().lock().unwrap(), 4);
    }

    #[test]
    fn a_child_starts_afresh() {
        static VALUE: PerProcess<Mutex<u32>> = PerProcess::new();
        let locked = VALUE.get_or_make(|| Ok(Mutex::new(1))).unwrap().lock();
        // SAFETY: the child calls nothing but malloc and ends without unwinding.
        let status = unsafe {
            match libc::fork() {
                0 => {
                    libc::alarm(20);
                    let none = VALUE.get().is_none();
                    let inherited = VALUE.get_even_inherited().is_some();
                    let own = VALUE.get_or_make(|| Ok(Mutex::new(2)));
                    let own = own.is_ok_and(|own| *own.lock().unwrap() == 2);
                    libc::_exit(i32::from(none && inherited && own))
                }
                child => {
                    let mut status = 0;
                    assert_eq!(libc::waitpid(child, &mut status, 0), child);
                    status
                }
            }
        };
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 1);
        assert_eq!(*locked.unwrap(), 1);
    }

    #[test]
    fn what_cannot_be_made_is_not_there() {
        static VALUE: PerProcess<u32> = PerProcess::new();
        let failure = VALUE.get_or_make(|| Err(Failure::new(libc::EPERM, "no")));
        assert_eq!(failure.unwrap_err().errno(), libc::EPERM);
        assert!(VALUE.get().is_none());
    }
}
