// SPDX-License-Identifier: GPL-2.0

//! Ranges that enter and leave a tree together, against a `BTreeMap`, audited after every step.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{align, length, node, pages, span, SEED};
use crate::{
    boxed::count,
    iova::{
        addr::{Address, Iova, PAGE},
        allocate::{align::Alignment, Request},
        audit,
        layout::Layout,
        list::List,
        span::Span,
        tree::{Node, Tree},
    },
};

type Model = BTreeMap<u64, (Span<Iova>, u32)>;

/// Ranges of some pages each, with gaps before them; in ascending order.
fn row(first: u64, steps: &[(u64, u64)]) -> Vec<Span<Iova>> {
    let mut next = first;
    let place = |&(gap, count): &(u64, u64)| {
        let at = pages(next + gap, count);
        next += gap + count;
        at
    };
    steps.iter().map(place).collect()
}

fn list_of(spans: &[Span<Iova>], serial: u32) -> List<u32> {
    let mut list = List::new();
    for &span in spans {
        list.push(node(span, serial));
    }
    list
}

fn plain(node: &Node<u32>) -> (Span<Iova>, u32) {
    (node.span(), *node.value())
}

fn spans_of(model: &Model, which: (usize, usize)) -> Vec<Span<Iova>> {
    let all: Vec<_> = model.values().map(|entry| entry.0).collect();
    let (one, other) = (which.0 % (all.len() + 1), which.1 % (all.len() + 1));
    all[one.min(other)..one.max(other)].to_vec()
}

#[derive(Clone, Debug)]
enum Op {
    /// Some ranges, in this order.
    Insert(Vec<Span<Iova>>),
    One(Span<Iova>),
    /// Neighbours.
    Remove((usize, usize)),
    /// Neighbours but for this one of them.
    RemoveMost((usize, usize), usize),
    /// Neighbours, two of them exchanged.
    RemoveMixed((usize, usize), usize),
    /// Neighbours, if their payload is another.
    RemoveOthers((usize, usize)),
    RemoveOne(usize),
    /// Looks for so many pages, which corrects bounds.
    Search(u64),
}

fn any_row() -> impl Strategy<Value = Vec<Span<Iova>>> {
    let step = (prop_oneof![4 => Just(0_u64), 1 => 0_u64..4], 1_u64..3);
    (0_u64..400, prop::collection::vec(step, 1..40)).prop_map(|(first, steps)| row(first, &steps))
}

fn any_op() -> impl Strategy<Value = Op> {
    let which = || (any::<usize>(), any::<usize>());
    prop_oneof![
        6 => any_row().prop_map(Op::Insert),
        1 => any_row().prop_shuffle().prop_map(Op::Insert),
        4 => (0_u64..500, 1_u64..3).prop_map(|(first, count)| Op::One(pages(first, count))),
        4 => which().prop_map(Op::Remove),
        1 => (which(), any::<usize>()).prop_map(|(which, but)| Op::RemoveMost(which, but)),
        1 => (which(), any::<usize>()).prop_map(|(which, at)| Op::RemoveMixed(which, at)),
        1 => which().prop_map(Op::RemoveOthers),
        4 => any::<usize>().prop_map(Op::RemoveOne),
        3 => (1_u64..60).prop_map(Op::Search),
    ]
}

/// Whether they can go in: ascending, in one gap.
fn fits(model: &Model, spans: &[Span<Iova>]) -> bool {
    let ascending = spans
        .windows(2)
        .all(|pair| pair[0].last() < pair[1].first());
    let Some(hull) = spans.iter().copied().reduce(Span::hull) else {
        return false;
    };
    ascending && !model.values().any(|entry| entry.0.overlaps(hull))
}

fn removes(tree: &mut Tree<u32>, model: &mut Model, spans: &[Span<Iova>]) {
    let wanted: Vec<_> = spans
        .iter()
        .map(|span| model[&span.first().raw()])
        .collect();
    let removed = tree.remove_all(spans.iter().copied(), |_| true);
    if spans.is_empty() {
        assert!(removed.is_none());
        return;
    }
    let mut removed = removed.unwrap();
    assert_eq!(removed.len(), spans.len());
    for wanted in wanted {
        let node = removed.pop().unwrap();
        audit::detached(&node);
        assert_eq!(plain(&node), wanted);
        model.remove(&node.span().first().raw());
    }
}

