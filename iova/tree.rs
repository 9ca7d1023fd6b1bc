// SPDX-License-Identifier: GPL-2.0

//! `Tree`, the ordered set of a space's live ranges, each with a payload: an AVL tree that also knows
//! where there is room. Each node has an upper bound of the gaps around the ranges below it. To insert
//! leaves the bounds as they are, for it makes gaps smaller; to remove raises those on its way; and
//! a search that finds less than a bound promised lowers it. So every question takes O(log n) steps,
//! the search on average over all that was inserted before. It allocates nothing: callers bring a
//! node to insert, and are handed it back when it is removed or refused.
//!
//! Some functions call themselves once per level. An AVL tree of n nodes has at most
//! 1.44 log2(n + 2) levels (26 for 300,000 nodes, 46 for 2^32), so the stack that this takes is
//! bounded; the same holds for dropping a whole tree.

use core::{
    cmp::{
        self,
        Ordering, //
    },
    mem, //
};

use super::{
    addr::{Address, Iova},
    allocate::recent::Recent,
    error::Error,
    span::Span,
};
use crate::boxed::Box;

/// A subtree, or none.
pub(super) type Link<T> = Option<Box<Node<T>>>;

/// One range and its payload. A caller makes it (boxed) before taking a lock.
pub(crate) struct Node<T> {
    pub(super) span: Span<Iova>,
    pub(super) left: Link<T>,
    pub(super) right: Link<T>,
    /// No gap is larger that lies next to a range of this subtree, between two ranges of the tree.
    pub(super) gap: u64,
    pub(super) height: u8,
    /// Both sides are equally high.
    pub(super) even: bool,
    pub(super) value: T,
}

