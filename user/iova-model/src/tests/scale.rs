// SPDX-License-Identifier: GPL-2.0

//! Hundreds of thousands of mappings: what every operation looks at grows with the logarithm of
//! their number and no faster.

use super::{align, length, node, pages, span, SEED};
use crate::{
    boxed::count,
    iova::{
        addr::{Address, Iova, PAGE},
        allocate::{align::Alignment, Request},
        audit,
        layout::Layout,
        span::Span,
        tree::{Node, Tree},
    },
};

const MANY: u64 = 300_000;
const TOP: u64 = 1 << 48;
/// More looks than any operation may take.
const ENDLESS: u64 = 500;

/// How many levels there may be: those that are expected are 4.311 ln(n) - 1.953 ln(ln(n)), and it is
/// one in a thousand that there are nine more.
fn most_levels(nodes: usize) -> f64 {
    let log = (nodes as f64).ln();
    4.311 * log - 1.953 * log.ln() + 9.0
}

/// The numbers below `count` in some order.
fn shuffled(count: u64) -> Vec<u64> {
    let mut order: Vec<_> = (0..count).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut order);
    order
}

fn tree_of(order: &[u64]) -> Tree<u64> {
    let mut tree = Tree::new(SEED);
    for &at in order {
        assert!(tree.insert(node(pages(2 * at + 1, 1), at)).is_ok());
    }
    tree
}

/// The largest number of looks at nodes of each operation, over a sample of keys.
fn worst_looks(count: u64) -> [u64; 6] {
    let mut tree = tree_of(&shuffled(count));
    let mut worst = [0; 6];
    let mut saw = |what: usize, looks: u64| {
        // At once, rather than after hours of linear searches.
        assert!(looks < ENDLESS, "{what}: {looks}");
        worst[what] = worst[what].max(looks);
    };
    // What the tree was built from has paid for one search through all of it.
    let inside = span(0, (2 * count - 1) * PAGE);
    let (looks, found) =
        count::during(|| tree.highest_gap(inside, length(3 * PAGE), Alignment::PAGE, &mut 0));
    assert!(found.is_none() && looks <= 5 * count, "{looks}");
    for at in (0..count).step_by(97) {
        let at_span: Span<Iova> = pages(2 * at + 1, 1);
        saw(0, count::during(|| tree.get(at_span.first()).is_some()).0);
        saw(1, count::during(|| tree.next(at_span.first()).is_some()).0);
        // No room in this window, but above and below it wherever one looks.
        let gap = || tree.highest_gap(at_span, length(PAGE), Alignment::PAGE, &mut 0);
        let (looks, found) = count::during(gap);
        assert_eq!(found, None);
        saw(5, looks);
        let (looks, removed) = count::during(|| tree.remove_if(at_span, |_| true));
        saw(2, looks);
        let removed = removed.ok().unwrap();
        // The one gap of three pages.
        let mut gap =
            || tree.highest_gap(span(0, TOP - 1), length(3 * PAGE), Alignment::PAGE, &mut 0);
        assert_eq!(gap().map(|found| found.at.raw()), Some(TOP - 3 * PAGE));
        let inside = span(0, (2 * count - 1) * PAGE);
        let gap = || tree.highest_gap(inside, length(3 * PAGE), Alignment::PAGE, &mut 0);
        let (looks, found) = count::during(gap);
        if at != 0 && at != count - 1 {
            assert_eq!(
                found.map(|found| found.at),
                Some(pages::<Iova>(2 * at, 3).first())
            );
        }
        saw(3, looks);
        let (looks, inserted) = count::during(|| tree.insert(removed));
        assert!(inserted.is_ok());
        saw(4, looks);
    }
    worst
}

#[test]
fn looks_grow_with_the_logarithm() {
    let [few, many] = [1_000, 256_000].map(worst_looks);
    println!(
        "looks of get, next, remove, gap, insert, no gap: {few:?} of 1,000; {many:?} of 256,000"
    );
    // 256 times as many mappings are 8 doublings: some 20 levels more, of 24.
    for (few, many) in few.into_iter().zip(many) {
        assert!(many <= few * 5 / 2, "{few} -> {many}");
    }
    let levels = most_levels(256_000) as u64;
    assert!(many[0] <= levels && many[1] <= levels, "{many:?}");
    assert!(many[2] <= 6 * levels && many[4] <= 6 * levels, "{many:?}");
    assert!(many[3] <= 4 * levels && many[5] <= 8 * levels, "{many:?}");
}

#[test]
fn height_is_bounded_in_every_order() {
    let up: Vec<_> = (0..MANY).collect();
    let down: Vec<_> = (0..MANY).rev().collect();
    for order in [up, down, shuffled(MANY)] {
        let seen = audit::tree(&tree_of(&order));
        assert_eq!(seen.spans.len(), order.len());
        assert!(f64::from(seen.height) <= most_levels(order.len()));
    }
}

#[test]
fn three_hundred_thousand_allocations() {
    let mut layout: Layout<u64> = Layout::new(span(0, TOP - 1), SEED);
    let page = Request {
        length: length(PAGE),
        wanted: Alignment::PAGE,
        required: Alignment::PAGE,
        floor: Iova::new(1 << 40),
    };
    let take = |layout: &mut Layout<u64>| {
        let found = layout.allocate(page).unwrap();
        assert!(layout.insert(node(found, 0)).is_ok());
        found
    };
    let mut worst = 0;
    let mut total = 0;
    let mut looks_of = |work: &mut dyn FnMut()| {
        let (looks, ()) = count::during(work);
        worst = worst.max(looks);
        total += looks;
    };
    for at in 1..=MANY {
        looks_of(&mut || assert_eq!(take(&mut layout), pages(TOP / PAGE - at, 1)));
    }
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..MANY {
        let freed = pages(TOP / PAGE - rng.u64(1..=MANY), 1);
        looks_of(&mut || assert!(layout.remove_if(freed, |_| true).is_ok()));
        looks_of(&mut || assert_eq!(take(&mut layout), freed));
    }
    println!(
        "at most {worst}, on average {} looks per operation",
        total / (3 * MANY)
    );
    assert!(worst < ENDLESS, "{worst}");
    audit::tree(layout.live());
    for at in shuffled(MANY) {
        let freed = pages(TOP / PAGE - 1 - at, 1);
        assert!(layout.remove_if(freed, |_| true).is_ok());
    }
    assert_eq!(layout.live().len(), 0);
}

#[test]
fn adverse_alignment_costs_a_bounded_number_of_looks() {
    // 2 MiB aligned single pages: every gap is large enough for a page, none is aligned.
    let mut layout: Layout<u64> = Layout::new(span(0, TOP - 1), SEED);
    let huge = Request {
        length: length(PAGE),
        wanted: align(2 << 20),
        required: align(2 << 20),
        floor: Iova::new(0),
    };
    let mut worst = 0;
    for at in 1..=100_000 {
        let (looks, found) = count::during(|| layout.allocate(huge));
        assert_eq!(found, Ok(pages(TOP / PAGE - 512 * at, 1)));
        assert!(looks < ENDLESS, "{looks}");
        worst = worst.max(looks);
        assert!(layout.insert(node(found.unwrap(), at)).is_ok());
    }
    println!("at most {worst} looks");
    let first = layout.live().first().map(Node::span);
    assert_eq!(first, Some(pages(TOP / PAGE - 512 * 100_000, 1)));
}
