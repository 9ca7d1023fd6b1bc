// SPDX-License-Identifier: GPL-2.0

//! `Recent`, what the last search for room has found out, so that the next request of the same kind
//! needs none: a program maps buffers of one size again and again. Kept true by whatever is inserted
//! and removed.

use core::mem;

use super::{below, Request};
use crate::iova::{
    addr::{Address, Iova},
    span::Span,
};

/// How many freed ranges are remembered.
const HOLES: usize = 8;

/// What is known.
///
/// # Invariants
///
/// If `kind` is known: a request of this kind fits nowhere at or above `bottom` but in the first
/// `holes` of `freed`, which are free; and all from `limit` up to, not including, `bottom` is free.
pub(in crate::iova) struct Recent {
    kind: Option<Request>,
    bottom: Iova,
    limit: Iova,
    /// What was given last, until it is inserted.
    given: Option<Span<Iova>>,
    freed: [Iova; HOLES],
    holes: usize,
}

impl Recent {
    /// Nothing is known.
    pub(in crate::iova) const fn nothing() -> Self {
        Self {
            kind: None,
            bottom: Iova::MAX,
            limit: Iova::MAX,
            given: None,
            freed: [Iova::MIN; HOLES],
            holes: 0,
        }
    }

    /// Forgets everything: the rules have changed.
    pub(in crate::iova) fn forget(&mut self) {
        self.kind = None;
    }

    /// A place for a request: the highest of what was freed, else what comes below all others.
    #[inline]
    pub(super) fn take(&mut self, request: Request) -> Option<Iova> {
        if self.kind != Some(request) {
            return None;
        }
        if let Some(hole) = self.highest_hole() {
            return Some(self.give(hole, request));
        }
        let highest = below(self.bottom, request.length.get())?;
        let place = Iova::new(request.wanted.round_down(highest.raw()));
        if place < self.limit {
            return None;
        }
        // INVARIANT: Between the place and what was the bottom there is less than the alignment.
        self.bottom = place;
        Some(self.give(place, request))
    }

    /// Takes the highest of the freed ranges out.
    fn highest_hole(&mut self) -> Option<Iova> {
        let last = self.holes.checked_sub(1)?;
        if last > 0 {
            self.highest_last();
        }
        // INVARIANT: It is given away.
        self.holes = last;
        self.freed.get(last).copied()
    }

    /// Puts the highest of the freed ranges last.
    #[inline(never)]
    fn highest_last(&mut self) {
        let holes = self.freed.get_mut(..self.holes);
        let Some((end, others)) = holes.and_then(<[_]>::split_last_mut) else {
            return;
        };
        if let Some(highest) = others.iter_mut().max().filter(|other| **other > *end) {
            mem::swap(highest, end);
        }
    }

    fn give(&mut self, place: Iova, request: Request) -> Iova {
        self.given = Span::new(place, request.length).ok();
        place
    }

    /// Learns what a search found: the highest place for the request, and where the gap begins that
    /// it lies in.
    pub(super) fn learn(&mut self, request: Request, place: Iova, limit: Iova) {
        *self = Self {
            kind: Some(request),
            bottom: place,
            limit,
            given: Span::new(place, request.length).ok(),
            ..Self::nothing()
        };
    }

    /// A range is taken.
    #[inline]
    pub(in crate::iova) fn inserted(&mut self, span: Span<Iova>) {
        if self.kind.is_none() || span.last() < self.limit {
            return;
        }
        if self.given == Some(span) {
            // Once: if it comes back after it was freed, it is one that was taken out.
            self.given = None;
            return;
        }
        if span.first() < self.bottom {
            // INVARIANT: What lies above it still is free.
            self.limit = match span.last().checked_add(1) {
                Some(next) => next.min(self.bottom),
                None => self.bottom,
            };
        }
        if self.holes > 0 && span.last() >= self.bottom {
            self.forget();
        }
    }

    /// A range is free.
    #[inline]
    pub(in crate::iova) fn removed(&mut self, span: Span<Iova>) {
        // Most that are chosen elsewhere lie lower.
        if span.last() >= self.bottom {
            self.removed_above(span);
        }
    }

    #[inline(never)]
    fn removed_above(&mut self, span: Span<Iova>) {
        let Some(kind) = self.kind else {
            return;
        };
        let fits = span.first() >= self.bottom
            && span.last().raw().wrapping_sub(span.first().raw()) == kind.length.last_offset()
            && span.first().is_aligned(kind.wanted.get());
        match self.freed.get_mut(self.holes) {
            Some(hole) if fits => {
                // INVARIANT: It is free, and what lies beside it was too short, and still is without it.
                *hole = span.first();
                self.holes = self.holes.wrapping_add(1);
            }
            _ => self.forget(),
        }
    }
}