impl<T> Node<T> {
    /// A node that is in no tree yet.
    pub(crate) fn new(span: Span<Iova>, value: T) -> Self {
        Self {
            span,
            left: None,
            right: None,
            gap: 0,
            height: 1,
            even: true,
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

    /// Gives another range to a node that is in no tree, such as the one that
    /// [`Layout::allocate`](super::layout::Layout::allocate) found for it.
    pub(crate) fn set_span(&mut self, span: Span<Iova>) {
        self.span = span;
    }

    /// Brings the height up to date with the children.
    pub(super) fn measure(&mut self) {
        let (left, right) = (height(&self.left), height(&self.right));
        self.height = cmp::max(left, right).saturating_add(1);
        self.even = left == right;
    }

    /// Its child on the side that `side` tells of its range.
    #[inline]
    fn child(&mut self, side: &impl Fn(Span<Iova>) -> Ordering) -> &mut Link<T> {
        if side(self.span) == Ordering::Less {
            &mut self.left
        } else {
            &mut self.right
        }
    }

    /// Is in no tree any more, and has no children.
    pub(super) fn detach(&mut self) {
        self.gap = 0;
        self.height = 1;
        self.even = true;
    }

    /// Notes that there is a gap of this size.
    pub(super) fn raise(&mut self, gap: u64) {
        if gap > self.gap {
            self.gap = gap;
        }
    }
}

/// An ordered set of ranges that do not overlap.
pub(crate) struct Tree<T> {
    pub(super) root: Link<T>,
    pub(super) len: usize,
    /// From the lowest to the highest address in a range.
    pub(super) hull: Option<Span<Iova>>,
    /// What the last search for room has found out.
    pub(super) recent: Recent,
}

impl<T> Tree<T> {
    /// The empty tree.
    pub(crate) const fn new() -> Self {
        Self {
            root: None,
            len: 0,
            hull: None,
            recent: Recent::nothing(),
        }
    }

    /// How many ranges there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a range. Gives the node back, and changes nothing, if it overlaps one that is there.
    pub(crate) fn insert(&mut self, node: Box<Node<T>>) -> Result<(), Box<Node<T>>> {
        let span = node.span;
        let hull = match self.hull {
            None => {
                self.place(node, 0, |_| Ordering::Equal)?;
                span
            }
            // One that lies outside of all others is on the same side of each.
            Some(hull) if span.last() < hull.first() => {
                let gap = gap_between(span.last(), hull.first());
                self.place(node, gap, |_| Ordering::Less)?;
                hull.hull(span)
            }
            Some(hull) if span.first() > hull.last() => {
                let gap = gap_between(hull.last(), span.first());
                self.place(node, gap, |_| Ordering::Greater)?;
                hull.hull(span)
            }
            Some(hull) => {
                self.place(node, 0, |there| side_of(span, there))?;
                hull
            }
        };
        self.hull = Some(hull);
        self.len = self.len.saturating_add(1);
        self.recent.inserted(span);
        Ok(())
    }

    /// Links a node, which lies on the side `side` of each range that it meets; if that is
    /// [`Ordering::Equal`] it overlaps, is given back, and nothing has changed. It meets one that it
    /// overlaps if there is one: it never turns away from it, because all between it and the nodes it
    /// passes is on the same side. `gap` is that between the node and all others, if it lies outside
    /// of them.
    #[inline]
    fn place(
        &mut self,
        mut node: Box<Node<T>>,
        gap: u64,
        side: impl Fn(Span<Iova>) -> Ordering,
    ) -> Result<(), Box<Node<T>>> {
        let mut level: u32 = 0;
        let mut settled = 0;
        let mut next = self.root.as_deref();
        while let Some(here) = next {
            if !here.even {
                settled = level;
            }
            next = match side(here.span) {
                Ordering::Less => here.left.as_deref(),
                Ordering::Greater => here.right.as_deref(),
                Ordering::Equal => return Err(node),
            };
            level = level.saturating_add(1);
        }
        // Above the lowest node that is not even, which takes up the new height, nothing changes.
        let Some(link) = self.descend(settled, gap, &side) else {
            return Err(node);
        };
        let mut next = &mut *link;
        if let Some(settled) = next {
            settled.raise(gap);
            // It lies next to no gap that its parent does not know of.
            node.gap = settled.gap;
            next = settled.child(&side);
        }
        // All below are even, so each gets higher.
        while let Some(here) = next {
            here.raise(gap);
            here.height = here.height.saturating_add(1);
            here.even = false;
            node.gap = here.gap;
            next = here.child(&side);
        }
        fill(next, Some(node));
        if level > 0 {
            settle(link);
        }
        Ok(())
    }

    /// Removes the range that is exactly `span` if its payload is `wanted`. [`Error::NotFound`], and no
    /// change, if there is none, whatever else `span` overlaps.
    #[inline]
    pub(crate) fn remove_if(
        &mut self,
        span: Span<Iova>,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Box<Node<T>>, Error> {
        let mut level: u32 = 0;
        let mut settled = 0;
        let mut around = (None, None);
        let mut next = self.root.as_deref();
        let found = loop {
            let here = next.ok_or(Error::NotFound)?;
            next = if span.last() < here.span.first() {
                around.1 = Some(here.span.first());
                here.left.as_deref()
            } else if span.first() > here.span.last() {
                around.0 = Some(here.span.last());
                here.right.as_deref()
            } else if span == here.span && wanted(&here.value) {
                break here;
            } else {
                return Err(Error::NotFound);
            };
            if here.even {
                settled = level;
            }
            level = level.saturating_add(1);
        };
        if found.height > 1 {
            if let Some(below) = last_of(found.left.as_deref()) {
                around.0 = Some(below.span.last());
            }
            if let Some(above) = first_of(found.right.as_deref()) {
                around.1 = Some(above.span.first());
            }
        }
        let (hull, gap) = match (self.hull, around) {
            (Some(hull), (Some(last), Some(first))) => (Some(hull), gap_between(last, first)),
            (Some(hull), (Some(last), None)) => (Some(Span::between(hull.first(), last)), 0),
            (Some(hull), (None, Some(first))) => (Some(Span::between(first, hull.last())), 0),
            _ => (None, 0),
        };
        // Above the lowest node that is even, which only leans afterwards, no height changes.
        let link = self
            .descend(settled, gap, &|there| side_of(span, there))
            .ok_or(Error::NotFound)?;
        let node = match link.as_deref() {
            Some(alone) if alone.height == 1 => link.take(),
            _ => remove_at(link, span, gap).map(|(node, _)| node),
        };
        let node = node.ok_or(Error::NotFound)?;
        self.hull = hull;
        Ok(self.removed(node))
    }

    /// The link that is so many levels down, on the way that `side` tells; all above are told of a gap.
    /// `None` if there are not as many levels.
    #[inline]
    fn descend(
        &mut self,
        levels: u32,
        gap: u64,
        side: &impl Fn(Span<Iova>) -> Ordering,
    ) -> Option<&mut Link<T>> {
        let mut link = &mut self.root;
        for _ in 0..levels {
            let here = link.as_deref_mut()?;
            here.raise(gap);
            link = here.child(side);
        }
        Some(link)
    }

    /// Removes the lowest range.
    pub(crate) fn pop_first(&mut self) -> Option<Box<Node<T>>> {
        let (node, _) = take_first(&mut self.root)?;
        self.hull = self
            .hull
            .zip(self.first())
            .map(|(hull, first)| Span::between(first.span.first(), hull.last()));
        Some(self.removed(node))
    }

    fn removed(&mut self, mut node: Box<Node<T>>) -> Box<Node<T>> {
        self.len = self.len.saturating_sub(1);
        self.recent.removed(node.span);
        node.detach();
        node
    }

    /// The range that `address` is in.
    pub(crate) fn get(&self, address: Iova) -> Option<&Node<T>> {
        self.at_or_after(address)
            .filter(|node| node.span.contains(address))
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

/// On which side of `there` a range lies: [`Ordering::Equal`] if they overlap.
#[inline]
fn side_of(span: Span<Iova>, there: Span<Iova>) -> Ordering {
    if span.last() < there.first() {
        Ordering::Less
    } else if span.first() > there.last() {
        Ordering::Greater
    } else {
        Ordering::Equal
    }
}

/// How many addresses lie between the end of one range and the beginning of a later one.
pub(super) fn gap_between(last: Iova, first: Iova) -> u64 {
    first.raw().saturating_sub(last.raw()).saturating_sub(1)
}

/// Puts something into a link that is empty.
fn fill<T>(link: &mut Link<T>, node: Link<T>) {
    forget(mem::replace(link, node));
}

/// Does without the function that would be called to drop what is empty.
fn forget<T>(empty: Link<T>) {
    debug_assert!(empty.is_none());
    mem::forget(empty);
}

pub(super) fn height<T>(link: &Link<T>) -> u8 {
    link.as_deref().map_or(0, |node| node.height)
}

/// Takes out the node of `span`, which leaves a gap, and says whether the subtree has another height
/// now.
fn remove_at<T>(link: &mut Link<T>, span: Span<Iova>, gap: u64) -> Option<(Box<Node<T>>, bool)> {
    let here = link.as_deref_mut()?;
    if here.span == span {
        if here.height == 1 {
            return link.take().map(|node| (node, true));
        }
        return unlink(link, gap);
    }
    here.raise(gap);
    let child = here.child(&|there| side_of(span, there));
    let (node, lower) = remove_at(child, span, gap)?;
    Some((node, lower && settle(link)))
}

/// Takes out the root of a subtree; the next higher node takes its place.
fn unlink<T>(link: &mut Link<T>, gap: u64) -> Option<(Box<Node<T>>, bool)> {
    let mut node = link.take()?;
    let mut left = node.left.take();
    let mut right = node.right.take();
    // What was below the node reaches up to the gap now.
    let mut below = left.as_deref_mut();
    while let Some(node) = below {
        node.raise(gap);
        below = node.right.as_deref_mut();
    }
    let heir = match take_first(&mut right) {
        None => left,
        Some((mut heir, _)) => {
            heir.left = left;
            heir.right = right;
            // So that `settle` compares with what this subtree was before.
            heir.height = node.height;
            heir.gap = cmp::max(node.gap, gap);
            Some(heir)
        }
    };
    fill(link, heir);
    let lower = height(link) != node.height || settle(link);
    Some((node, lower))
}

/// The lowest node of a subtree.
pub(super) fn first_of<T>(mut from: Option<&Node<T>>) -> Option<&Node<T>> {
    let mut found = None;
    while let Some(node) = from {
        found = from;
        from = node.left.as_deref();
    }
    found
}

/// The highest node of a subtree.
pub(super) fn last_of<T>(mut from: Option<&Node<T>>) -> Option<&Node<T>> {
    let mut found = None;
    while let Some(node) = from {
        found = from;
        from = node.right.as_deref();
    }
    found
}

/// Takes out the lowest node of a subtree, and says whether the subtree has another height now.
pub(super) fn take_first<T>(link: &mut Link<T>) -> Option<(Box<Node<T>>, bool)> {
    let here = link.as_deref_mut()?;
    if here.left.is_some() {
        let (node, lower) = take_first(&mut here.left)?;
        return Some((node, lower && settle(link)));
    }
    let mut node = link.take()?;
    fill(link, node.right.take());
    Some((node, true))
}

/// After a change of height below: brings the root of a subtree up to date and into balance, and says
/// whether the subtree's height is another than before.
pub(super) fn settle<T>(link: &mut Link<T>) -> bool {
    let Some(node) = link.as_deref_mut() else {
        return true;
    };
    let before = node.height;
    let (left, right) = (height(&node.left), height(&node.right));
    if left.abs_diff(right) <= 1 {
        node.height = cmp::max(left, right).saturating_add(1);
        node.even = left == right;
        return before != node.height;
    }
    if left > right {
        lean_right(link);
    } else {
        lean_left(link);
    }
    before != height(link)
}

/// Balances a node whose left side is too high.
fn lean_right<T>(link: &mut Link<T>) {
    if let Some(node) = link.as_deref_mut() {
        if let Some(child) = node.left.as_deref() {
            if height(&child.right) > height(&child.left) {
                rotate_left(&mut node.left);
            }
        }
    }
    rotate_right(link);
}

/// Balances a node whose right side is too high.
fn lean_left<T>(link: &mut Link<T>) {
    if let Some(node) = link.as_deref_mut() {
        if let Some(child) = node.right.as_deref() {
            if height(&child.left) > height(&child.right) {
                rotate_right(&mut node.right);
            }
        }
    }
    rotate_left(link);
}

/// Puts a node below its left child.
fn rotate_right<T>(link: &mut Link<T>) {
    let Some(node) = link.as_deref_mut() else {
        return;
    };
    let mut other = node.left.take();
    let Some(pivot) = other.as_deref_mut() else {
        return;
    };
    mem::swap(&mut node.left, &mut pivot.right);
    node.measure();
    pivot.raise(node.gap);
    // Pivot and node change places.
    mem::swap(link, &mut other);
    if let Some(pivot) = link.as_deref_mut() {
        mem::swap(&mut pivot.right, &mut other);
        pivot.measure();
    }
    forget(other);
}

/// Puts a node below its right child.
fn rotate_left<T>(link: &mut Link<T>) {
    let Some(node) = link.as_deref_mut() else {
        return;
    };
    let mut other = node.right.take();
    let Some(pivot) = other.as_deref_mut() else {
        return;
    };
    mem::swap(&mut node.right, &mut pivot.left);
    node.measure();
    pivot.raise(node.gap);
    // Pivot and node change places.
    mem::swap(link, &mut other);
    if let Some(pivot) = link.as_deref_mut() {
        mem::swap(&mut pivot.left, &mut other);
        pivot.measure();
    }
    forget(other);
}
