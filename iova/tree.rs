// SPDX-License-Identifier: GPL-2.0

//! `Tree`, the ordered set of a space's live ranges, each with a payload: an AVL tree whose nodes
//! also know the bounds of, and the largest gap inside, the subtree below them, so that every
//! question, also "where is room for this?", takes O(log n) steps. It allocates nothing: callers
//! bring a node to insert, and are handed it back when it is removed or refused.
//!
//! Some functions call themselves once per level. An AVL tree of n nodes has at most
//! 1.44 log2(n + 2) levels (26 for 300,000 nodes, 46 for 2^32), so the stack that this takes is
//! bounded; the same holds for dropping a whole tree.

use core::cmp;

use super::{
    addr::{Address, Iova},
    error::Error,
    span::Span,
};
use crate::boxed::Box;

/// A subtree, or none.
pub(super) type Link<T> = Option<Box<Node<T>>>;

/// What a node knows about the subtree that it is the root of.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) struct Summary {
    /// The lowest address covered.
    pub(super) min: Iova,
    /// The highest address covered.
    pub(super) max: Iova,
    /// The size of the largest range between `min` and `max` that is not covered.
    pub(super) gap: u64,
}

/// One range and its payload. A caller makes it (boxed) before taking a lock.
pub(crate) struct Node<T> {
    pub(super) span: Span<Iova>,
    pub(super) left: Link<T>,
    pub(super) right: Link<T>,
    pub(super) summary: Summary,
    pub(super) height: u8,
    value: T,
}

impl<T> Node<T> {
    /// A node that is in no tree yet.
    pub(crate) fn new(span: Span<Iova>, value: T) -> Self {
        Self {
            span,
            left: None,
            right: None,
            summary: Summary {
                min: span.first(),
                max: span.last(),
                gap: 0,
            },
            height: 1,
            value,
        }
    }

    /// The range.
    pub(crate) const fn span(&self) -> Span<Iova> {
        self.span
    }

    /// The payload.
    pub(crate) const fn value(&self) -> &T {
        &self.value
    }

    /// The payload, to change it.
    pub(crate) fn value_mut(&mut self) -> &mut T {
        &mut self.value
    }

    /// Brings height and summary up to date with the children.
    pub(super) fn refresh(&mut self) {
        let mut summary = Summary {
            min: self.span.first(),
            max: self.span.last(),
            gap: 0,
        };
        let mut height = 0;
        if let Some(left) = self.left.as_deref() {
            let gap = gap_between(left.summary.max, self.span.first());
            summary.min = left.summary.min;
            summary.gap = cmp::max(left.summary.gap, gap);
            height = left.height;
        }
        if let Some(right) = self.right.as_deref() {
            let gap = gap_between(self.span.last(), right.summary.min);
            summary.max = right.summary.max;
            summary.gap = cmp::max(summary.gap, cmp::max(right.summary.gap, gap));
            height = cmp::max(height, right.height);
        }
        self.summary = summary;
        self.height = height.saturating_add(1);
    }
}

/// An ordered set of ranges that do not overlap.
pub(crate) struct Tree<T> {
    pub(super) root: Link<T>,
    len: usize,
}

impl<T> Tree<T> {
    /// The empty tree.
    pub(crate) const fn new() -> Self {
        Self { root: None, len: 0 }
    }

