// SPDX-License-Identifier: GPL-2.0

//! The rules of a space: what is refused and in which order, restriction by joining PFs, and where
//! allocations go.

use proptest::prelude::*;

use super::{align, length, node, pages, span, SEED};
use crate::iova::{
    addr::{Address, Iova, PAGE},
    allocate::{align::Alignment, NoSpace, Request},
    error::Error,
    layout::{Conflict, Layout},
    reserved::CAPACITY,
    span::Span,
    tree::Node,
};

const M2: u64 = 2 << 20;
const TOP: u64 = 1 << 48;

fn request(bytes: u64, wanted: u64, required: u64, floor: u64) -> Request {
    Request {
        length: length(bytes),
        wanted: align(wanted),
        required: align(required),
        floor: Iova::new(floor),
    }
}

fn page_request(floor: u64) -> Request {
    request(PAGE, PAGE, PAGE, floor)
}

/// Allocates and records, as the module does.
fn take(layout: &mut Layout<u32>, request: Request) -> Result<Span<Iova>, NoSpace> {
    let found = layout.allocate(request)?;
    let mut node = node(pages(1, 1), 0);
    node.set_span(found);
    assert!(layout.insert(node).is_ok());
    Ok(found)
}

fn put(layout: &mut Layout<u32>, span: Span<Iova>) {
    assert!(layout.insert(node(span, 0)).is_ok(), "{span:?}");
}

fn refusal(layout: &mut Layout<u32>, span: Span<Iova>) -> Option<Error> {
    let before = layout.live().len();
    let free = layout.is_free(span);
    let inserted = layout.insert(node(span, 9)).map_err(|refused| {
        assert_eq!((refused.node.span(), *refused.node.value()), (span, 9));
        refused.error
    });
    assert_eq!(layout.live().len() - before, usize::from(inserted.is_ok()));
    assert_eq!(free, inserted.is_ok());
    inserted.err()
}

/// Whether a mapping could be recorded at `span`; it is not.
fn check(layout: &mut Layout<u32>, span: Span<Iova>) -> Result<(), Error> {
    match refusal(layout, span) {
        Some(error) => Err(error),
        None => layout.remove_if(span, |_| true).map(|_| ()),
    }
}

#[test]
fn refusals_in_order() {
    let mut layout = Layout::new(span(0, 100 * PAGE - 1), SEED);
    assert_eq!(layout.restrict(layout.aperture(), &[pages(50, 10)]), Ok(()));
    put(&mut layout, pages(40, 10));
    assert_eq!(
        refusal(&mut layout, pages(99, 2)),
        Some(Error::OutsideAperture)
    );
    assert_eq!(
        refusal(&mut layout, pages(45, 100)),
        Some(Error::OutsideAperture)
    );
    assert_eq!(refusal(&mut layout, pages(45, 10)), Some(Error::Reserved));
    assert_eq!(refusal(&mut layout, pages(59, 1)), Some(Error::Reserved));
    assert_eq!(refusal(&mut layout, pages(0, 1)), Some(Error::Reserved));
    assert_eq!(refusal(&mut layout, pages(49, 1)), Some(Error::Overlap));
    assert_eq!(refusal(&mut layout, pages(30, 11)), Some(Error::Overlap));
    assert_eq!(
        refusal(&mut layout, span(PAGE, PAGE)),
        Some(Error::Misaligned)
    );
    assert_eq!(refusal(&mut layout, pages(99, 1)), None);
    assert_eq!(refusal(&mut layout, pages(60, 1)), None);
    assert_eq!(refusal(&mut layout, pages(1, 39)), None);
    assert_eq!(layout.reserved().iter().count(), 2);
}

#[test]
fn removal_is_exact() {
    let mut layout = Layout::new(span(0, TOP - 1), SEED);
    put(&mut layout, pages(10, 4));
    put(&mut layout, pages(14, 4));
    for wrong in [
        pages(10, 3),
        pages(11, 3),
        pages(10, 8),
        pages(9, 5),
        pages(20, 1),
    ] {
        assert_eq!(
            layout.remove_if(wrong, |_| true).err(),
            Some(Error::NotFound)
        );
    }
    // Nor does one go whose payload is another.
    assert!(layout
        .remove_if(pages(10, 4), |&payload| payload == 3)
        .is_err());
    assert_eq!(layout.live().len(), 2);
    let removed = layout.remove_if(pages(10, 4), |_| true).ok().unwrap();
    assert_eq!(*removed.value(), 0);
    let rest = layout.live_mut().take_all();
    assert!(rest.iter().map(Node::span).eq([pages(14, 4)]));
    assert!(layout.live().first().is_none());
}

