// SPDX-License-Identifier: GPL-2.0

//! `List`, nodes that are in no tree: those that were taken out together, and those that are kept for
//! the next to come. It allocates nothing, and dropping it takes no more stack than one node does.

use super::tree::{fill, Link, Node};
use crate::boxed::Box;

/// A pile of nodes, linked through what is their left child in a tree.
pub(crate) struct List<T> {
    top: Link<T>,
    len: usize,
}

impl<T> List<T> {
    /// The empty list.
    pub(crate) const fn new() -> Self {
        Self { top: None, len: 0 }
    }

    /// How many nodes there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a node that is in no tree.
    #[inline]
    pub(crate) fn push(&mut self, mut node: Box<Node<T>>) {
        fill(&mut node.left, self.top.take());
        fill(&mut self.top, Some(node));
        self.len = self.len.wrapping_add(1);
    }

    /// Takes out the node that was added last.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Box<Node<T>>> {
        let mut node = self.top.take()?;
        fill(&mut self.top, node.left.take());
        self.len = self.len.wrapping_sub(1);
        Some(node)
    }

    /// The nodes, the last one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node<T>> {
        let mut next = self.top.as_deref();
        core::iter::from_fn(move || {
            let node = next?;
            next = node.left.as_deref();
            Some(node)
        })
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
