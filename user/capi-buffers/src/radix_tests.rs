// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The tree against a plain list of buffers, and under readers on other threads.

use super::*;
use proptest::prelude::*;
use std::sync::atomic::AtomicBool;

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

struct Tree {
    root: Root,
    writer: Writer,
}

impl Tree {
    fn new() -> Self {
        Self {
            root: Root::new().unwrap(),
            writer: Writer::default(),
        }
    }

    fn add(&mut self, first: usize, length: usize, iova: u64) -> Span {
        let span = Span::new(first, length, iova).unwrap();
        self.root.add(&mut self.writer, span);
        span
    }

    fn remove(&mut self, span: Span) {
        self.root.remove(&mut self.writer, span);
    }
}

#[test]
fn every_offset_and_nothing_beyond() {
    for (first, length) in [
        (0x1000, 1),
        (0x1fff, 2),
        (0x1234, 100),
        (0x20_0000, 2 * MIB),
        (0x20_0000, 2 * MIB + 4096),
        (0x20_1000, 5 * MIB),
        (3 * GIB, 3 * GIB),
        (GIB - 4096, GIB + 8192),
        (0x7fff_ffff_f000, 0x1000),
        ((1 << 57) - 3 * MIB, 3 * MIB),
    ] {
        let mut tree = Tree::new();
        let iova = 0x5000_0000_0000 | (first & 0xfff) as u64;
        let span = tree.add(first, length, iova);
        let step = (length / 7).max(1);
        for offset in (0..length).step_by(step).chain([length - 1]) {
            let found = tree.root.lookup(first + offset);
            assert_eq!(found, Some(iova + offset as u64), "{first:#x}+{offset:#x}");
        }
        assert_eq!(tree.root.lookup(first - 1), None);
        assert_eq!(tree.root.lookup(first + length), None);
        tree.remove(span);
        for offset in (0..length).step_by(step) {
            assert_eq!(tree.root.lookup(first + offset), None);
        }
        assert!(!tree.root.touches(span));
    }
}

#[test]
fn what_user_space_cannot_have_is_not_found() {
    let mut tree = Tree::new();
    let span = tree.add(usize::MAX - 4095, 4096, 0x1000);
    assert_eq!(tree.root.lookup(usize::MAX), None);
    assert!(!tree.root.touches(span));
    tree.remove(span);
}

#[test]
fn buffers_that_share_a_page_keep_their_own() {
    let mut tree = Tree::new();
    let one = tree.add(0x1010, 0x20, 0xa010);
    let other = tree.add(0x1040, 0x1000, 0xb040);
    assert_eq!(tree.root.lookup(0x102f), Some(0xa02f));
    assert_eq!(tree.root.lookup(0x1030), None);
    assert_eq!(tree.root.lookup(0x1040), Some(0xb040));
    assert_eq!(tree.root.lookup(0x203f), Some(0xc03f));
    tree.remove(one);
    assert_eq!(tree.root.lookup(0x1010), None);
    assert_eq!(tree.root.lookup(0x1040), Some(0xb040));
    tree.remove(other);
    assert_eq!(tree.root.lookup(0x1040), None);
}

#[test]
fn the_older_of_two_comes_back() {
    let mut tree = Tree::new();
    let older = tree.add(4 * MIB, 4 * MIB, 0x1_0000_0000);
    let newer = tree.add(5 * MIB, 2 * MIB, 0x2_0000_0000);
    assert_eq!(tree.root.lookup(5 * MIB - 1), Some(0x1_000f_ffff));
    assert_eq!(tree.root.lookup(5 * MIB), Some(0x2_0000_0000));
    assert_eq!(tree.root.lookup(7 * MIB), Some(0x1_0030_0000));
    tree.remove(newer);
    assert_eq!(tree.root.lookup(5 * MIB), Some(0x1_0010_0000));
    tree.remove(older);
    assert_eq!(tree.root.lookup(5 * MIB), None);
}

#[test]
fn tables_out_of_use_give_way_to_large_slots_and_are_used_again() {
    let mut tree = Tree::new();
    for _ in 0..3 {
        let small = tree.add(2 * MIB + 4096, 4096, 0x7000);
        tree.remove(small);
        let large = tree.add(2 * MIB, 2 * MIB, 0x4000_0000);
        assert_eq!(tree.writer.parked.len(), 1);
        assert_eq!(tree.root.lookup(2 * MIB + 4096), Some(0x4000_1000));
        let small = tree.add(2 * MIB + 4096, 4096, 0x7000);
        assert_eq!(tree.writer.parked.len(), 0);
        assert_eq!(tree.root.lookup(2 * MIB + 4096), Some(0x7000));
        assert_eq!(tree.root.lookup(2 * MIB + 8192), Some(0x4000_2000));
        tree.remove(large);
        assert_eq!(tree.root.lookup(2 * MIB + 4096), Some(0x7000));
        assert_eq!(tree.root.lookup(2 * MIB + 8192), None);
        tree.remove(small);
    }
}