#[test]
fn the_last_page_of_all() {
    let mut layout = Layout::new(span(0, u64::MAX), SEED);
    let last = span(PAGE.wrapping_neg(), u64::MAX);
    assert_eq!(refusal(&mut layout, last), None);
    assert_eq!(refusal(&mut layout, last), Some(Error::Overlap));
    assert!(layout.remove_if(last, |_| true).is_ok());
}

#[test]
fn restriction_is_refused_whole_and_names_the_mapping() {
    let mut layout = Layout::new(span(0, TOP - 1), SEED);
    put(&mut layout, pages(10, 2));
    put(&mut layout, pages(1000, 2));
    let unchanged = |layout: &Layout<u32>| {
        assert_eq!(layout.aperture(), span(0, TOP - 1));
        assert_eq!(layout.reserved().iter().count(), 1);
    };
    let live = pages(1000, 2);
    let aperture = span(PAGE, 1001 * PAGE - 1);
    assert_eq!(
        layout.restrict(aperture, &[pages(500, 1)]),
        Err(Conflict::OutsideAperture { live, aperture })
    );
    unchanged(&layout);
    let live = pages(10, 2);
    let aperture = span(11 * PAGE, TOP - 1);
    assert_eq!(
        layout.restrict(span(11 * PAGE, u64::MAX), &[]),
        Err(Conflict::OutsideAperture { live, aperture })
    );
    unchanged(&layout);
    let reserved = pages(11, 5);
    assert_eq!(
        layout.restrict(layout.aperture(), &[pages(500, 1), reserved]),
        Err(Conflict::Reserved { live, reserved })
    );
    unchanged(&layout);
    assert_eq!(
        layout.restrict(span(TOP, u64::MAX), &[]),
        Err(Conflict::NoAperture)
    );
    let many: Vec<_> = (0..CAPACITY as u64)
        .map(|at| pages(2000 + 2 * at, 1))
        .collect();
    assert_eq!(
        layout.restrict(layout.aperture(), &many),
        Err(Conflict::TooManyReserved)
    );
    unchanged(&layout);
}

#[test]
fn restrictions_add_up_until_reset() {
    let mut layout: Layout<u32> = Layout::new(span(0, TOP - 1), SEED);
    put(&mut layout, pages(100, 1));
    assert_eq!(
        layout.restrict(span(0, (1 << 40) - 1), &[pages(200, 1)]),
        Ok(())
    );
    assert_eq!(
        layout.restrict(span(PAGE, u64::MAX), &[pages(300, 1)]),
        Ok(())
    );
    assert_eq!(layout.aperture(), span(PAGE, (1 << 40) - 1));
    assert_eq!(check(&mut layout, pages(200, 1)), Err(Error::Reserved));
    assert_eq!(check(&mut layout, pages(300, 1)), Err(Error::Reserved));
    assert_eq!(
        check(&mut layout, span(1 << 40, (1 << 40) + PAGE - 1)),
        Err(Error::OutsideAperture)
    );
    layout.reset_rules();
    assert_eq!(layout.aperture(), span(0, TOP - 1));
    assert_eq!(check(&mut layout, pages(200, 1)), Ok(()));
    assert_eq!(check(&mut layout, pages(0, 1)), Err(Error::Reserved));
    assert_eq!(check(&mut layout, pages(100, 1)), Err(Error::Overlap));
}

