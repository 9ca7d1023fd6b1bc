// SPDX-License-Identifier: GPL-2.0

//! The search for the highest free range of a length and alignment between the ranges of a tree.
//!
//! A gap that is as long as what is asked for may still not fit once aligned, and the bounds in the
//! nodes cannot tell. So gaps that are long enough are tried from the top down, but only so many of them in
//! vain; from then on only gaps count that are at least `length + align - PAGE` long, which
//! fit wherever they begin (ranges being page aligned). With T tries the search visits no more nodes
//! than about (T + 3) times the height of the tree, and its answer is exact, the highest range that
//! fits, unless T higher gaps were large enough and did not fit. With `Alignment::PAGE` it always is
//! exact.

use super::{align::Alignment, below};
use crate::iova::{
    addr::{Address, Iova, Length, PAGE},
    span::Span,
    tree::{gap_between, Link, Node, Tree, LEVELS},
};
use core::cmp;

/// A place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Found {
    /// Where it begins.
    pub(crate) at: Iova,
    /// Where the gap begins that it lies in, as far as that was searched.
    pub(crate) low: Iova,
}

impl<T> Tree<T> {
    /// The highest free range inside `within` that has the length and alignment, under the rule
    /// above. Takes from `tries` what was tried in vain.
    pub(crate) fn highest_gap(
        &mut self,
        within: Span<Iova>,
        length: Length,
        align: Alignment,
        tries: &mut u32,
    ) -> Option<Found> {
        let mut search = Search {
            within,
            length,
            align,
            tries,
        };
        let (Some(root), Some(hull)) = (self.root.as_deref_mut(), self.hull) else {
            return search.try_gap(Some(Iova::MIN), Some(Iova::MAX));
        };
        search
            .try_gap(hull.last().checked_add(1), Some(Iova::MAX))
            .or_else(|| search.descend(root, None, None, LEVELS))
            .or_else(|| search.try_gap(Some(Iova::MIN), below(hull.first(), 1)))
    }
}

struct Search<'a> {
    within: Span<Iova>,
    length: Length,
    align: Alignment,
    tries: &'a mut u32,
}

impl Search<'_> {
    /// How long a gap must be to be worth a try.
    fn worthwhile(&self) -> u64 {
        if *self.tries > 0 {
            return self.length.get();
        }
        // Page aligned gaps begin at most this far from a multiple of the alignment.
        let slack = self.align.get().saturating_sub(PAGE);
        self.length.get().saturating_add(slack)
    }

    /// The highest fitting gap next to a range of a subtree, that lies between `low` and `high`, the
    /// nearest addresses in ranges outside of it. Calls itself once per level, to so many of them.
    fn descend<T>(
        &mut self,
        node: &mut Node<T>,
        low: Option<Iova>,
        high: Option<Iova>,
        levels: u32,
    ) -> Option<Found> {
        let levels = levels.checked_sub(1)?;
        if node.gap < self.worthwhile() {
            return None;
        }
        let span = node.span();
        if span.last() < self.within.last() {
            let found = self.side(&mut node.right, Some(span.last()), high, levels);
            if found.is_some() {
                return found;
            }
        }
        if span.first() > self.within.first() {
            let found = self.side(&mut node.left, low, Some(span.first()), levels);
            if found.is_some() {
                return found;
            }
        }
        // Less than was promised: who comes next shall not look here in vain.
        node.gap = cmp::max(
            bound(&node.left, low, Some(span.first())),
            bound(&node.right, Some(span.last()), high),
        );
        None
    }

    fn side<T>(
        &mut self,
        link: &mut Link<T>,
        low: Option<Iova>,
        high: Option<Iova>,
        levels: u32,
    ) -> Option<Found> {
        match link.as_deref_mut() {
            Some(node) => self.descend(node, low, high, levels),
            None => self.try_gap(low?.checked_add(1), below(high?, 1)),
        }
    }

    /// The highest fitting place in the gap from `first` to `last`, if there is such a gap.
    fn try_gap(&mut self, first: Option<Iova>, last: Option<Iova>) -> Option<Found> {
        let gap = Span::from_bounds(first?, last?).ok()?;
        // The one gap that is all of the address space has no length.
        if gap
            .length()
            .is_some_and(|length| length.get() < self.worthwhile())
        {
            return None;
        }
        let free = gap.intersect(self.within)?;
        let highest = below(free.last(), self.length.last_offset())?;
        if highest < free.first() {
            return None;
        }
        let place = Iova::new(self.align.round_down(highest.raw()));
        if place < free.first() {
            *self.tries = self.tries.saturating_sub(1);
            return None;
        }
        Some(Found {
            at: place,
            low: free.first(),
        })
    }
}

/// The largest gap that there may be on one side of a node.
fn bound<T>(link: &Link<T>, low: Option<Iova>, high: Option<Iova>) -> u64 {
    match (link.as_deref(), low, high) {
        (Some(node), _, _) => node.gap,
        (None, Some(low), Some(high)) => gap_between(low, high),
        _ => 0,
    }
}