    /// How many ranges there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a range. Gives the node back, and changes nothing, if it overlaps one that is there.
    pub(crate) fn insert(&mut self, node: Box<Node<T>>) -> Result<(), Box<Node<T>>> {
        insert_at(&mut self.root, node)?;
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Removes the range that is exactly `span`. [`Error::NotFound`], and no change, if there is
    /// none, whatever else `span` overlaps.
    pub(crate) fn remove(&mut self, span: Span<Iova>) -> Result<Box<Node<T>>, Error> {
        let removed = remove_at(&mut self.root, span).ok_or(Error::NotFound)?;
        Ok(self.removed(removed))
    }

    /// Removes the lowest range.
    pub(crate) fn pop_first(&mut self) -> Option<Box<Node<T>>> {
        let removed = take_first(&mut self.root)?;
        Some(self.removed(removed))
    }

    fn removed(&mut self, (mut node, _): Removed<T>) -> Box<Node<T>> {
        self.len = self.len.saturating_sub(1);
        node.refresh();
        node
    }

    /// The range that `address` is in.
    pub(crate) fn get(&self, address: Iova) -> Option<&Node<T>> {
        self.at_or_after(address)
            .filter(|node| node.span.contains(address))
    }

    /// The payload of the range that `address` is in, to change it.
    pub(crate) fn get_mut(&mut self, address: Iova) -> Option<&mut T> {
        let mut link = self.root.as_deref_mut();
        while let Some(node) = link {
            link = if address < node.span.first() {
                node.left.as_deref_mut()
            } else if address > node.span.last() {
                node.right.as_deref_mut()
            } else {
                return Some(&mut node.value);
            };
        }
        None
    }

    /// The range that is exactly `span`.
    pub(crate) fn get_exact(&self, span: Span<Iova>) -> Option<&Node<T>> {
        self.get(span.first()).filter(|node| node.span == span)
    }

    /// The lowest range that overlaps `span`.
    pub(crate) fn overlapping(&self, span: Span<Iova>) -> Option<&Node<T>> {
        self.at_or_after(span.first())
            .filter(|node| node.span.overlaps(span))
    }

    /// The lowest range.
    pub(crate) fn first(&self) -> Option<&Node<T>> {
        self.at_or_after(Iova::MIN)
    }

    /// The highest range.
    pub(crate) fn last(&self) -> Option<&Node<T>> {
        let mut node = self.root.as_deref()?;
        while let Some(right) = node.right.as_deref() {
            node = right;
        }
        Some(node)
    }

    /// The lowest range that begins above `after`, whether or not `after` is in a range itself: a
    /// caller can walk the tree and let go of its lock between the steps.
    pub(crate) fn next(&self, after: Iova) -> Option<&Node<T>> {
        self.lowest(|node| node.span.first() > after)
    }

    /// All ranges, lowest first.
    pub(crate) fn iter(&self) -> Iter<'_, T> {
        Iter {
            tree: self,
            next: self.first(),
        }
    }

    /// The lowest range that ends at or above `address`.
    fn at_or_after(&self, address: Iova) -> Option<&Node<T>> {
        self.lowest(|node| node.span.last() >= address)
    }

    /// The lowest range of those that are `wanted`, where above a wanted one all are wanted.
    fn lowest(&self, wanted: impl Fn(&Node<T>) -> bool) -> Option<&Node<T>> {
        let mut best = None;
        let mut link = self.root.as_deref();
        while let Some(node) = link {
            link = if wanted(node) {
                best = Some(node);
                node.left.as_deref()
            } else {
                node.right.as_deref()
            };
        }
        best
    }
}

/// The ranges of a tree, lowest first. Each step looks its range up, so that the iterator is small.
pub(crate) struct Iter<'a, T> {
    tree: &'a Tree<T>,
    next: Option<&'a Node<T>>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a Node<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.next?;
        self.next = self.tree.next(node.span.last());
        Some(node)
    }
}

/// A node that was taken out, and whether the subtree it was in has another height or summary now,
/// so that the levels above must look again.
type Removed<T> = (Box<Node<T>>, bool);

/// How many addresses lie between the end of one range and the beginning of a later one.
fn gap_between(last: Iova, first: Iova) -> u64 {
    first.raw().saturating_sub(last.raw()).saturating_sub(1)
}

fn height<T>(link: &Link<T>) -> u8 {
    link.as_deref().map_or(0, |node| node.height)
}

