// SPDX-License-Identifier: GPL-2.0

//! `Tree`, the ordered set of a space's live ranges, each with a payload: a treap that also knows where
//! there is room. Each node has a random priority, none a higher one than its parent, so that the tree
//! has the shape that it would have had the ranges come in random order, whatever came and went: each
//! lies some 2 ln(n) levels deep, the deepest of n some 4.3 ln(n). To insert cuts one subtree in two,
//! to remove joins two; that takes two steps on average. Nothing calls itself, but for what says so
//! and stops at [`LEVELS`].
//!
//! Each node has an upper bound of the gaps around the ranges below it. To insert makes gaps smaller and
//! leaves the bounds as they are, but at the ends; to remove raises those on its way; and a search that
//! finds less than a bound promised lowers it. So every question takes O(log n) steps, the search on average over
//! all that was inserted before. It allocates nothing: callers bring a node to insert, and are handed
//! it back when it is removed or refused.

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
    list::List,
    priority::Priorities,
    span::Span,
};
use crate::boxed::Box;

/// How deep those functions go that call themselves once per level: with some 128 bytes of stack for
/// each, that is half of the kernel's. Of 300,000 ranges the deepest lies 50 levels deep or so, of ten
/// million 64. It is no harm if one lies deeper: the room beside it is not found, and ranges that come
/// and go together there do so one by one.
pub(super) const LEVELS: u32 = 64;

/// A subtree, or none.
pub(super) type Link<T> = Option<Box<Node<T>>>;

/// One range and its payload. A caller makes it (boxed) before taking a lock.
pub(crate) struct Node<T> {
    pub(super) span: Span<Iova>,
    pub(super) left: Link<T>,
    pub(super) right: Link<T>,
    /// No gap is larger that lies next to a range of this subtree, between two ranges of the tree.
    pub(super) gap: u64,
    /// None below it has a higher one.
    pub(super) priority: u32,
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
            priority: 0,
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

