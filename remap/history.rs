// SPDX-License-Identifier: GPL-2.0

//! The last unmaps of this host, so that a DMA fault can be explained by a mapping that is gone.
//!
//! Locks: one spin lock, the innermost of all. Entries hold no reference to anything.

use super::{
    ffi,
    space::{
        Entry,
        Portrait, //
    },
    trace, //
};
use crate::iova::{
    addr::Iova,
    span::Span, //
};
use kernel::{
    prelude::*,
    sync::global_lock, //
};

/// How many unmaps are remembered.
const KEPT: u64 = 4096;

global_lock! {
    // SAFETY: `init` initialises it in the module's init, before anything can call in.
    unsafe(uninit) static HISTORY: SpinLock<History> = History {
        ring: KVVec::new(),
        next: 0,
    };
}

/// A ring of unmaps.
///
/// # Invariants
///
/// The ring has [`KEPT`] entries, or none. Number n is at n modulo that, if it is among the last [`KEPT`]
/// before `next`.
struct History {
    ring: KVVec<Past>,
    next: u64,
}

/// Why a mapping went.
#[derive(Clone, Copy)]
pub(crate) enum Why {
    /// Its owner asked for it.
    Unmap,
    /// A kernel client had left it, and someone else asked for it.
    Force,
    /// The last reference to its context went.
    Close,
    /// The driver of its shared PF was unbound.
    Unbind,
    /// What was to be mapped together with it could not be.
    Failed,
}

impl Why {
    /// As listings and tracepoints have it.
    pub(crate) fn name(self) -> &'static CStr {
        match self {
            Why::Unmap => c"unmap",
            Why::Force => c"force",
            Why::Close => c"close",
            Why::Unbind => c"unbind",
            Why::Failed => c"failed",
        }
    }
}

/// A mapping that is gone.
#[derive(Clone, Copy)]
pub(crate) struct Past {
    /// When, in nanoseconds of the clock that stamps the kernel log.
    pub(crate) when: u64,
    pub(crate) why: Why,
    pub(crate) mapping: Portrait,
}

/// Prepares the ring. For the module's init, before anything else.
pub(crate) fn init() -> Result {
    // SAFETY: Called once, by the module's init.
    unsafe { HISTORY.init() };
    if cfg!(CONFIG_DEBUG_FS) {
        let room = usize::try_from(KEPT).map_err(|_| EINVAL)?;
        let nothing = Past {
            when: 0,
            why: Why::Unmap,
            mapping: Portrait::nothing(),
        };
        let ring = KVVec::from_elem(nothing, room, GFP_KERNEL)?;
        HISTORY.lock().ring = ring;
    }
    Ok(())
}

/// Gives the memory back: nothing drops a static. For the module's exit, when nothing is mapped.
pub(crate) fn shutdown() {
    let mut history = HISTORY.lock();
    let ring = core::mem::replace(&mut history.ring, KVVec::new());
    drop(history);
    drop(ring);
}

/// The present, for [`record`].
pub(crate) fn now() -> u64 {
    ffi::now()
}

/// Remembers an unmap, of the entry at `span` of the space with this number. May be called with any lock
/// held.
#[inline(always)]
pub(crate) fn record(when: u64, why: Why, space: u64, span: Span<Iova>, entry: &Entry) {
    let mut history = HISTORY.lock();
    let at = usize::try_from(history.next % KEPT).unwrap_or(0);
    if let Some(past) = history.ring.get_mut(at) {
        past.when = when;
        past.why = why;
        past.mapping.draw(space, span, entry);
        trace::unmap(&past.mapping, why);
    }
    history.next += 1;
}

/// The remembered unmap with this number, or the next one, with its number.
pub(crate) fn from(number: u64) -> Option<(u64, Past)> {
    let history = HISTORY.lock();
    let number = number.max(history.next.saturating_sub(KEPT));
    if number >= history.next {
        return None;
    }
    let at = usize::try_from(number % KEPT).ok()?;
    history.ring.get(at).map(|past| (number, *past))
}
