// SPDX-License-Identifier: GPL-2.0

//! `Spare`, one box that is out of use and kept for the next who needs one: whoever maps and unmaps in
//! turn allocates nothing. No lock: it is taken and put back in one step each.

use super::space::Slot;
use core::{
    ptr,
    sync::atomic::{
        AtomicPtr,
        Ordering, //
    }, //
};
use kernel::prelude::*;

/// A place for one box.
///
/// # Invariants
///
/// The pointer is null, or that of a box, which it owns.
pub(crate) struct Spare(AtomicPtr<c_void>);

impl Spare {
    /// An empty place.
    pub(super) const fn empty() -> Self {
        // INVARIANT: Null.
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Whether there is none, unless it is being taken or put back.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// Takes the box out.
    #[inline]
    pub(super) fn take(&self) -> Option<Slot> {
        let raw = self.0.swap(ptr::null_mut(), Ordering::Acquire);
        if raw.is_null() {
            return None;
        }
        // SAFETY: By the type invariant it came from `KBox::into_raw`, and is nobody else's now.
        Some(unsafe { Slot::from_raw(raw.cast()) })
    }

    /// Puts a box there; what was there is dropped.
    #[inline]
    pub(super) fn put(&self, slot: Slot) {
        // INVARIANT: It is the place's now.
        let old = self.0.swap(KBox::into_raw(slot).cast(), Ordering::AcqRel);
        if !old.is_null() {
            // SAFETY: As in `take`.
            drop(unsafe { Slot::from_raw(old.cast()) });
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        drop(self.take());
    }
}