#[test]
fn nodes_are_used_again() {
    let mut tree = Tree::new();
    for _ in 0..100 {
        let one = tree.add(0x1010, 0x20, 0xa010);
        let other = tree.add(0x1040, 0x20, 0xb040);
        tree.remove(one);
        tree.remove(other);
    }
    assert_eq!(tree.writer.nodes.len(), 2);
}

/// A buffer near the bounds of slots of every size.
fn span() -> impl Strategy<Value = Span> {
    let place = prop_oneof![
        4 => (0..6_usize).prop_map(|page| page << 12),
        2 => (500..530_usize).prop_map(|page| page << 12),
        1 => (0..4_usize).prop_map(|large| large << 21),
        1 => Just(GIB - 4096),
    ];
    let length = prop_oneof![
        2 => 1..5000_usize,
        2 => (1..6_usize).prop_map(|pages| pages << 12),
        1 => (1..4_usize).prop_map(|large| large << 21),
        1 => Just(GIB + 4096),
    ];
    let offset = prop_oneof![2 => Just(0), 1 => 0..4096_usize];
    (place, offset, length, 1..1_000_u64).prop_map(|(place, offset, length, frame)| Span {
        first: 8 * GIB + place + offset,
        last: 8 * GIB + place + offset + length - 1,
        iova: (frame << 32) + offset as u64,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn agrees_with_a_list(
        steps in prop::collection::vec((span(), any::<prop::sample::Index>(), 0..3_u8), 1..25)
    ) {
        let mut tree = Tree::new();
        let mut model: Vec<Span> = Vec::new();
        for (span, index, kind) in steps {
            if kind == 0 && !model.is_empty() {
                tree.remove(model.remove(index.index(model.len())));
            } else if !model.iter().any(|other| other.iova == span.iova) {
                tree.root.add(&mut tree.writer, span);
                model.push(span);
            }
            let mut places = vec![];
            for span in model.iter().chain([&span]) {
                let middle = span.first + (span.last - span.first) / 2;
                places.extend([span.first - 1, span.first, middle, span.last, span.last + 1]);
            }
            for address in places {
                let holds = |span: &&Span| span.first <= address && address <= span.last;
                let expected = model.iter().rev().find(holds);
                let expected = expected.map(|span| span.iova + (address - span.first) as u64);
                prop_assert_eq!(tree.root.lookup(address), expected, "{:#x}", address);
            }
            let touched = model
                .iter()
                .any(|other| other.first <= span.last && span.first <= other.last);
            prop_assert_eq!(tree.root.touches(span), touched);
        }
    }
}

/// Readers see, of the buffers that come and go under them, only what was mapped there:
/// each buffer has an IOVA that says which addresses it may be found at.
#[test]
fn readers_see_whole_answers() {
    const ROUNDS: usize = if cfg!(miri) { 30 } else { 30_000 };
    static STOP: AtomicBool = AtomicBool::new(false);
    let mut tree = Tree::new();
    let root = Root {
        slots: tree.root.slots,
    };
    // IOVA and address differ by a multiple of this, and in no other way.
    const APART: u64 = 1 << 40;
    // Always there, under those that come and go.
    let base = 2 * MIB;
    let fixed = tree.add(base, 2 * MIB, APART + base as u64);

    std::thread::scope(|scope| {
        for reader in 0..2_usize {
            let root = &root;
            scope.spawn(move || {
                let mut state = reader + 1;
                while !STOP.load(Ordering::Relaxed) {
                    state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    let address = base + (state >> 40) % (2 * MIB + 0x4000);
                    let found = root.lookup(address);
                    match found {
                        Some(iova) => assert_eq!(iova % APART, address as u64),
                        None => assert!(address > fixed.last, "{address:#x}"),
                    }
                }
            });
        }
        let mut live: Vec<Span> = Vec::new();
        let mut state = 7_usize;
        for round in 0..ROUNDS {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(3);
            if live.len() > 6 {
                let gone = live.swap_remove((state >> 33) % live.len());
                tree.remove(gone);
            }
            let offset = (state >> 40) % (2 * MIB);
            let length = 1 + (state >> 20) % 0x3000;
            let iova = APART * (2 + round as u64) + (base + offset) as u64;
            live.push(tree.add(base + offset, length, iova));
        }
        STOP.store(true, Ordering::Relaxed);
    });
}
