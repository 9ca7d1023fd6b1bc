// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Where the process keeps its current context: an atomic pointer rather than a
//! lock, because a lock that another thread holds at the moment of a fork stays
//! locked in the child for ever.
#![allow(unsafe_code)]

use crate::fork_mark::ForkMark;
use qat_iommu::Context;
use std::{
    mem::ManuallyDrop,
    os::fd::{AsFd, AsRawFd},
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

/// A context and the process that opened it. Never freed, so that no thread can be
/// left with a stale reference: there is one per process, and one more each time
/// the program closes the descriptor behind the library's back.
#[derive(Debug)]
pub(crate) struct Opened {
    context: ManuallyDrop<Context>,
    mark: ForkMark,
}

/// What a slot holds.
pub(crate) enum Held {
    /// Nothing yet.
    Nothing,
    /// A context that can be used.
    Good(&'static Opened),
    /// The context of the process that this one was forked from.
    Inherited(&'static Opened),
    /// A context whose descriptor the program has closed.
    Closed(&'static Opened),
}

impl Opened {
    pub(crate) fn new(context: Context, mark: ForkMark) -> Self {
        Self {
            context: ManuallyDrop::new(context),
            mark,
        }
    }

    #[inline]
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Gives back what was never put into a slot.
    fn discard(mut self) {
        // SAFETY: `self` ends here, and with it the only way to the context.
        unsafe { ManuallyDrop::drop(&mut self.context) }
    }

    /// Closes this process's copy of its parent's descriptor, so that the parent's
    /// mappings do not outlive the parent because of it.
    fn close_inherited(&self) {
        if self.context.is_intact() {
            // SAFETY: the descriptor is the library's own copy, as was just looked
            // up. It is closed once, by the thread that took this context out of
            // the slot, and no thread uses a context with a parent's mark.
            unsafe { rustix::io::close(self.context.as_fd().as_raw_fd()) }
        }
    }
}

/// The place of the one current context.
#[derive(Debug)]
pub(crate) struct Slot {
    current: AtomicPtr<Opened>,
}

impl Slot {
    pub(crate) const fn new() -> Self {
        Self {
            current: AtomicPtr::new(ptr::null_mut()),
        }
    }

    pub(crate) fn held(&self) -> Held {
        // SAFETY: the pointer is null or from `replace`, which leaks the box.
        match unsafe { self.current.load(Ordering::Acquire).as_ref() } {
            None => Held::Nothing,
            Some(opened) if !opened.mark.made_here() => Held::Inherited(opened),
            Some(opened) if !opened.context.is_intact() => Held::Closed(opened),
            Some(opened) => Held::Good(opened),
        }
    }

    /// The context that this process opened, whose descriptor the program may have
    /// closed.
    #[inline]
    pub(crate) fn made_here(&self) -> Option<&'static Opened> {
        // SAFETY: as in `held`.
        let opened = unsafe { self.current.load(Ordering::Acquire).as_ref() }?;
        opened.mark.made_here().then_some(opened)
    }

    /// Puts `new` where `old` was. If another thread was faster, `new` is closed and
    /// its context stays.
    pub(crate) fn replace(&self, old: &Held, new: Opened) {
        let expected = match *old {
            Held::Nothing => ptr::null_mut(),
            Held::Good(opened) | Held::Inherited(opened) | Held::Closed(opened) => {
                ptr::from_ref(opened).cast_mut()
            }
        };
        let new = Box::into_raw(Box::new(new));
        let swapped =
            self.current
                .compare_exchange(expected, new, Ordering::AcqRel, Ordering::Acquire);
        match (swapped, old) {
            (Ok(_), Held::Inherited(opened)) => opened.close_inherited(),
            (Ok(_), _) => {}
            // SAFETY: the pointer is from the box above and was not given away.
            (Err(_), _) => unsafe { Box::from_raw(new) }.discard(),
        }
    }
}
