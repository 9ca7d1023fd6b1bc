// SPDX-License-Identifier: GPL-2.0

//! The box that `iova/` links its nodes with. It can do no more than the kernel's: be dereferenced
//! and moved. In tests it counts how often it is dereferenced, which tells how many nodes an
//! operation looked at.

use core::ops::{Deref, DerefMut};

/// A value on the heap.
pub(crate) struct Box<T>(alloc::boxed::Box<T>);

impl<T> Box<T> {
    /// Puts a value on the heap.
    pub(crate) fn new(value: T) -> Self {
        Self(alloc::boxed::Box::new(value))
    }
}

impl<T> Deref for Box<T> {
    type Target = T;

    fn deref(&self) -> &T {
        #[cfg(test)]
        count::add();
        &self.0
    }
}

impl<T> DerefMut for Box<T> {
    fn deref_mut(&mut self) -> &mut T {
        #[cfg(test)]
        count::add();
        &mut self.0
    }
}

/// How often boxes were dereferenced by this thread.
#[cfg(test)]
pub(crate) mod count {
    use core::cell::Cell;

    std::thread_local! {
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn add() {
        COUNT.set(COUNT.get().wrapping_add(1));
    }

    /// How often `work` dereferenced boxes, and its result.
    pub(crate) fn during<R>(work: impl FnOnce() -> R) -> (u64, R) {
        let before = COUNT.get();
        let result = work();
        (COUNT.get() - before, result)
    }
}
