// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Buffers that are one whole page, which most are that are mapped one by one: the page's
//! slot in the tree says all that there is to say of such a buffer, so that it needs no
//! record beside it. When another buffer comes into the page, or when buffers are to be
//! found by their IOVAs, it gets one.

use crate::{
    radix::{Root, Table, TableAt, Writer},
    slot::{Held, Slot},
    span::Shift,
};
use std::sync::atomic::Ordering;

/// Bytes of such a buffer.
pub(crate) const PAGE: usize = 1 << Shift::PAGE.0;

/// Whether a range of addresses is a page.
#[inline]
pub(crate) fn is_page(address: usize, length: usize) -> bool {
    length == PAGE && address & Shift::PAGE.mask() == 0
}

impl Root {
    /// Adds a page as a whole buffer. `false` if the short way does not lead there: something
    /// is in the page, or the tree does not reach down to it yet.
    #[inline]
    pub(crate) fn add_whole(&self, address: usize, iova: u64) -> bool {
        let Some(table) = self.table_at(address) else {
            return false;
        };
        let (table, slot) = page(table, address);
        if !slot.is_empty() || iova & Shift::PAGE.mask() as u64 != 0 {
            return false;
        }
        slot.store_whole(iova);
        let used = table.used.load(Ordering::Relaxed);
        table.used.store(used + 1, Ordering::Relaxed);
        true
    }

    /// Removes a page that is a whole buffer, and returns its IOVA.
    #[inline]
    pub(crate) fn take_whole(&self, address: usize) -> Option<u64> {
        let (table, slot) = page(self.table_at(address)?, address);
        let iova = slot.whole()?;
        empty(table, slot);
        Some(iova)
    }

    /// Makes a page that is a whole buffer like all others, if it is one, and returns its IOVA: it needs
    /// a record from now on.
    pub(crate) fn make_plain(&self, address: usize) -> Option<u64> {
        let (_, slot) = page(self.table_at(address)?, address);
        let iova = slot.whole()?;
        slot.store(Held::Direct(iova));
        Some(iova)
    }
}

/// The slot of an address, and its table.
#[inline]
fn page(table: TableAt, address: usize) -> (&'static Table, &'static Slot) {
    let table = table.get();
    (table, &table.slots[Shift::PAGE.index(address)])
}

impl Writer {
    /// [`Root::make_plain`] for all pages: what they were, as address and IOVA.
    pub(crate) fn make_all_plain(&self) -> Vec<(usize, u64)> {
        self.wholes(|_, slot, iova| slot.store(Held::Direct(iova)))
    }

    /// Removes all pages that are whole buffers, and returns them as address and IOVA.
    pub(crate) fn take_wholes(&self) -> Vec<(usize, u64)> {
        self.wholes(|table, slot, _| empty(table, slot))
    }

    fn wholes(&self, change: impl Fn(&Table, &Slot, u64)) -> Vec<(usize, u64)> {
        let mut all = Vec::new();
        for (first, table) in &self.page_tables {
            for (index, slot) in table.slots.iter().enumerate() {
                if let Some(iova) = slot.whole() {
                    all.push((first + (index << Shift::PAGE.0), iova));
                    change(table, slot, iova);
                }
            }
        }
        all
    }
}

#[inline]
fn empty(table: &Table, slot: &Slot) {
    slot.store(Held::Empty);
    let used = table.used.load(Ordering::Relaxed);
    table.used.store(used.wrapping_sub(1), Ordering::Relaxed);
}
