// SPDX-License-Identifier: GPL-2.0

//! Looks at every node of a tree, and panics unless it is in order, in balance and rightly summed
//! up. A child of `iova`, because nobody else may look inside a node.

// Unlike what it audits, it is meant to panic.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::{
    addr::{Address, Iova},
    span::Span,
    tree::{Link, Node, Tree},
};

/// What an audit saw.
pub(crate) struct Seen {
    /// The ranges, in the order of the tree.
    pub(crate) spans: Vec<Span<Iova>>,
    /// How many levels there are.
    pub(crate) height: u8,
}

/// Audits a whole tree.
pub(crate) fn tree<T>(tree: &Tree<T>) -> Seen {
    let mut spans = Vec::new();
    let height = subtree(&tree.root, &mut spans);
    assert_eq!(tree.len(), spans.len(), "length");
    Seen { spans, height }
}

/// Audits a node that was handed out.
pub(crate) fn detached<T>(node: &Node<T>) {
    assert!(node.left.is_none() && node.right.is_none(), "children");
    check_summary(node, &[node.span]);
    assert_eq!(node.height, 1, "height");
}

fn subtree<T>(link: &Link<T>, spans: &mut Vec<Span<Iova>>) -> u8 {
    let Some(node) = link.as_deref() else {
        return 0;
    };
    let begin = spans.len();
    let left = subtree(&node.left, spans);
    spans.push(node.span);
    let right = subtree(&node.right, spans);
    assert!(left.abs_diff(right) <= 1, "out of balance: {left}, {right}");
    assert_eq!(node.height, left.max(right) + 1, "height");
    check_summary(node, &spans[begin..]);
    node.height
}

fn check_summary<T>(node: &Node<T>, spans: &[Span<Iova>]) {
    for pair in spans.windows(2) {
        assert!(pair[0].last() < pair[1].first(), "out of order: {pair:?}");
    }
    let gap = spans
        .windows(2)
        .map(|pair| pair[1].first().raw() - pair[0].last().raw() - 1)
        .max();
    assert_eq!(node.summary.min, spans[0].first(), "min");
    assert_eq!(node.summary.max, spans[spans.len() - 1].last(), "max");
    assert_eq!(node.summary.gap, gap.unwrap_or(0), "gap");
}
