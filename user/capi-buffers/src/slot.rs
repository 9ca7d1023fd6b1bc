// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! What is known of one page, 2 MiB or 1 GiB of addresses, in one word that is read and
//! replaced as a whole: nothing; the IOVA, where one buffer fills it; a list of the
//! buffers' parts of a page; or a table that says more.
#![allow(unsafe_code)]

use crate::{node::Node, radix::Table, span::Shift};
use std::{
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

/// Which kind a word is: the low bits, which are 0 in IOVAs of pages and in pointers.
/// They are all 0 in an empty slot only, so that each step down takes one test.
const KINDS: usize = 0b11;
const DIRECT: usize = 0b01;
const CHAIN: usize = 0b10;
const TABLE: usize = 0b11;
/// Beside DIRECT, of a page: it is a whole buffer, which has no other record.
const WHOLE: usize = 0b100;

const _: () = assert!(
    usize::BITS == 64,
    "an IOVA must fit into a pointer: build the library for a 64-bit machine"
);

/// All zeroes is an empty slot.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Slot(AtomicPtr<()>);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Held {
    /// No buffer.
    Empty,
    /// One buffer, all of the slot: the IOVA of its first byte.
    Direct(u64),
    /// Parts of buffers in a page, the newest first.
    Chain(&'static Node),
    /// Slots of the level below.
    Table(&'static Table),
}

/// What was in a slot when it was read.
#[derive(Clone, Copy)]
pub(crate) struct Word(*mut ());

impl Word {
    #[inline]
    pub(crate) fn is_table(self) -> bool {
        self.0.addr() & KINDS == TABLE
    }

    /// # Safety
    ///
    /// It must be one.
    #[inline]
    pub(crate) unsafe fn table(self) -> &'static Table {
        // SAFETY: the kind says that it was made from a table, which is never freed.
        unsafe { &*self.0.map_addr(|addr| addr.wrapping_sub(TABLE)).cast() }
    }
}

impl Slot {
    pub(crate) const fn empty() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    #[inline]
    pub(crate) fn held(&self) -> Held {
        let word = self.0.load(Ordering::Acquire);
        match word.addr() & KINDS {
            // usize has 64 bits, see above.
            DIRECT => Held::Direct((word.addr() & !Shift::PAGE.mask()) as u64),
            // SAFETY: the kind says that it was made from a node, which is never freed.
            CHAIN => Held::Chain(unsafe { &*word.map_addr(|addr| addr - CHAIN).cast::<Node>() }),
            // SAFETY: likewise from a table.
            TABLE => Held::Table(unsafe { &*word.map_addr(|addr| addr - TABLE).cast::<Table>() }),
            _ => Held::Empty,
        }
    }

    /// What is in it, not looked at yet: a short cut of [`Slot::held`] for the look-up,
    /// which an `Option` of a reference would cost a second test at each step.
    #[inline]
    pub(crate) fn word(&self) -> Word {
        Word(self.0.load(Ordering::Acquire))
    }

    /// The IOVA, if one buffer fills the slot: a short cut of [`Slot::held`].
    #[inline]
    pub(crate) fn direct(&self) -> Option<u64> {
        let word = self.0.load(Ordering::Acquire).addr();
        // usize has 64 bits, see above.
        (word & KINDS == DIRECT).then_some((word & !Shift::PAGE.mask()) as u64)
    }

    /// The IOVA, if the slot's page is a whole buffer that has no other record. For the
    /// writer.
    #[inline]
    pub(crate) fn whole(&self) -> Option<u64> {
        let word = self.0.load(Ordering::Relaxed).addr();
        // usize has 64 bits, see above.
        (word & Shift::PAGE.mask() == WHOLE | DIRECT).then_some((word & !Shift::PAGE.mask()) as u64)
    }

    /// Makes the slot's page a whole buffer that has no other record. For readers it is no
    /// different from another that fills the page.
    #[inline]
    pub(crate) fn store_whole(&self, iova: u64) {
        debug_assert!(iova & Shift::PAGE.mask() as u64 == 0);
        // usize has 64 bits, see above.
        let word = ptr::without_provenance_mut(iova as usize | WHOLE | DIRECT);
        self.0.store(word, Ordering::Release);
    }

    pub(crate) fn store(&self, held: Held) {
        let word = match held {
            Held::Empty => ptr::null_mut(),
            Held::Direct(iova) => {
                debug_assert!(iova & Shift::PAGE.mask() as u64 == 0);
                // usize has 64 bits, see above.
                ptr::without_provenance_mut(iova as usize | DIRECT)
            }
            Held::Chain(node) => ptr::from_ref(node)
                .cast_mut()
                .cast::<()>()
                .map_addr(|addr| addr | CHAIN),
            Held::Table(table) => ptr::from_ref(table)
                .cast_mut()
                .cast::<()>()
                .map_addr(|addr| addr | TABLE),
        };
        self.0.store(word, Ordering::Release);
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }
}
