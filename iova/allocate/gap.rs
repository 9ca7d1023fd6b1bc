// SPDX-License-Identifier: GPL-2.0

//! The search for the highest free range of a length and alignment between the ranges of a tree.
//!
//! A gap that is as long as what is asked for may still not fit once aligned, and a summary cannot
//! tell. So gaps that are long enough are tried from the top down, but only so many of them in
//! vain; from then on only subtrees are entered that have a gap of `length + align - PAGE`, which
//! fits wherever it begins (ranges being page aligned). With T tries the search visits no more nodes
//! than about (T + 3) times the height of the tree, and its answer is exact, the highest range that
//! fits, unless T higher gaps were large enough and did not fit. With `Alignment::PAGE` it always is
//! exact.

use super::{align::Alignment, below};
use crate::iova::{
    addr::{Address, Iova, Length, PAGE},
    span::Span,
    tree::{Node, Tree},
};

impl<T> Tree<T> {
    /// The beginning of the highest free range inside `within` that has the length and alignment,
    /// under the rule above. Takes from `tries` what was tried in vain.
    pub(crate) fn highest_gap(
        &self,
        within: Span<Iova>,
        length: Length,
        align: Alignment,
        tries: &mut u32,
    ) -> Option<Iova> {
        let mut search = Search {
            within,
            length,
            align,
            tries,
        };
        let Some(root) = self.root.as_deref() else {
            return search.try_gap(Some(Iova::MIN), Some(Iova::MAX));
        };
        let above = root.summary.max.checked_add(1);
        let low_end = below(root.summary.min, 1);
        search
            .try_gap(above, Some(Iova::MAX))
            .or_else(|| search.descend(root))
            .or_else(|| search.try_gap(Some(Iova::MIN), low_end))
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

    /// The highest fitting gap between the lowest and the highest range of a subtree.
    fn descend<T>(&mut self, node: &Node<T>) -> Option<Iova> {
        let summary = node.summary;
        let outside = summary.min > self.within.last() || summary.max < self.within.first();
        if outside || summary.gap < self.worthwhile() {
            return None;
        }
        if let Some(right) = node.right.as_deref() {
            let above = node.span().last().checked_add(1);
            let found = self
                .descend(right)
                .or_else(|| self.try_gap(above, below(right.summary.min, 1)));
            if found.is_some() {
                return found;
            }
        }
        let left = node.left.as_deref()?;
        let end = below(node.span().first(), 1);
        self.try_gap(left.summary.max.checked_add(1), end)
            .or_else(|| self.descend(left))
    }

    /// The highest fitting place in the gap from `first` to `last`, if there is such a gap.
    fn try_gap(&mut self, first: Option<Iova>, last: Option<Iova>) -> Option<Iova> {
        let gap = Span::from_bounds(first?, last?).ok()?;
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
        Some(place)
    }
}