    /// Its child on the side that `side` tells of its range.
    #[inline]
    fn child(&mut self, side: &impl Fn(Span<Iova>) -> Ordering) -> &mut Link<T> {
        if side(self.span) == Ordering::Less {
            &mut self.left
        } else {
            &mut self.right
        }
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
    pub(super) priorities: Priorities,
}

impl<T> Tree<T> {
    /// The empty tree, whose shape will depend on `seed`.
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            root: None,
            len: 0,
            hull: None,
            recent: Recent::nothing(),
            priorities: Priorities::new(seed),
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
                self.place(node, 0, |_| Ordering::Less);
                span
            }
            // One that lies outside of all others is on the same side of each.
            Some(hull) if span.last() < hull.first() => {
                let gap = gap_between(span.last(), hull.first());
                self.place(node, gap, |_| Ordering::Less);
                hull.hull(span)
            }
            Some(hull) if span.first() > hull.last() => {
                let gap = gap_between(hull.last(), span.first());
                self.place(node, gap, |_| Ordering::Greater);
                hull.hull(span)
            }
            Some(hull) => {
                if self.overlapping(span).is_some() {
                    return Err(node);
                }
                self.place(node, 0, |there| side_of(span, there));
                hull
            }
        };
        self.hull = Some(hull);
        self.len = self.len.wrapping_add(1);
        self.recent.inserted(span);
        Ok(())
    }

    /// Links a node, which lies on the side `side` of each range. `gap` is that between the node and all
    /// others, if it lies outside of them.
    #[inline]
    fn place(&mut self, mut node: Box<Node<T>>, gap: u64, side: impl Fn(Span<Iova>) -> Ordering) {
        let priority = self.priorities.draw();
        node.priority = priority;
        // Whoever has no subtree lies next to no gap that its parent does not know of.
        node.gap = gap;
        let mut link = &mut self.root;
        while link
            .as_deref()
            .is_some_and(|here| here.priority >= priority)
        {
            let Some(here) = link else { break };
            here.raise(gap);
            node.gap = here.gap;
            link = here.child(&side);
        }
        if let Some(rest) = link.take() {
            node.gap = cmp::max(rest.gap, gap);
            (node.left, node.right) =
                split(Some(rest), gap, |there| side(there) == Ordering::Greater);
        }
        fill(link, Some(node));
    }

    /// Removes the range that is exactly `span` if its payload is `wanted`. [`Error::NotFound`], and no
    /// change, if there is none, whatever else `span` overlaps.
    #[inline]
    pub(crate) fn remove_if(
        &mut self,
        span: Span<Iova>,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Box<Node<T>>, Error> {
        let hull = self.hull.ok_or(Error::NotFound)?;
        // The neighbours, unless there is none.
        let (mut below, mut above) = (hull.first(), hull.last());
        let mut link = &mut self.root;
        while link.as_deref().is_some_and(|here| here.span != span) {
            let Some(here) = link else { break };
            link = match side_of(span, here.span) {
                Ordering::Less => {
                    above = here.span.first();
                    &mut here.left
                }
                Ordering::Greater => {
                    below = here.span.last();
                    &mut here.right
                }
                Ordering::Equal => return Err(Error::NotFound),
            };
        }
        let found = link.as_deref().filter(|found| wanted(&found.value));
        let found = found.ok_or(Error::NotFound)?;
        if found.left.is_some() {
            below = last_of(found.left.as_deref()).map_or(below, |last| last.span.last());
        }
        if found.right.is_some() {
            above = first_of(found.right.as_deref()).map_or(above, |first| first.span.first());
        }
        let lowest = span.first() == hull.first();
        let highest = span.last() == hull.last();
        let (hull, gap) = match (lowest, highest) {
            (false, false) => (Some(hull), gap_between(below, above)),
            (false, true) => (Some(Span::between(hull.first(), below)), 0),
            (true, false) => (Some(Span::between(above, hull.last())), 0),
            (true, true) => (None, 0),
        };
        let node = if gap == 0 {
            take_out(link, gap)
        } else {
            take_out(self.told_of(span, gap), gap)
        };
        let node = node.ok_or(Error::NotFound)?;
        self.hull = hull;
        self.len = self.len.wrapping_sub(1);
        self.recent.removed(span);
        Ok(node)
    }

    /// The link to the node of `span`; all above it are told of the gap that it leaves.
    #[inline]
    fn told_of(&mut self, span: Span<Iova>, gap: u64) -> &mut Link<T> {
        let mut link = &mut self.root;
        while link.as_deref().is_some_and(|here| here.span != span) {
            let Some(here) = link else { break };
            here.raise(gap);
            link = here.child(&|there| side_of(span, there));
        }
        link
    }

    /// Takes out all ranges; in the list the lowest is the last one that was added.
    pub(crate) fn take_all(&mut self) -> List<T> {
        self.hull = None;
        self.len = 0;
        self.recent.forget();
        let mut all = List::new();
        flatten(self.root.take(), &mut all);
        all
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

impl<T> Drop for Tree<T> {
    /// Node by node: by itself a box would drop what it holds before it is gone, level by level.
    fn drop(&mut self) {
        drop(self.take_all());
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

/// Hangs a node into a link that is empty.
#[inline]
fn hang<T>(link: &mut Link<T>, node: Box<Node<T>>) -> &mut Node<T> {
    forget(link.take());
    link.insert(node)
}

/// Puts something into a link that is empty.
#[inline]
pub(super) fn fill<T>(link: &mut Link<T>, node: Link<T>) {
    forget(mem::replace(link, node));
}

/// Does without the function that would be called to drop what is empty.
fn forget<T>(empty: Link<T>) {
    debug_assert!(empty.is_none());
    mem::forget(empty);
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

/// Notes a gap at the lower end of a subtree.
pub(super) fn raise_lowest<T>(link: &mut Link<T>, gap: u64) {
    let mut next = link.as_deref_mut();
    while let Some(node) = next {
        node.raise(gap);
        next = node.left.as_deref_mut();
    }
}

/// Notes a gap at the upper end of a subtree.
pub(super) fn raise_highest<T>(link: &mut Link<T>, gap: u64) {
    let mut next = link.as_deref_mut();
    while let Some(node) = next {
        node.raise(gap);
        next = node.right.as_deref_mut();
    }
}

/// Cuts a subtree in two: the ranges that are `low`, and those above them. Beside the cut there is such
/// a gap now, if it is none that there was before (else 0).
#[inline]
pub(super) fn split<T>(
    rest: Link<T>,
    gap: u64,
    low: impl Fn(Span<Iova>) -> bool,
) -> (Link<T>, Link<T>) {
    let (mut below, mut above) = (None, None);
    let (mut end_below, mut end_above) = (&mut below, &mut above);
    let mut next = rest;
    while let Some(mut node) = next {
        node.raise(gap);
        if low(node.span) {
            next = node.right.take();
            end_below = &mut hang(end_below, node).right;
        } else {
            next = node.left.take();
            end_above = &mut hang(end_above, node).left;
        }
    }
    (below, above)
}

/// Takes out the node that a link holds, which leaves a gap.
#[inline]
fn take_out<T>(link: &mut Link<T>, gap: u64) -> Option<Box<Node<T>>> {
    let mut node = link.take()?;
    if node.left.is_some() || node.right.is_some() {
        close(link, &mut node, gap);
    }
    node.gap = 0;
    Some(node)
}

/// Joins what hangs below a node that was taken out of a link.
#[inline(never)]
fn close<T>(link: &mut Link<T>, node: &mut Node<T>, gap: u64) {
    join(link, node.left.take(), node.right.take(), gap);
}

/// Puts one tree of two into a link that is empty. One lies below the other, with a gap between them
/// (0 if one is empty).
#[inline]
pub(super) fn join<T>(link: &mut Link<T>, low: Link<T>, high: Link<T>, gap: u64) {
    let (mut link, mut low, mut high) = (link, low, high);
    loop {
        match (low, high) {
            (None, mut rest) => {
                raise_lowest(&mut rest, gap);
                return fill(link, rest);
            }
            (mut rest, None) => {
                raise_highest(&mut rest, gap);
                return fill(link, rest);
            }
            (Some(mut below), Some(mut above)) => {
                if below.priority >= above.priority {
                    below.raise(cmp::max(gap, above.gap));
                    low = below.right.take();
                    high = Some(above);
                    link = &mut hang(link, below).right;
                } else {
                    above.raise(cmp::max(gap, below.gap));
                    high = above.left.take();
                    low = Some(below);
                    link = &mut hang(link, above).left;
                }
            }
        }
    }
}

/// Moves the nodes of a subtree to a list, the highest first.
pub(super) fn flatten<T>(rest: Link<T>, nodes: &mut List<T>) {
    let mut next = rest;
    while let Some(mut node) = next {
        next = match node.right.take() {
            // It goes below its right child, whose left side it comes after.
            Some(mut right) => {
                node.right = right.left.take();
                right.left = Some(node);
                Some(right)
            }
            None => {
                let left = node.left.take();
                node.gap = 0;
                nodes.push(node);
                left
            }
        };
    }
}