fn step(tree: &mut Tree<u32>, model: &mut Model, op: Op, serial: u32) {
    match op {
        Op::Insert(spans) => match tree.insert_all(list_of(&spans, serial)) {
            Ok(()) => {
                assert!(fits(model, &spans), "{spans:?}");
                model.extend(
                    spans
                        .iter()
                        .map(|span| (span.first().raw(), (*span, serial))),
                );
            }
            Err(mut back) => {
                assert!(!fits(model, &spans), "{spans:?}");
                for span in spans.iter().rev() {
                    let node = back.pop().unwrap();
                    audit::detached(&node);
                    assert_eq!(plain(&node), (*span, serial));
                }
                assert_eq!(back.len(), 0);
            }
        },
        Op::One(span) => {
            if tree.insert(node(span, serial)).is_ok() {
                model.insert(span.first().raw(), (span, serial));
            }
        }
        Op::Remove(which) => {
            let spans = spans_of(model, which);
            removes(tree, model, &spans);
        }
        Op::RemoveMost(which, but) => {
            let mut spans = spans_of(model, which);
            if spans.is_empty() {
                return;
            }
            let but = but % spans.len();
            spans.remove(but);
            if but == 0 || but == spans.len() {
                removes(tree, model, &spans);
            } else {
                assert!(tree.remove_all(spans.iter().copied(), |_| true).is_none());
            }
        }
        Op::RemoveMixed(which, at) => {
            let mut spans = spans_of(model, which);
            if spans.len() < 2 {
                return;
            }
            let at = at % (spans.len() - 1);
            spans.swap(at, at + 1);
            assert!(tree.remove_all(spans.iter().copied(), |_| true).is_none());
            spans.swap(at, at + 1);
            // Named twice.
            spans[at] = spans[at + 1];
            assert!(tree.remove_all(spans.iter().copied(), |_| true).is_none());
        }
        Op::RemoveOthers(which) => {
            let spans = spans_of(model, which);
            if let Some(last) = spans.last() {
                let other = model[&last.first().raw()].1;
                let removed = tree.remove_all(spans.iter().copied(), |value| *value != other);
                assert!(removed.is_none());
            }
        }
        Op::RemoveOne(which) => {
            let count = model.len().max(1);
            if let Some((span, _)) = model.values().copied().nth(which % count) {
                assert!(tree.remove_if(span, |_| true).is_ok());
                model.remove(&span.first().raw());
            }
        }
        Op::Search(count) => {
            let all = span(0, 600 * PAGE - 1);
            let found = tree.highest_gap(all, length(count * PAGE), Alignment::PAGE, &mut 0);
            let free = |first: &u64| {
                let there: Span<Iova> = pages(*first, count);
                !model.values().any(|entry| entry.0.overlaps(there))
            };
            let best = (0..=600 - count).rev().find(free);
            assert_eq!(found.map(|found| found.at.raw() / PAGE), best);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1200))]

    #[test]
    fn behaves_as_a_map(ops in prop::collection::vec(any_op(), 0..60)) {
        let mut tree = Tree::new(SEED);
        let mut model = Model::new();
        for (serial, op) in (0..).zip(ops) {
            step(&mut tree, &mut model, op, serial);
            audit::tree(&tree);
            let all: Vec<_> = model.values().copied().collect();
            prop_assert_eq!(tree.iter().map(plain).collect::<Vec<_>>(), &all[..]);
        }
    }

    /// What is found for several at once is free, as one range of that size would be found; and what
    /// was found last is not kept for longer than it holds.
    #[test]
    fn room_for_several(ops in prop::collection::vec((0_u8..4, 1_u64..40, any::<usize>()), 1..60)) {
        let mut layout: Layout<u32> = Layout::new(span(0, 600 * PAGE - 1), SEED);
        let mut model = Model::new();
        for (serial, (what, count, which)) in (0..).zip(ops) {
            let request = Request {
                length: length(count * PAGE),
                wanted: align(PAGE << (which % 3)),
                required: Alignment::PAGE,
                floor: Iova::new(64 * PAGE),
            };
            let together = what == 0 || what == 1;
            let found = if together {
                layout.allocate_together(request)
            } else {
                layout.allocate(Request { length: length(PAGE), ..request }).ok()
            };
            let step = request.wanted.get() / PAGE;
            let naive = (64..=600 - count).rev().find(|&first| {
                let there: Span<Iova> = pages(first, count);
                first % step == 0 && !model.values().any(|entry| entry.0.overlaps(there))
            });
            if let Some(found) = found {
                prop_assert!(!model.values().any(|entry| entry.0.overlaps(found)));
                prop_assert!(!together || found.first().raw() >= 64 * PAGE);
            }
            if together && request.wanted == Alignment::PAGE {
                prop_assert_eq!(found.is_some(), naive.is_some());
            }
            match found {
                Some(found) if what == 0 => {
                    let first = found.first().raw() / PAGE;
                    let spans = row(first, &vec![(0, 1); usize::try_from(count).unwrap()]);
                    prop_assert!(layout.live_mut().insert_all(list_of(&spans, serial)).is_ok());
                    model.extend(spans.iter().map(|span| (span.first().raw(), (*span, serial))));
                }
                Some(_) if what == 1 => layout.forget_search(),
                Some(found) => {
                    prop_assert!(layout.insert(node(found, serial)).is_ok());
                    model.insert(found.first().raw(), (found, serial));
                }
                None => {}
            }
            if what == 3 || found.is_none() {
                let spans = spans_of(&model, (which, which / 7));
                removes_from(&mut layout, &mut model, &spans);
            }
            audit::tree(layout.live());
        }
    }
}

