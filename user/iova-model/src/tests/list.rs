// SPDX-License-Identifier: GPL-2.0

//! Nodes that are in no tree.

use super::{node, pages, SEED};
use crate::iova::{audit, list::List, tree::Tree};

#[test]
fn the_last_one_comes_first_and_fits_into_a_tree_again() {
    let mut list = List::new();
    assert!(list.pop().is_none());
    for at in 1..=3 {
        list.push(node(pages(at, 1), at));
    }
    let seen: Vec<u64> = list.iter().map(|node| *node.value()).collect();
    assert_eq!((seen, list.len()), (vec![3, 2, 1], 3));
    let mut tree = Tree::new(SEED);
    while let Some(node) = list.pop() {
        audit::detached(&node);
        assert!(tree.insert(node).is_ok());
    }
    assert_eq!((list.len(), tree.len()), (0, 3));
    audit::tree(&tree);
}

#[test]
fn a_long_one_is_dropped_without_much_of_a_stack() {
    let long = || {
        let mut list = List::new();
        for at in 1..=200_000 {
            list.push(node(pages(at, 1), ()));
        }
    };
    let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(long);
    assert!(thread.unwrap().join().is_ok());
}