/// Inserts, and says whether the subtree has another height or summary now.
fn insert_at<T>(link: &mut Link<T>, node: Box<Node<T>>) -> Result<bool, Box<Node<T>>> {
    let Some(here) = link.as_deref_mut() else {
        *link = Some(node);
        return Ok(true);
    };
    // A range that overlaps any in this subtree meets one that it overlaps on its way down: it never
    // turns away from it, because all between it and the nodes it passes is on the same side.
    let side = if node.span.last() < here.span.first() {
        &mut here.left
    } else if node.span.first() > here.span.last() {
        &mut here.right
    } else {
        return Err(node);
    };
    let changed = insert_at(side, node)?;
    Ok(changed && settle(link))
}

fn remove_at<T>(link: &mut Link<T>, span: Span<Iova>) -> Option<Removed<T>> {
    let here = link.as_deref_mut()?;
    let side = if span.last() < here.span.first() {
        &mut here.left
    } else if span.first() > here.span.last() {
        &mut here.right
    } else if span == here.span {
        return unlink(link);
    } else {
        return None;
    };
    let (node, changed) = remove_at(side, span)?;
    Some((node, changed && settle(link)))
}

/// Takes out the root of a subtree; the next higher node takes its place.
fn unlink<T>(link: &mut Link<T>) -> Option<Removed<T>> {
    let mut node = link.take()?;
    let left = node.left.take();
    let mut right = node.right.take();
    *link = match take_first(&mut right) {
        None => left,
        Some((mut heir, _)) => {
            heir.left = left;
            heir.right = right;
            // So that `settle` compares with what this subtree was before.
            heir.height = node.height;
            heir.summary = node.summary;
            Some(heir)
        }
    };
    let changed = height(link) != node.height || settle(link);
    Some((node, changed))
}

fn take_first<T>(link: &mut Link<T>) -> Option<Removed<T>> {
    let here = link.as_deref_mut()?;
    if here.left.is_some() {
        let (node, changed) = take_first(&mut here.left)?;
        return Some((node, changed && settle(link)));
    }
    let mut node = link.take()?;
    *link = node.right.take();
    Some((node, true))
}

/// After a change below: brings the root of a subtree up to date and into balance, and says whether
/// the subtree's height or summary is another than before.
fn settle<T>(link: &mut Link<T>) -> bool {
    let Some(node) = link.as_deref_mut() else {
        return true;
    };
    let before = (node.height, node.summary);
    let (left, right) = (height(&node.left), height(&node.right));
    if left.abs_diff(right) <= 1 {
        node.refresh();
        return before != (node.height, node.summary);
    }
    *link = link.take().map(|node| {
        if left > right {
            lean_right(node)
        } else {
            lean_left(node)
        }
    });
    link.as_deref()
        .is_none_or(|node| before != (node.height, node.summary))
}

/// Balances a node whose left side is too high.
fn lean_right<T>(mut node: Box<Node<T>>) -> Box<Node<T>> {
    node.left = node.left.take().map(|child| {
        if height(&child.right) > height(&child.left) {
            rotate_left(child)
        } else {
            child
        }
    });
    rotate_right(node)
}

/// Balances a node whose right side is too high.
fn lean_left<T>(mut node: Box<Node<T>>) -> Box<Node<T>> {
    node.right = node.right.take().map(|child| {
        if height(&child.left) > height(&child.right) {
            rotate_right(child)
        } else {
            child
        }
    });
    rotate_left(node)
}

/// Puts a node below its left child.
fn rotate_right<T>(mut node: Box<Node<T>>) -> Box<Node<T>> {
    let Some(mut pivot) = node.left.take() else {
        return node;
    };
    node.left = pivot.right.take();
    node.refresh();
    pivot.right = Some(node);
    pivot.refresh();
    pivot
}

/// Puts a node below its right child.
fn rotate_left<T>(mut node: Box<Node<T>>) -> Box<Node<T>> {
    let Some(mut pivot) = node.right.take() else {
        return node;
    };
    node.right = pivot.left.take();
    node.refresh();
    pivot.left = Some(node);
    pivot.refresh();
    pivot
}