fn removes_from(layout: &mut Layout<u32>, model: &mut Model, spans: &[Span<Iova>]) {
    removes(layout.live_mut(), model, spans);
}

#[test]
fn nothing_is_no_row() {
    let mut tree: Tree<u32> = Tree::new(SEED);
    assert!(tree.insert_all(List::new()).is_err());
    assert!(tree.remove_all([].into_iter(), |_| true).is_none());
    assert!(tree
        .remove_all([pages(1, 1)].into_iter(), |_| true)
        .is_none());
    let whole = span(0, u64::MAX);
    assert!(tree.insert_all(list_of(&[whole], 1)).is_ok());
    audit::tree(&tree);
    assert!(tree.remove_all([whole].into_iter(), |_| true).is_some());
    assert_eq!(audit::tree(&tree).spans, []);
}

/// One step for each besides some for the depth of the tree.
#[test]
fn looks_are_few() {
    const MANY: u64 = 100_000;
    let mut tree = Tree::new(SEED);
    for at in 0..MANY {
        assert!(tree.insert(node(pages(3000 * at, 1), 0)).is_ok());
    }
    let spans = row(3000 * (MANY / 2) + 1, &[(0, 1); 1000]);
    for _ in 0..3 {
        let nodes = list_of(&spans, 7);
        let (looks, inserted) = count::during(|| tree.insert_all(nodes));
        assert!(inserted.is_ok());
        println!("inserted with {looks} looks");
        assert!(looks < 20 * 1000 + 2000, "{looks}");
        let (looks, removed) = count::during(|| tree.remove_all(spans.iter().copied(), |_| true));
        assert_eq!(removed.map(|removed| removed.len()), Some(1000));
        println!("removed with {looks} looks");
        assert!(looks < 20 * 1000 + 2000, "{looks}");
        audit::tree(&tree);
    }
}

#[test]
fn payloads_are_dropped_once() {
    let payload = Arc::new(());
    let mut tree = Tree::new(SEED);
    for at in [0, 5_000] {
        assert!(tree
            .insert(node(pages(at, 1), Arc::clone(&payload)))
            .is_ok());
    }
    let spans = row(100, &[(0, 1); 100]);
    let mut list = List::new();
    for &span in &spans {
        list.push(node(span, Arc::clone(&payload)));
    }
    assert!(tree.insert_all(list).is_ok());
    assert_eq!(Arc::strong_count(&payload), 103);
    drop(tree.remove_all(spans[10..40].iter().copied(), |_| true));
    assert_eq!(Arc::strong_count(&payload), 73);
    drop(tree);
    assert_eq!(Arc::strong_count(&payload), 1);
}
