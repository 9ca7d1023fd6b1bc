// SPDX-License-Identifier: GPL-2.0

//! Looks at every node of a tree, and panics unless it is in order, each below one of no lower priority, and no gap is larger
//! than its nodes say. A child of `iova`, because nobody else may look inside a node.

// Unlike what it audits, it is meant to panic.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::{
    addr::{Address, Iova},
    span::Span,
    tree::{Link, Node, Tree, LEVELS},
};

/// What an audit saw.
pub(crate) struct Seen {
    /// The ranges, in the order of the tree.
    pub(crate) spans: Vec<Span<Iova>>,
    /// How many levels there are.
    pub(crate) height: u32,
}

/// Audits a whole tree.
pub(crate) fn tree<T>(tree: &Tree<T>) -> Seen {
    let mut spans = Vec::new();
    let height = subtree(&tree.root, &mut spans);
    assert!(height <= LEVELS, "{height} levels");
    assert_eq!(tree.len(), spans.len(), "length");
    let hull = |first: &Span<Iova>, last: &Span<Iova>| first.hull(*last);
    let hull = spans
        .first()
        .zip(spans.last())
        .map(|(first, last)| hull(first, last));
    assert_eq!(tree.hull, hull, "hull");
    for pair in spans.windows(2) {
        assert!(pair[0].last() < pair[1].first(), "out of order: {pair:?}");
    }
    gaps(&tree.root, None, None);
    Seen { spans, height }
}

/// Audits a node that was handed out.
pub(crate) fn detached<T>(node: &Node<T>) {
    assert!(node.left.is_none() && node.right.is_none(), "children");
    assert_eq!(node.gap, 0, "gap");
}

fn subtree<T>(link: &Link<T>, spans: &mut Vec<Span<Iova>>) -> u32 {
    let Some(node) = link.as_deref() else {
        return 0;
    };
    let left = subtree(&node.left, spans);
    spans.push(node.span);
    let right = subtree(&node.right, spans);
    for child in [&node.left, &node.right].into_iter().flatten() {
        assert!(child.priority <= node.priority, "priority");
    }
    left.max(right) + 1
}

/// The largest gap next to a range of a subtree, between two ranges of the tree.
fn gaps<T>(link: &Link<T>, low: Option<Iova>, high: Option<Iova>) -> u64 {
    let Some(node) = link.as_deref() else {
        return low
            .zip(high)
            .map_or(0, |(low, high)| high.raw() - low.raw() - 1);
    };
    let left = gaps(&node.left, low, Some(node.span.first()));
    let right = gaps(&node.right, Some(node.span.last()), high);
    let gap = left.max(right);
    assert!(node.gap >= gap, "bound {} of a gap of {gap}", node.gap);
    gap
}
