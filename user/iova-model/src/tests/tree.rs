// SPDX-License-Identifier: GPL-2.0

//! The tree against a `BTreeMap`, audited after every step.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{node, pages, span, SEED};
use crate::iova::{
    addr::{Address, Iova},
    audit,
    error::Error,
    span::Span,
    tree::{Node, Tree},
};

/// The same ranges, by first address, in the plainest way.
#[derive(Default)]
struct Model(BTreeMap<u64, (Span<Iova>, u32)>);

impl Model {
    fn overlapping(&self, span: Span<Iova>) -> Option<(Span<Iova>, u32)> {
        self.0
            .values()
            .copied()
            .find(|entry| entry.0.overlaps(span))
    }

    fn next(&self, after: u64) -> Option<(Span<Iova>, u32)> {
        self.0
            .values()
            .copied()
            .find(|entry| entry.0.first().raw() > after)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Span<Iova>),
    /// Removes some range as it is, if there is any.
    RemoveLive(usize),
    /// Removes what may not be there.
    Remove(Span<Iova>),
    TakeAll,
    /// Removes some range if its payload is another.
    RemoveOther(usize),
    Look(Span<Iova>),
}

/// Small numbers, so that ranges meet; some at the very end of the address space.
fn any_span() -> impl Strategy<Value = Span<Iova>> {
    (0_u64..200, 0_u64..6, prop::bool::weighted(0.1)).prop_map(|(first, more, top)| {
        let last = first + more;
        if top {
            span(u64::MAX - last, u64::MAX - first)
        } else {
            span(first, last)
        }
    })
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => any_span().prop_map(Op::Insert),
        4 => any::<usize>().prop_map(Op::RemoveLive),
        2 => any_span().prop_map(Op::Remove),
        1 => Just(Op::TakeAll),
        1 => any::<usize>().prop_map(Op::RemoveOther),
        3 => any_span().prop_map(Op::Look),
    ]
}

fn plain(node: &Node<u32>) -> (Span<Iova>, u32) {
    (node.span(), *node.value())
}