#[test]
fn another_domain_forgets_the_rules_but_not_the_mappings() {
    let mut layout = Layout::new(span(0, TOP - 1), SEED);
    put(&mut layout, pages(100, 1));
    assert_eq!(
        layout.restrict(span(0, (1 << 40) - 1), &[pages(200, 1)]),
        Ok(())
    );
    let narrow = span(0, 50 * PAGE - 1);
    layout.set_widest(narrow);
    assert_eq!(layout.aperture(), narrow);
    assert_eq!(check(&mut layout, pages(49, 1)), Ok(()));
    assert_eq!(
        check(&mut layout, pages(50, 1)),
        Err(Error::OutsideAperture)
    );
    assert_eq!(layout.live().len(), 1);
    // A PF cannot join while a mapping is left that the new domain does not reach.
    let live = pages(100, 1);
    let aperture = narrow;
    assert_eq!(
        layout.restrict(narrow, &[]),
        Err(Conflict::OutsideAperture { live, aperture })
    );
    assert!(layout.remove_if(live, |_| true).is_ok());
    assert_eq!(layout.restrict(narrow, &[]), Ok(()));
    layout.set_widest(span(0, TOP - 1));
    layout.reset_rules();
    assert_eq!(check(&mut layout, pages(200, 1)), Ok(()));
}

#[test]
fn allocation_goes_from_the_top_downward_freed_ones_first() {
    let mut layout = Layout::new(span(0, u64::MAX), SEED);
    let taken: Vec<_> = (0..5)
        .map(|_| take(&mut layout, page_request(0)).unwrap())
        .collect();
    let expected: Vec<_> = (1..=5).map(|at| pages(TOP / PAGE - at, 1)).collect();
    assert_eq!(taken, expected);
    assert!(layout.remove_if(taken[1], |_| true).is_ok());
    assert!(layout.remove_if(taken[3], |_| true).is_ok());
    assert_eq!(take(&mut layout, page_request(0)), Ok(taken[1]));
    assert_eq!(take(&mut layout, page_request(0)), Ok(taken[3]));
    assert_eq!(
        take(&mut layout, page_request(0)),
        Ok(pages(TOP / PAGE - 6, 1))
    );
}

#[test]
fn allocation_keeps_off_reserved_ranges_and_page_0() {
    let mut layout = Layout::new(span(0, 16 * PAGE - 1), SEED);
    let rules = [pages(14, 2), pages(5, 6), pages(11, 1), pages(100, 1)];
    assert_eq!(layout.restrict(layout.aperture(), &rules), Ok(()));
    let mut taken = Vec::new();
    while let Ok(span) = take(&mut layout, page_request(0)) {
        taken.push(span.first().raw() / PAGE);
    }
    assert_eq!(taken, [13, 12, 4, 3, 2, 1]);
}

#[test]
fn allocation_stays_above_the_floor_while_space_lasts() {
    let mut layout = Layout::new(span(0, 16 * PAGE - 1), SEED);
    let floor = 12 * PAGE;
    // One that is too large for what is above the floor lies across it, as high as can be.
    assert_eq!(
        layout.allocate(request(6 * PAGE, PAGE, PAGE, floor)),
        Ok(pages(10, 6))
    );
    // Rather badly aligned above the floor than well aligned below it.
    put(&mut layout, pages(12, 1));
    let aligned = request(2 * PAGE, 4 * PAGE, PAGE, floor);
    assert_eq!(layout.allocate(aligned), Ok(pages(14, 2)));
    let strict = request(2 * PAGE, 4 * PAGE, 4 * PAGE, floor);
    assert_eq!(layout.allocate(strict), Ok(pages(8, 2)));
    let taken: Vec<_> = (0..4)
        .map(|_| {
            take(&mut layout, page_request(floor))
                .unwrap()
                .first()
                .raw()
                / PAGE
        })
        .collect();
    assert_eq!(taken, [15, 14, 13, 11]);
    // A floor above everything is no floor.
    assert_eq!(layout.allocate(page_request(u64::MAX)), Ok(pages(10, 1)));
}

#[test]
fn fragmented_space_gives_up_alignment_by_halves() {
    let mut layout = Layout::new(span(0, 64 * PAGE - 1), SEED);
    // Free: 3 pages from 4 above every multiple of 8.
    put(&mut layout, pages(1, 3));
    for at in 1..8 {
        put(&mut layout, pages(8 * at - 1, 5));
    }
    put(&mut layout, pages(63, 1));
    let mut find = |wanted: u64, required: u64, count: u64| {
        layout
            .allocate(request(count * PAGE, wanted * PAGE, required * PAGE, 0))
            .map(|span| span.first().raw() / PAGE)
    };
    assert_eq!(find(8, 1, 2), Ok(60));
    assert_eq!(find(8, 4, 2), Ok(60));
    assert_eq!(find(8, 8, 2), Err(NoSpace));
    assert_eq!(find(1, 1, 2), Ok(61));
    assert_eq!(find(2, 1, 1), Ok(62));
    assert_eq!(find(1, 1, 4), Err(NoSpace));
    // More is required than wanted: what is required counts.
    assert_eq!(find(1, 4, 1), Ok(60));
}

