// SPDX-License-Identifier: GPL-2.0

//! The search for gaps against one that tries every page.

use proptest::prelude::*;

use super::{align, length, node, pages, span, SEED};
use crate::iova::{
    addr::{Address, Iova, PAGE},
    audit,
    span::Span,
    tree::Tree,
};

/// Pages of the small space of these tests.
const SPACE: u64 = 256;

fn build(live: &[(u64, u64)]) -> (Tree<()>, [bool; SPACE as usize]) {
    let mut tree = Tree::new(SEED);
    let mut used = [false; SPACE as usize];
    for &(first, count) in live {
        if tree.insert(node(pages(first, count), ())).is_ok() {
            for page in first..first + count {
                used[usize::try_from(page).unwrap()] = true;
            }
        }
    }
    (tree, used)
}

fn naive(used: &[bool], within: (u64, u64), count: u64, step: u64) -> Option<u64> {
    (within.0..=within.1)
        .rev()
        .filter(|first| first % step == 0 && first + count - 1 <= within.1)
        .find(|&first| (first..first + count).all(|page| !used[usize::try_from(page).unwrap()]))
}

fn search(
    tree: &mut Tree<()>,
    within: (u64, u64),
    count: u64,
    step: u64,
    tries: u32,
) -> Option<u64> {
    let window = span(within.0 * PAGE, within.1 * PAGE + PAGE - 1);
    tree.highest_gap(window, length(count * PAGE), align(step * PAGE), &mut {
        tries
    })
    .map(|found| found.at.raw() / PAGE)
}

fn window() -> impl Strategy<Value = (u64, u64)> {
    (0..SPACE, 0..SPACE).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn finds_the_highest_place(
        live in prop::collection::vec((0..SPACE - 8, 1_u64..8), 0..80),
        within in window(),
        count in 1_u64..20,
        log in 0_u32..6,
        tries in 0_u32..4,
    ) {
        let (mut tree, used) = build(&live);
        let step = 1 << log;
        let best = naive(&used, within, count, step);
        prop_assert_eq!(search(&mut tree, within, count, step, u32::MAX), best);

        // With few tries: what it finds does fit, and it finds something wherever a gap is as long
        // as fits for certain.
        let found = search(&mut tree, within, count, step, tries);
        if let Some(first) = found {
            prop_assert!(first % step == 0 && first <= best.unwrap());
            prop_assert!(first >= within.0 && first + count - 1 <= within.1);
            prop_assert!(!used[first as usize..(first + count) as usize].contains(&true));
        }
        let sure = naive(&used, within, count + step - 1, 1);
        prop_assert!(found >= sure, "{:?} {:?}", found, sure);
        if step == 1 {
            prop_assert_eq!(found, best);
        }
    }
}

/// What is done between two searches.
#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u64),
    Remove(usize),
    Search((u64, u64), u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..SPACE - 8, 1_u64..8).prop_map(|(first, count)| Step::Insert(first, count)),
        2 => any::<usize>().prop_map(Step::Remove),
        2 => (window(), 1_u64..12, 0_u32..4)
            .prop_map(|(within, count, log)| Step::Search(within, count, 1 << log)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Searches lower the bounds, removals raise them: no gap is ever overlooked.
    #[test]
    fn finds_the_highest_place_again_and_again(steps in prop::collection::vec(step(), 1..120)) {
        let mut tree: Tree<()> = Tree::new(SEED);
        let mut live: Vec<Span<Iova>> = Vec::new();
        for step in steps {
            match step {
                Step::Insert(first, count) => {
                    if tree.insert(node(pages(first, count), ())).is_ok() {
                        live.push(pages(first, count));
                    }
                }
                Step::Remove(which) if !live.is_empty() => {
                    let span = live.swap_remove(which % live.len());
                    prop_assert!(tree.remove_if(span, |()| true).is_ok());
                }
                Step::Remove(_) => prop_assert!(tree.first().is_none()),
                Step::Search(within, count, step) => {
                    let mut used = [false; SPACE as usize];
                    for span in &live {
                        for page in span.first().raw() / PAGE..=span.last().raw() / PAGE {
                            used[usize::try_from(page).unwrap()] = true;
                        }
                    }
                    let best = naive(&used, within, count, step);
                    prop_assert_eq!(search(&mut tree, within, count, step, u32::MAX), best);
                }
            }
            prop_assert_eq!(audit::tree(&tree).spans.len(), live.len());
        }
    }
}

#[test]
fn an_empty_tree_is_one_gap() {
    let (mut tree, _) = build(&[]);
    assert_eq!(search(&mut tree, (3, 10), 8, 1, 0), Some(3));
    assert_eq!(search(&mut tree, (3, 10), 9, 1, 0), None);
    assert_eq!(search(&mut tree, (3, 10), 4, 4, 0), Some(4));
}

#[test]
fn the_whole_address_space() {
    let all: Span<Iova> = span(0, u64::MAX);
    let mut tree = Tree::new(SEED);
    let top = PAGE.wrapping_neg();
    let at = |tree: &mut Tree<()>, bytes: u64, step: u64| {
        tree.highest_gap(all, length(bytes), align(step), &mut 0)
            .map(|found| found.at.raw())
    };
    assert_eq!(at(&mut tree, PAGE, PAGE), Some(top));
    assert_eq!(at(&mut tree, 1 << 63, 1 << 63), Some(1 << 63));
    assert_eq!(at(&mut tree, top, PAGE), Some(PAGE));
    assert!(tree.insert(node(span(top, u64::MAX), ())).is_ok());
    assert_eq!(at(&mut tree, PAGE, PAGE), Some(top - PAGE));
    assert_eq!(at(&mut tree, 1 << 63, 1 << 63), Some(0));
    assert_eq!(at(&mut tree, top, PAGE), Some(0));
    assert!(tree.insert(node(span(0, PAGE - 1), ())).is_ok());
    assert_eq!(at(&mut tree, 1 << 63, 1 << 63), None);
    assert_eq!(at(&mut tree, top - PAGE, PAGE), Some(PAGE));
    assert_eq!(at(&mut tree, u64::MAX, PAGE), None);
    assert!(tree.insert(node(span(PAGE, top - 1), ())).is_ok());
    assert_eq!(at(&mut tree, 1, PAGE), None);
}

#[test]
fn after_its_tries_it_enters_only_where_one_fits_for_certain() {
    // From the bottom up: a gap of 7 pages, where 4 fit at a multiple of 4 wherever it lies; then
    // many of 4 pages that begin 2 pages beside one; among them one that begins at one.
    let mut live = vec![(10, 1), (18, 7), (43, 1), (48, 1)];
    for at in (3..31).map(|at| 8 * at) {
        live.push((at + 1, 1));
        if at != 40 {
            live.push((at + 6, 1));
        }
    }
    let (mut tree, used) = build(&live);
    let within = (11, 246);
    assert_eq!(naive(&used, within, 4, 4), Some(44));
    assert_eq!(search(&mut tree, within, 4, 4, u32::MAX), Some(44));
    assert_eq!(search(&mut tree, within, 4, 4, 30), Some(44));
    assert_eq!(search(&mut tree, within, 4, 4, 8), Some(12));
    assert_eq!(search(&mut tree, within, 4, 4, 0), Some(12));
}
