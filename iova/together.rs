// SPDX-License-Identifier: GPL-2.0

//! Ranges that enter or leave a tree together, at one place in their order: the tree is cut there and
//! joined again, which takes O(log n) steps besides one for each of them.
//!
//! What is cut off is a tree of its own whose bounds still hold: no gap beside its ranges grows by
//! that. The two trees that meet at a new gap are told of it before they are joined.

use core::cmp;

use super::{
    addr::Iova,
    list::List,
    span::Span,
    tree::{first_of, gap_between, height, last_of, settle, take_first, Link, Node, Tree},
};
use crate::boxed::Box;

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
        let Some(mut highest) = nodes.pop() else {
            return Err(nodes);
        };
        let mut others = build(&mut nodes, count.saturating_sub(1), inner);
        let (mut low, mut high) = split(self.root.take(), &|span| span.first() < hull.first());
        // There may have been no gap before, if they lie outside of all others.
        let below =
            last_of(low.as_deref()).map_or(0, |node| gap_between(node.span.last(), hull.first()));
        let above =
            first_of(high.as_deref()).map_or(0, |node| gap_between(hull.last(), node.span.first()));
        raise_highest(&mut low, below);
        raise_lowest(&mut high, above);
        highest.gap = cmp::max(inner, above);
        if others.is_some() {
            raise_lowest(&mut others, below);
        } else {
            highest.raise(below);
        }
        self.root = join(join_two(low, others), highest, high);
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
        let as_expected = each_in(self.root.as_deref()?, within, &mut |node| {
            expected.next() == Some(node.span) && wanted(&node.value)
        });
        if !as_expected || expected.next().is_some() {
            return None;
        }
        let (mut low, rest) = split(self.root.take(), &|span| span.first() < within.first());
        let (taken, mut high) = split(rest, &|span| span.last() <= within.last());
        let below = last_of(low.as_deref()).map(|node| node.span.last());
        let above = first_of(high.as_deref()).map(|node| node.span.first());
        self.hull = match (self.hull, below, above) {
            (hull, Some(last), Some(first)) => {
                let gap = gap_between(last, first);
                raise_highest(&mut low, gap);
                raise_lowest(&mut high, gap);
                hull
            }
            (Some(hull), Some(last), None) => Some(Span::between(hull.first(), last)),
            (Some(hull), None, Some(first)) => Some(Span::between(first, hull.last())),
            _ => None,
        };
        self.root = join_two(low, high);
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
/// order. No gap beside them is larger than `gap`.
fn build<T>(nodes: &mut List<T>, count: usize, gap: u64) -> Link<T> {
    if count == 0 {
        return None;
    }
    let above = count >> 1;
    let right = build(nodes, above, gap);
    let mut node = nodes.pop()?;
    node.gap = gap;
    if right.is_some() {
        node.right = right;
        node.left = build(nodes, count.saturating_sub(above).saturating_sub(1), gap);
        node.measure();
    }
    Some(node)
}

/// Calls `seen` for the ranges of a subtree that overlap `within`, lowest first, until it says `false`;
/// then this does too.
fn each_in<T>(node: &Node<T>, within: Span<Iova>, seen: &mut impl FnMut(&Node<T>) -> bool) -> bool {
    let below = node.span.first() > within.first();
    let above = node.span.last() < within.last();
    if below {
        if let Some(left) = node.left.as_deref() {
            if !each_in(left, within, seen) {
                return false;
            }
        }
    }
    if node.span.overlaps(within) && !seen(node) {
        return false;
    }
    match node.right.as_deref() {
        Some(right) if above => each_in(right, within, seen),
        _ => true,
    }
}

/// Moves the nodes of a subtree to a list, the highest first.
fn flatten<T>(link: Link<T>, nodes: &mut List<T>) {
    let Some(mut node) = link else {
        return;
    };
    let left = node.left.take();
    if node.height > 1 {
        flatten(node.right.take(), nodes);
    }
    node.detach();
    nodes.push(node);
    if left.is_some() {
        flatten(left, nodes);
    }
}

/// Notes a gap at the lower end of a subtree.
fn raise_lowest<T>(link: &mut Link<T>, gap: u64) {
    let mut next = link.as_deref_mut();
    while let Some(node) = next {
        node.raise(gap);
        next = node.left.as_deref_mut();
    }
}

/// Notes a gap at the upper end of a subtree.
fn raise_highest<T>(link: &mut Link<T>, gap: u64) {
    let mut next = link.as_deref_mut();
    while let Some(node) = next {
        node.raise(gap);
        next = node.right.as_deref_mut();
    }
}

/// Cuts a subtree in two: the ranges that are `low`, and those above them.
fn split<T>(link: Link<T>, low: &impl Fn(Span<Iova>) -> bool) -> (Link<T>, Link<T>) {
    let Some(mut node) = link else {
        return (None, None);
    };
    let (left, right) = (node.left.take(), node.right.take());
    if low(node.span) {
        let (below, above) = split(right, low);
        (join(left, node, below), above)
    } else {
        let (below, above) = split(left, low);
        (below, join(above, node, right))
    }
}

/// One tree of two, of which one lies below the other.
fn join_two<T>(low: Link<T>, mut high: Link<T>) -> Link<T> {
    match take_first(&mut high) {
        None => low,
        Some((node, _)) => join(low, node, high),
    }
}

/// One tree of two, with a node that lies between them and has no children. Its bound is that of the
/// gaps beside it, where they are at an end of the whole.
fn join<T>(mut low: Link<T>, mut node: Box<Node<T>>, mut high: Link<T>) -> Link<T> {
    let (left, right) = (height(&low), height(&high));
    if left > right.saturating_add(1) {
        if let Some(root) = low.as_deref_mut() {
            root.right = join(root.right.take(), node, high);
            root.raise(gap(&root.right));
        }
        settle(&mut low);
        return low;
    }
    if right > left.saturating_add(1) {
        if let Some(root) = high.as_deref_mut() {
            root.left = join(low, node, root.left.take());
            root.raise(gap(&root.left));
        }
        settle(&mut high);
        return high;
    }
    // With nodes on both sides these know of the gaps beside it.
    let beside = if left > 0 && right > 0 { 0 } else { node.gap };
    node.gap = cmp::max(beside, cmp::max(gap(&low), gap(&high)));
    node.left = low;
    node.right = high;
    node.measure();
    Some(node)
}

/// The bound of a subtree.
fn gap<T>(link: &Link<T>) -> u64 {
    link.as_deref().map_or(0, |node| node.gap)
}