#[test]
fn a_required_alignment_is_found_behind_many_gaps_that_do_not_fit() {
    let mut layout = Layout::new(span(0, (1 << 32) - 1), SEED);
    // Gaps of 4 MiB less a page at both ends: 2 MiB would fit, but not at a multiple of 2 MiB...
    for at in 1..1024 {
        put(&mut layout, pages(1024 * at - 1, 2));
    }
    put(&mut layout, pages((1 << 20) - 1, 1));
    // ... but for the one at the very bottom, exactly.
    put(&mut layout, pages(511, 1));
    assert!(layout.remove_if(pages(1023, 2), |_| true).is_ok());
    put(&mut layout, pages(1024, 1));
    let strict = request(M2, M2, M2, 0);
    assert_eq!(layout.allocate(strict), Ok(pages(512, 512)));
    // Who does not insist gets the highest, with what alignment it has.
    let relaxed = request(M2, M2, PAGE, 0);
    assert_eq!(layout.allocate(relaxed), Ok(pages((1 << 20) - 768, 512)));
}

#[test]
fn nothing_of_the_sort_fits() {
    let mut layout: Layout<u32> = Layout::new(span(0, TOP - 1), SEED);
    assert_eq!(layout.allocate(request(TOP, PAGE, PAGE, 0)), Err(NoSpace));
    let most = request(TOP - PAGE, PAGE, PAGE, 0);
    assert_eq!(layout.allocate(most), Ok(span(PAGE, TOP - 1)));
    let endless = request(u64::MAX, 1 << 63, 1 << 63, u64::MAX);
    assert_eq!(layout.allocate(endless), Err(NoSpace));
    let mut above: Layout<u32> = Layout::new(span(TOP, u64::MAX), SEED);
    assert_eq!(above.allocate(page_request(0)), Err(NoSpace));
    assert!(NoSpace.explain().contains(": "));
}

proptest! {
    /// Whatever is allocated, freed and reserved: a page is refused only if none is free.
    #[test]
    fn uses_every_free_page(
        reserved in prop::collection::vec((0_u64..100, 1_u64..4), 0..8),
        ops in prop::collection::vec((0_u64..4, 1_u64..5, 0_u32..3, any::<usize>()), 0..120),
        floor in 0_u64..110,
    ) {
        let mut layout = Layout::new(span(0, 100 * PAGE - 1), SEED);
        let rules: Vec<_> = reserved.iter().map(|&(at, count)| pages(at, count)).collect();
        prop_assert_eq!(layout.restrict(layout.aperture(), &rules), Ok(()));
        for (op, count, log, which) in ops {
            let live: Vec<_> = layout.live().iter().map(Node::span).collect();
            if op == 0 && !live.is_empty() {
                prop_assert!(layout.remove_if(live[which % live.len()], |_| true).is_ok());
                continue;
            }
            let mut free = |first: u64| check(&mut layout, pages(first, count)).is_ok();
            let mut highest = |from: u64| (from..100).rev().find(|&first| free(first));
            let expected = highest(floor).or_else(|| highest(0));
            let wish = request(count * PAGE, PAGE, PAGE, floor * PAGE);
            let found = layout.allocate(wish).ok().map(|span| span.first().raw() / PAGE);
            prop_assert_eq!(found, expected);
            let wish = Request { wanted: align(PAGE << log), required: Alignment::PAGE, ..wish };
            prop_assert_eq!(take(&mut layout, wish).is_ok(), expected.is_some());
        }
    }
}

/// As one that the IOMMU failed to remove, or one of a batch that was refused.
#[test]
fn what_is_put_back_is_not_given_again() {
    let mut layout: Layout<u32> = Layout::new(span(0, TOP - 1), SEED);
    let first = take(&mut layout, page_request(0)).unwrap();
    let last = take(&mut layout, page_request(0)).unwrap();
    for back in [last, first] {
        let node = layout.remove_if(back, |_| true).unwrap();
        assert!(layout.live_mut().insert(node).is_ok());
        // It finds a free place, or fails.
        take(&mut layout, page_request(0)).unwrap();
    }
}
