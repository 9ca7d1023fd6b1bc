// SPDX-License-Identifier: GPL-2.0

//! `Reserved`, the IOVA ranges that must never be mapped: what the IOMMU reports (MSI windows,
//! firmware ranges) and the page at 0. Sorted, merged, and of fixed capacity, because it changes
//! while a lock is held.

use core::mem;

use super::{
    addr::{Address, Iova, PAGE},
    error::Error,
    span::Span,
};

/// How many separate ranges fit, the page at 0 included. Real hosts report two to five.
pub(crate) const CAPACITY: usize = 32;

/// A list of ranges.
///
/// # Invariants
///
/// The first `len` entries are sorted, and no two of them overlap or follow each other without a
/// gap. The others are never read.
#[derive(Clone)]
pub(crate) struct Reserved {
    entries: [Span<Iova>; CAPACITY],
    len: usize,
}

impl Reserved {
    /// The list that every space begins with: the page at 0 alone, so that 0 is never a valid IOVA.
    pub(crate) fn new() -> Self {
        let page = Span::between(Iova::MIN, Iova::new(PAGE.wrapping_sub(1)));
        Self {
            entries: [page; CAPACITY],
            len: 1,
        }
    }

    /// The ranges, lowest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = Span<Iova>> + '_ {
        // `get` rather than an index: it cannot panic.
        self.entries
            .get(..self.len)
            .unwrap_or_default()
            .iter()
            .copied()
    }

    /// The lowest range that `span` overlaps.
    pub(crate) fn overlapping(&self, span: Span<Iova>) -> Option<Span<Iova>> {
        self.iter().find(|entry| entry.overlaps(span))
    }

    /// Adds a range, merged with those that it touches. [`Error::TooManyReserved`], and no change,
    /// if it touches none and the list is full.
    pub(crate) fn add(&mut self, span: Span<Iova>) -> Result<(), Error> {
        let mut merged = span;
        let mut kept: usize = 0;
        for at in 0..self.len {
            let Some(&entry) = self.entries.get(at) else {
                break;
            };
            // Entries are apart from each other, so what the merged range has grown by touches none
            // that `span` does not touch itself.
            if entry.touches(span) {
                merged = merged.hull(entry);
            } else if let Some(slot) = self.entries.get_mut(kept) {
                *slot = entry;
                kept = kept.saturating_add(1);
            }
        }
        // If there is no room, all were kept where they were.
        let slots = self.entries.get_mut(..=kept);
        let Some((end, slots)) = slots.and_then(<[_]>::split_last_mut) else {
            return Err(Error::TooManyReserved);
        };
        for slot in slots {
            if merged.first() < slot.first() {
                mem::swap(&mut merged, slot);
            }
        }
        *end = merged;
        self.len = kept.saturating_add(1);
        Ok(())
    }
}
