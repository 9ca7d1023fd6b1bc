// SPDX-License-Identifier: GPL-2.0

//! Ranges that enter or leave a tree together, at one place in their order: the tree is cut there and
//! joined again, which takes O(log n) steps besides one for each of them.

use core::cmp;

use super::{
    addr::Iova,
    list::List,
    priority::Priorities,
    span::Span,
    tree::{first_of, flatten, gap_between, join, last_of, split, Link, Node, Tree, LEVELS},
};

impl<T> Tree<T> {
    /// Adds ranges that were put into the list in ascending order. Gives them back, and changes
    /// nothing, if there is none, if one of them overlaps another or one that is there, or if one
    /// that is there lies between them.
    pub(crate) fn insert_all(&mut self, mut nodes: List<T>) -> Result<(), List<T>> {
        let Some((hull, inner)) = extent(&nodes) else {
            return Err(nodes);
        };
        if self.overlapping(hull).is_some() {
            return Err(nodes);
        }
        let count = nodes.len();
        let (new, _) = build(&mut nodes, count, inner, &mut self.priorities);
        let (low, high) = split(self.root.take(), 0, |span| span.first() < hull.first());
        // There may have been no gap before, if they lie outside of all others.
        let below =
            last_of(low.as_deref()).map_or(0, |node| gap_between(node.span.last(), hull.first()));
        let above =
            first_of(high.as_deref()).map_or(0, |node| gap_between(hull.last(), node.span.first()));
        let mut lower = None;
        join(&mut lower, low, new, below);
        join(&mut self.root, lower, high, above);
        self.hull = Some(self.hull.map_or(hull, |all| all.hull(hull)));
        self.len = self.len.saturating_add(count);
        self.recent.inserted(hull);
        Ok(())
    }

    /// Removes exactly these ranges, which are in ascending order, if the payload of each is `wanted`
    /// and there is no other between them. Else nothing is changed, and there is no answer. In the list
    /// the lowest is the last one that was added.
    pub(crate) fn remove_all(
        &mut self,
        spans: impl DoubleEndedIterator<Item = Span<Iova>> + Clone,
        wanted: impl Fn(&T) -> bool,
    ) -> Option<List<T>> {
        let mut expected = spans;
        let first = expected.clone().next()?;
        let last = expected.clone().next_back()?;
        let within = Span::from_bounds(first.first(), last.last()).ok()?;
        let as_expected = each_in(self.root.as_deref()?, within, LEVELS, &mut |node| {
            expected.next() == Some(node.span) && wanted(&node.value)
        });
        if !as_expected || expected.next().is_some() {
            return None;
        }
        let (low, rest) = split(self.root.take(), 0, |span| span.first() < within.first());
        let (taken, high) = split(rest, 0, |span| span.last() <= within.last());
        let below = last_of(low.as_deref()).map(|node| node.span.last());
        let above = first_of(high.as_deref()).map(|node| node.span.first());
        let (hull, gap) = match (self.hull, below, above) {
            (hull, Some(last), Some(first)) => (hull, gap_between(last, first)),
            (Some(hull), Some(last), None) => (Some(Span::between(hull.first(), last)), 0),
            (Some(hull), None, Some(first)) => (Some(Span::between(first, hull.last())), 0),
            _ => (None, 0),
        };
        self.hull = hull;
        join(&mut self.root, low, high, gap);
        let mut nodes = List::new();
        flatten(taken, &mut nodes);
        self.len = self.len.saturating_sub(nodes.len());
        self.recent.removed(within);
        Some(nodes)
    }
}

/// From the lowest to the highest address in the ranges of a list, and the largest gap between them,
/// if they were added in ascending order.
fn extent<T>(nodes: &List<T>) -> Option<(Span<Iova>, u64)> {
    let mut nodes = nodes.iter().map(Node::span);
    let mut hull = nodes.next()?;
    let mut inner = 0;
    for span in nodes {
        if span.last() >= hull.first() {
            return None;
        }
        inner = cmp::max(inner, gap_between(span.last(), hull.first()));
        hull = hull.hull(span);
    }
    Some((hull, inner))
}

/// A tree, as low as can be, of the `count` nodes that were put into the list last, in ascending
/// order, and how many levels it has. No gap beside them is larger than `gap`. Calls itself once per
/// level.
fn build<T>(
    nodes: &mut List<T>,
    count: usize,
    gap: u64,
    priorities: &mut Priorities,
) -> (Link<T>, u32) {
    if count == 0 {
        return (None, 0);
    }
    let above = count >> 1;
    let (right, levels) = build(nodes, above, gap, priorities);
    let Some(mut node) = nodes.pop() else {
        return (right, levels);
    };
    node.gap = gap;
    if right.is_some() {
        node.right = right;
        let below = count.saturating_sub(above).saturating_sub(1);
        // Of both sides the right one has as many nodes or one more.
        (node.left, _) = build(nodes, below, gap, priorities);
    }
    node.priority = priorities.draw_above(levels);
    (Some(node), levels.saturating_add(1))
}

/// Calls `seen` for the ranges of a subtree that overlap `within`, lowest first, until it says `false`;
/// then this does too, as it does for a subtree that has more levels than that. Calls itself once per
/// level.
fn each_in<T>(
    node: &Node<T>,
    within: Span<Iova>,
    levels: u32,
    seen: &mut impl FnMut(&Node<T>) -> bool,
) -> bool {
    let Some(levels) = levels.checked_sub(1) else {
        return false;
    };
    let below = node.span.first() > within.first();
    let above = node.span.last() < within.last();
    if below {
        if let Some(left) = node.left.as_deref() {
            if !each_in(left, within, levels, seen) {
                return false;
            }
        }
    }
    if node.span.overlaps(within) && !seen(node) {
        return false;
    }
    match node.right.as_deref() {
        Some(right) if above => each_in(right, within, levels, seen),
        _ => true,
    }
}
