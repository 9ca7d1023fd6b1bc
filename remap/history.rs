// SPDX-License-Identifier: GPL-2.0

//! The last unmaps of this host, so that a DMA fault can be explained by a mapping that is gone.
//!
//! No lock: who writes an entry claims it first, and who reads one looks afterwards whether it was still
//! the same. Entries hold no reference to anything.

use super::{
    clock::Stamp,
    domain::Access,
    owner::{
        By,
        Comm, //
    },
    space::{
        Entry,
        Kind,
        Portrait, //
    },
    trace, //
};
use crate::iova::{
    addr::{
        Address,
        Iova, //
    },
    span::Span, //
};
use core::sync::atomic::{
    fence,
    AtomicU64,
    Ordering::{
        Acquire,
        Relaxed,
        Release, //
    }, //
};
use kernel::prelude::*;

/// How many unmaps are remembered, if anyone can read of them.
const KEPT: usize = if cfg!(CONFIG_DEBUG_FS) { 4096 } else { 0 };

/// The ring of unmaps: number n is at n modulo [`KEPT`].
static RING: [Slot; KEPT] = [const { Slot::new() }; KEPT];

/// The number of the next unmap.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// How many words an entry has.
const WORDS: usize = 10;

/// One place in the ring.
///
/// # Invariants
///
/// `words` are those of unmap `number - 1`, unless `number` is 0 or [`CLAIMED`]. They are changed only by
/// who changed it to that.
struct Slot {
    number: AtomicU64,
    words: [AtomicU64; WORDS],
}

/// The number of a slot that is being written.
const CLAIMED: u64 = u64::MAX;

impl Slot {
    const fn new() -> Self {
        Self {
            number: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    /// Makes it that of unmap `number`, of which `words` tells. Nothing is done if it is claimed, or
    /// that of a later one: whoever was held up for a whole round is forgotten already.
    #[inline(always)]
    fn write(&self, number: u64, words: impl FnOnce() -> [u64; WORDS]) {
        let old = self.number.load(Relaxed);
        if old > number {
            return;
        }
        let claim = self.number.compare_exchange(old, CLAIMED, Acquire, Relaxed);
        if claim.is_err() {
            return;
        }
        // Whoever reads one of the words sees the claim afterwards.
        fence(Release);
        for (to, word) in self.words.iter().zip(words()) {
            to.store(word, Relaxed);
        }
        // INVARIANT: They were just written.
        self.number.store(number.wrapping_add(1), Release);
    }

    /// The words of unmap `number`, if it is that one's.
    fn read(&self, number: u64) -> Option<[u64; WORDS]> {
        let wanted = number.wrapping_add(1);
        if self.number.load(Acquire) != wanted {
            return None;
        }
        let words = self.words.each_ref().map(|word| word.load(Relaxed));
        fence(Acquire);
        (self.number.load(Relaxed) == wanted).then_some(words)
    }
}

/// Why a mapping went.
#[derive(Clone, Copy)]
#[repr(u8)]
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
    /// By their numbers.
    const ALL: [Self; 5] = [
        Self::Unmap,
        Self::Force,
        Self::Close,
        Self::Unbind,
        Self::Failed,
    ];

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
pub(crate) struct Past {
    pub(crate) when: Stamp,
    pub(crate) why: Why,
    pub(crate) mapping: Portrait,
}

impl Past {
    #[inline]
    fn pack(&self) -> [u64; WORDS] {
        let mapping = &self.mapping;
        let [low, high] = mapping.by.comm.words();
        let [cycles, origin] = self.when.words();
        [
            cycles,
            origin,
            mapping.space,
            mapping.span.first().raw(),
            mapping.span.last().raw(),
            mapping.backing,
            // Whoever is a context is no caller.
            mapping.by.context | mapping.by.caller as u64,
            low,
            high,
            u64::from(u32::from_ne_bytes(mapping.by.pid.to_ne_bytes())) << 32
                | u64::from(mapping.access.pack()) << 16
                | u64::from(mapping.kind as u8) << 8
                | u64::from(self.why as u8),
        ]
    }

    fn unpack(words: [u64; WORDS]) -> Option<Self> {
        let [cycles, origin, space, first, last, backing, maker, low, high, small] = words;
        let [why, kind, access, _, pid @ ..] = small.to_le_bytes();
        let pid = i32::from_le_bytes(pid);
        let (context, caller) = if pid != 0 { (maker, 0) } else { (0, maker) };
        Some(Self {
            when: Stamp::of([cycles, origin]),
            why: Why::ALL.get(usize::from(why)).copied()?,
            mapping: Portrait {
                space,
                span: Span::from_bounds(Iova::new(first), Iova::new(last)).ok()?,
                kind: Kind::ALL.get(usize::from(kind)).copied()?,
                access: Access::unpack(access)?,
                backing,
                by: By {
                    context,
                    pid,
                    caller: usize::try_from(caller).ok()?,
                    comm: Comm::of([low, high]),
                },
            },
        })
    }
}

/// Remembers an unmap, of the entry at `span` of the space with this number. May be called with any lock
/// held.
#[inline(always)]
pub(crate) fn record(when: Stamp, why: Why, space: u64, span: Span<Iova>, entry: &Entry) {
    if trace::unmap_is_traced() {
        told(why, space, span, entry);
    }
    let number = NEXT.fetch_add(1, Relaxed);
    if let Some(slot) = slot(number) {
        slot.write(number, move || {
            let mapping = Portrait::new(space, span, entry);
            Past { when, why, mapping }.pack()
        });
    }
}

#[cold]
#[inline(never)]
fn told(why: Why, space: u64, span: Span<Iova>, entry: &Entry) {
    trace::unmap(&Portrait::new(space, span, entry), why);
}

/// Where the unmap with this number is remembered.
#[inline]
fn slot(number: u64) -> Option<&'static Slot> {
    let round = u64::try_from(KEPT).ok()?;
    RING.get(usize::try_from(number.checked_rem(round)?).ok()?)
}

/// The remembered unmap with this number, or the next one, with its number.
pub(crate) fn from(number: u64) -> Option<(u64, Past)> {
    let next = NEXT.load(Relaxed);
    let kept = u64::try_from(KEPT).ok()?;
    // Those that are just being written, or were lost, are left out.
    (number.max(next.saturating_sub(kept))..next).find_map(|number| {
        let words = slot(number)?.read(number)?;
        Some((number, Past::unpack(words)?))
    })
}