fn step(tree: &mut Tree<u32>, model: &mut Model, op: Op, serial: u32) {
    match op {
        Op::Insert(span) => match (tree.insert(node(span, serial)), model.overlapping(span)) {
            (Ok(()), None) => drop(model.0.insert(span.first().raw(), (span, serial))),
            (Err(back), Some(_)) => {
                assert_eq!(plain(&back), (span, serial));
                audit::detached(&back);
            }
            (result, overlap) => panic!("{span:?}: {}, but {overlap:?}", result.is_ok()),
        },
        Op::RemoveLive(which) => {
            if model.0.is_empty() {
                return;
            }
            let (span, value) = *model.0.values().nth(which % model.0.len()).unwrap();
            let removed = tree.remove_if(span, |_| true).ok().unwrap();
            audit::detached(&removed);
            assert_eq!(plain(&removed), (span, value));
            model.0.remove(&span.first().raw());
        }
        Op::Remove(span) => {
            let exact = model.overlapping(span).filter(|entry| entry.0 == span);
            match tree.remove_if(span, |_| true) {
                Ok(removed) => assert_eq!(Some(plain(&removed)), exact),
                Err(error) => assert_eq!((error, exact), (Error::NotFound, None)),
            }
            if exact.is_some() {
                model.0.remove(&span.first().raw());
            }
        }
        Op::TakeAll => {
            let mut all = tree.take_all();
            for expected in std::mem::take(&mut model.0).values() {
                let node = all.pop().unwrap();
                audit::detached(&node);
                assert_eq!(plain(&node), *expected);
            }
            assert!(all.pop().is_none());
        }
        Op::RemoveOther(which) => {
            let count = model.0.len().max(1);
            if let Some((span, value)) = model.0.values().copied().nth(which % count) {
                let refused = tree.remove_if(span, |payload| *payload != value).err();
                assert_eq!(refused, Some(Error::NotFound));
            }
        }
        Op::Look(span) => {
            let first = span.first();
            assert_eq!(tree.overlapping(span).map(plain), model.overlapping(span));
            assert_eq!(
                tree.overlapping(span).is_some(),
                model.overlapping(span).is_some()
            );
            assert_eq!(tree.next(first).map(plain), model.next(first.raw()));
            let here = model.overlapping(Span::between(first, first));
            assert_eq!(tree.get(first).map(plain), here);
            let exact = here.filter(|entry| entry.0 == span);
            assert_eq!(tree.get_exact(span).map(plain), exact);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn behaves_as_a_map(ops in prop::collection::vec(any_op(), 0..300)) {
        let mut tree = Tree::new(SEED);
        let mut model = Model::default();
        for (serial, op) in (0..).zip(ops) {
            step(&mut tree, &mut model, op, serial);
            audit::tree(&tree);
            let all: Vec<_> = model.0.values().copied().collect();
            prop_assert_eq!(tree.iter().map(plain).collect::<Vec<_>>(), &all[..]);
            prop_assert_eq!(tree.first().map(plain), all.first().copied());
            prop_assert_eq!(tree.last().map(plain), all.last().copied());
        }
    }
}

#[test]
fn both_ends_of_the_address_space() {
    let mut tree = Tree::new(SEED);
    for at in [span(u64::MAX, u64::MAX), span(0, 0), span(1, u64::MAX - 1)] {
        assert!(tree.insert(node(at, ())).is_ok());
    }
    assert_eq!(audit::tree(&tree).spans.len(), 3);
    assert!(tree.insert(node(span(0, u64::MAX), ())).is_err());
    assert_eq!(tree.next(Iova::MAX).map(Node::span), None);
    assert_eq!(
        tree.get(Iova::MAX).map(Node::span),
        Some(span(u64::MAX, u64::MAX))
    );
    let mut whole = Tree::new(SEED);
    assert!(whole.insert(node(span(0, u64::MAX), ())).is_ok());
    assert!(whole.overlapping(span(7, 7)).is_some());
    assert!(whole.remove_if(span(0, u64::MAX), |_| true).is_ok());
    assert_eq!(whole.len(), 0);
}

#[test]
fn every_order_of_seven() {
    fn each(order: &mut Vec<u64>, rest: &[u64], visit: &mut impl FnMut(&[u64])) {
        if rest.is_empty() {
            visit(order);
        }
        for (at, &next) in rest.iter().enumerate() {
            order.push(next);
            let others = [&rest[..at], &rest[at + 1..]].concat();
            each(order, &others, visit);
            order.pop();
        }
    }
    let keys: Vec<u64> = (1..=7).map(|key| key * key).collect();
    each(&mut Vec::new(), &keys, &mut |order| {
        let mut tree = Tree::new(SEED);
        for &key in order {
            assert!(tree.insert(node(pages(key, 1), ())).is_ok());
            audit::tree(&tree);
        }
        for &key in order {
            assert!(tree.remove_if(pages(key, 1), |_| true).is_ok());
            audit::tree(&tree);
        }
    });
}

#[test]
fn a_walk_survives_changes_between_its_steps() {
    let mut tree = Tree::new(SEED);
    for at in 0..100 {
        assert!(tree.insert(node(pages(2 * at, 1), at)).is_ok());
    }
    let mut seen = Vec::new();
    let mut next = tree.first().map(Node::span);
    while let Some(span) = next {
        seen.push(span);
        // The one it stands on goes, and one comes right behind it.
        assert!(tree.remove_if(span, |_| true).is_ok());
        assert!(tree
            .insert(node(Span::between(span.first(), span.first()), 0))
            .is_ok());
        next = tree.next(span.first()).map(Node::span);
    }
    assert_eq!(
        seen,
        (0..100).map(|at| pages(2 * at, 1)).collect::<Vec<_>>()
    );
}

#[test]
fn payloads_are_dropped_once() {
    let payload = Arc::new(());
    let mut tree = Tree::new(SEED);
    for at in 0..1000 {
        assert!(tree
            .insert(node(pages(at, 1), Arc::clone(&payload)))
            .is_ok());
    }
    assert!(tree
        .insert(node(pages(5, 1), Arc::clone(&payload)))
        .is_err());
    assert_eq!(Arc::strong_count(&payload), 1001);
    assert!(tree.remove_if(pages(7, 1), |_| true).is_ok());
    assert!(tree.remove_if(pages(500, 1), |_| true).is_ok());
    assert_eq!(Arc::strong_count(&payload), 999);
    drop(tree);
    assert_eq!(Arc::strong_count(&payload), 1);
}

#[test]
fn a_node_changes_only_outside_the_tree() {
    let mut one = node(pages(1, 1), 7);
    one.set_span(pages(3, 4));
    *one.value_mut() += 1;
    audit::detached(&one);
    let mut tree = Tree::new(SEED);
    assert!(tree.insert(one).is_ok());
    assert_eq!(audit::tree(&tree).spans, [pages(3, 4)]);
    assert_eq!(tree.get_exact(pages(3, 4)).map(plain_i32), Some(8));
}

fn plain_i32(node: &Node<i32>) -> i32 {
    *node.value()
}
