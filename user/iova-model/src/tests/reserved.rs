// SPDX-License-Identifier: GPL-2.0

//! The list of reserved ranges, against a set of single addresses.

use proptest::prelude::*;

use super::{pages, span};
use crate::iova::{
    addr::{Address, Iova, PAGE},
    error::Error,
    reserved::{Reserved, CAPACITY},
    span::Span,
};

fn list(reserved: &Reserved) -> Vec<Span<Iova>> {
    reserved.iter().collect()
}

#[test]
fn begins_with_page_0() {
    let reserved = Reserved::new();
    assert_eq!(list(&reserved), [span(0, PAGE - 1)]);
    assert_eq!(reserved.overlapping(pages(0, 1)), Some(pages(0, 1)));
    assert_eq!(reserved.overlapping(pages(1, 1)), None);
}

#[test]
fn full_means_no_room_for_one_more_apart() {
    let mut reserved = Reserved::new();
    // From the top down, so that each goes in before the others.
    for at in (1..CAPACITY as u64).rev() {
        reserved.add(pages(at * 10, 2)).unwrap();
    }
    let before = list(&reserved);
    assert_eq!(before.len(), CAPACITY);
    assert_eq!(reserved.add(pages(5000, 1)), Err(Error::TooManyReserved));
    assert_eq!(reserved.add(pages(5, 1)), Err(Error::TooManyReserved));
    assert_eq!(list(&reserved), before);
    // What merges still fits, and makes room.
    reserved.add(pages(12, 1)).unwrap();
    assert_eq!(list(&reserved).len(), CAPACITY);
    reserved.add(pages(15, 30)).unwrap();
    assert_eq!(list(&reserved).len(), CAPACITY - 2);
    reserved.add(span(0, u64::MAX)).unwrap();
    assert_eq!(list(&reserved), [span(0, u64::MAX)]);
}

proptest! {
    #[test]
    fn is_the_union_sorted_and_merged(
        added in prop::collection::vec((0_u64..60, 1_u64..5), 0..20),
    ) {
        let mut reserved = Reserved::new();
        let mut model = [false; 70];
        model[0] = true;
        for (first, count) in added {
            reserved.add(pages(first, count)).unwrap();
            for page in first..first + count {
                model[page as usize] = true;
            }
            let list = list(&reserved);
            for pair in list.windows(2) {
                prop_assert!(pair[0].last().checked_add(1).unwrap() < pair[1].first());
            }
            for (page, &set) in model.iter().enumerate() {
                let page = pages::<Iova>(page as u64, 1);
                prop_assert_eq!(list.iter().any(|entry| entry.contains_span(page)), set);
                prop_assert_eq!(reserved.overlapping(page).is_some(), set);
            }
        }
    }
}
