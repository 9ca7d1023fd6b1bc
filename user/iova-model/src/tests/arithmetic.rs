// SPDX-License-Identifier: GPL-2.0

//! Addresses, lengths, spans, page sizes and alignments, at their boundaries above all.

use proptest::prelude::*;

use super::{align, length, pages, span};
use crate::iova::{
    addr::{Address, Iova, Length, Phys, PAGE},
    allocate::align::{best_alignment, Alignment},
    error::Error,
    pages::{remap_size, PageSizes},
    span::Span,
};

const M2: u64 = 2 << 20;
const G1: u64 = 1 << 30;
/// 4 KiB, 2 MiB and 1 GiB, as Intel's IOMMUs have them.
const INTEL: u64 = PAGE | M2 | G1;

#[test]
fn addresses_do_not_wrap() {
    assert_eq!(Iova::new(u64::MAX).checked_add(0), Some(Iova::MAX));
    assert_eq!(Iova::new(u64::MAX).checked_add(1), None);
    assert!(Iova::new(PAGE).is_aligned(PAGE));
    assert!(!Iova::new(PAGE + 1).is_aligned(PAGE));
    assert!(!Iova::new(PAGE).is_aligned(2 * PAGE));
}

#[test]
fn addresses_print_as_people_write_them() {
    let first = Iova::new(0x1000);
    assert_eq!(format!("{first:?} {first:x}"), "0x1000 1000");
    assert_eq!(format!("{:?}", span::<Phys>(0, 0x1fff)), "0x0-0x1fff");
    assert_eq!(format!("{:?}", length(0x2000)), "0x2000");
}

#[test]
fn lengths_are_not_zero() {
    assert_eq!(Length::new(0), Err(Error::Zero));
    assert_eq!(length(1).last_offset(), 0);
    assert_eq!(length(u64::MAX).last_offset(), u64::MAX - 1);
}

#[test]
fn spans_reach_the_last_address_and_not_beyond() {
    let last_page = Span::new(Iova::new(PAGE.wrapping_neg()), length(PAGE)).unwrap();
    assert_eq!(last_page.last(), Iova::MAX);
    assert!(last_page.is_aligned(PAGE));
    assert_eq!(
        Span::new(Iova::new(PAGE.wrapping_neg()), length(PAGE + 1)),
        Err(Error::Wrap)
    );
    assert_eq!(
        Span::new(Iova::new(1), length(u64::MAX)).unwrap().last(),
        Iova::MAX
    );
    assert_eq!(Span::new(Iova::new(2), length(u64::MAX)), Err(Error::Wrap));
    assert_eq!(
        Span::from_bounds(Iova::new(2), Iova::new(1)),
        Err(Error::Wrap)
    );
}

#[test]
fn the_whole_space_has_no_length() {
    assert_eq!(span::<Iova>(0, u64::MAX).length(), None);
    assert_eq!(span::<Iova>(1, u64::MAX).length(), Some(length(u64::MAX)));
    assert_eq!(span::<Iova>(7, 7).length(), Some(length(1)));
    assert!(span::<Iova>(0, u64::MAX).is_aligned(1 << 63));
}

#[test]
fn bytes_of_a_span_wrap_for_all_there_are() {
    assert_eq!(pages::<Iova>(3, 2).bytes(), 2 * PAGE);
    assert_eq!(span::<Iova>(u64::MAX, u64::MAX).bytes(), 1);
    assert_eq!(span::<Iova>(1, u64::MAX).bytes(), u64::MAX);
    assert_eq!(span::<Iova>(0, u64::MAX).bytes(), 0);
}

#[test]
fn alignment_of_a_span_is_that_of_both_ends() {
    assert!(pages::<Iova>(1, 2).is_aligned(PAGE));
    assert!(!span::<Iova>(PAGE, 2 * PAGE).is_aligned(PAGE));
    assert!(!span::<Iova>(PAGE + 1, 2 * PAGE - 1).is_aligned(PAGE));
}

#[test]
fn neighbours_touch_but_do_not_overlap() {
    let (low, high) = (span::<Iova>(0, 9), span(10, 19));
    assert!(low.touches(high) && high.touches(low));
    assert!(!low.overlaps(high) && !high.overlaps(low));
    assert!(!low.touches(span(11, 19)));
    assert!(!span::<Iova>(5, u64::MAX).touches(span(0, 3)));
    assert!(span::<Iova>(5, u64::MAX).touches(span(0, 4)));
}

#[test]
fn physical_width() {
    let top = 1_u64 << 46;
    assert_eq!(span::<Phys>(0, top - 1).check_width(46), Ok(()));
    assert_eq!(
        span::<Phys>(0, top).check_width(46),
        Err(Error::BeyondPhysical)
    );
    assert_eq!(span::<Phys>(0, u64::MAX).check_width(64), Ok(()));
    assert_eq!(
        span::<Phys>(0, u64::MAX).check_width(63),
        Err(Error::BeyondPhysical)
    );
}

#[test]
fn every_reason_is_one_distinct_line() {
    let all = [
        Error::Zero,
        Error::Misaligned,
        Error::Wrap,
        Error::OutsideAperture,
        Error::BeyondPhysical,
        Error::Reserved,
        Error::Overlap,
        Error::NotFound,
        Error::TooManyReserved,
    ];
    let mut lines = all.map(Error::explain).to_vec();
    assert!(lines
        .iter()
        .all(|line| line.contains(": ") && !line.contains('\n')));
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), all.len());
}

#[test]
fn sizes_are_rounded_up() {
    let intel = PageSizes::new(INTEL).unwrap();
    assert_eq!(intel.smallest(), PAGE);
    assert_eq!(remap_size(intel.granule(), 0), None);
    assert_eq!(remap_size(intel.granule(), 1), Some(length(PAGE)));
    assert_eq!(remap_size(intel.granule(), PAGE), Some(length(PAGE)));
    assert_eq!(
        remap_size(intel.granule(), PAGE + 1),
        Some(length(2 * PAGE))
    );
    let most = PAGE.wrapping_neg();
    assert_eq!(remap_size(intel.granule(), most), Some(length(most)));
    assert_eq!(remap_size(intel.granule(), most + 1), None);
    assert_eq!(remap_size(intel.granule(), u64::MAX), None);
}

#[test]
fn remap_size_follows_the_smallest_page() {
    let large = PageSizes::new(0x1_0000 | M2).unwrap();
    assert_eq!(remap_size(large.granule(), 1), Some(length(0x1_0000)));
    assert_eq!(
        remap_size(large.granule(), 0x1_0001),
        Some(length(0x2_0000))
    );
    // Nothing smaller than the processor's page, whatever the IOMMU can.
    let small = PageSizes::new(0x200 | PAGE).unwrap();
    assert_eq!(small.smallest(), 0x200);
    assert_eq!(remap_size(small.granule(), 0x201), Some(length(PAGE)));
    assert_eq!(
        remap_size(PageSizes::new(1 << 63).unwrap().granule(), 1),
        Some(length(1 << 63))
    );
    assert_eq!(
        remap_size(PageSizes::new(1 << 63).unwrap().granule(), (1 << 63) + 1),
        None
    );
    assert_eq!(PageSizes::new(0), None);
}

#[test]
fn alignments_are_powers_of_two_from_a_page_up() {
    for wrong in [0, 1, PAGE / 2, PAGE + 1, 3 * PAGE, u64::MAX] {
        assert_eq!(Alignment::new(wrong), Err(Error::Misaligned), "{wrong:#x}");
    }
    assert_eq!(align(M2).half().get(), M2 / 2);
    assert_eq!(Alignment::PAGE.half(), Alignment::PAGE);
    assert_eq!(align(1 << 63).round_down(u64::MAX), 1 << 63);
}

fn best(bitmap: u64, runs: &[Span<Phys>], cap: u64) -> u64 {
    let sizes = PageSizes::new(bitmap).unwrap();
    best_alignment(sizes, runs.iter().copied(), align(cap)).get()
}

#[test]
fn small_buffers_need_no_more_than_a_page() {
    assert_eq!(best(INTEL, &[pages(512, 1)], M2), PAGE);
    assert_eq!(best(INTEL, &[pages(512, 511)], M2), PAGE);
    assert_eq!(best(INTEL, &[], M2), PAGE);
}

#[test]
fn huge_pages_ask_for_their_size() {
    assert_eq!(best(INTEL, &[pages(512, 512)], M2), M2);
    assert_eq!(best(INTEL, &[pages(1 << 18, 1 << 18)], M2), M2);
    assert_eq!(best(INTEL, &[pages(1 << 18, 1 << 18)], G1), G1);
    // A cap that the IOMMU has no page for: nothing is gained by aligning to it.
    assert_eq!(best(PAGE | G1, &[pages(1 << 18, 1 << 18)], M2), PAGE);
}

#[test]
fn a_huge_page_counts_wherever_it_lies_in_step() {
    // One page of the buffer before it: no multiple of 2 MiB puts it in step.
    assert_eq!(best(INTEL, &[pages(7, 1), pages(512, 512)], M2), PAGE);
    assert_eq!(best(INTEL, &[pages(7, 1), pages(513, 1023)], M2), M2);
    // An IOMMU with all powers of two gains from a small step.
    let all = PAGE.wrapping_neg();
    assert_eq!(best(all, &[pages(4, 4), pages(32, 3)], M2), 4 * PAGE);
    // The end of memory.
    assert_eq!(best(INTEL, &[span(M2.wrapping_neg(), u64::MAX)], M2), M2);
    assert_eq!(
        best(INTEL, &[span(PAGE.wrapping_neg(), u64::MAX)], M2),
        PAGE
    );
}

/// What a buffer at IOVA 0 plus any multiple of `align` could be mapped with, page by page.
fn naive_best(bitmap: u64, runs: &[Span<Phys>], cap: u64) -> u64 {
    let frames: Vec<u64> = runs
        .iter()
        .flat_map(|run| run.first().raw() / PAGE..=run.last().raw() / PAGE)
        .collect();
    // Runs are the buffer's longest contiguous pieces only if no two follow each other; a page that
    // crosses from one into the next is not looked for.
    let run_of = |at: usize| {
        let mut seen = 0;
        runs.iter().position(|run| {
            seen += run.length().unwrap().get() / PAGE;
            (at as u64) < seen
        })
    };
    let usable = |size: u64| {
        let step = usize::try_from(size / PAGE).unwrap();
        (0..frames.len()).step_by(step).any(|at| {
            frames[at] * PAGE % size == 0
                && at + step <= frames.len()
                && run_of(at) == run_of(at + step - 1)
        })
    };
    (12..64)
        .map(|log| 1_u64 << log)
        .filter(|size| bitmap & size != 0 && *size <= cap && usable(*size))
        .max()
        .unwrap_or(PAGE)
}

proptest! {
    #[test]
    fn best_alignment_is_that_of_a_naive_search(
        runs in prop::collection::vec((0_u64..64, 1_u64..40), 0..6),
        sizes in 0_u64..256,
        cap in 0_u32..8,
    ) {
        let runs: Vec<_> = runs.into_iter().map(|(first, count)| pages(first, count)).collect();
        let bitmap = PAGE | (sizes * PAGE);
        let cap = PAGE << cap;
        prop_assert_eq!(best(bitmap, &runs, cap), naive_best(bitmap, &runs, cap));
    }

    #[test]
    fn spans_agree_with_sets(a in (0_u64..16, 0_u64..16), b in (0_u64..16, 0_u64..16)) {
        let one = Span::between(Iova::new(a.0), Iova::new(a.1));
        let two = Span::between(Iova::new(b.0), Iova::new(b.1));
        let inside = |span: Span<Iova>, at: u64| span.contains(Iova::new(at));
        let common: Vec<_> = (0..16).filter(|&at| inside(one, at) && inside(two, at)).collect();
        prop_assert_eq!(one.overlaps(two), !common.is_empty());
        prop_assert_eq!(
            one.intersect(two).map(|both| (both.first().raw(), both.last().raw())),
            common.first().copied().zip(common.last().copied())
        );
        prop_assert_eq!(
            one.contains_span(two),
            (0..16).all(|at| inside(one, at) || !inside(two, at))
        );
        let hull = one.hull(two);
        prop_assert!(hull.contains_span(one) && hull.contains_span(two));
        let bytes = |span: Span<Iova>| span.length().unwrap().get();
        prop_assert_eq!(
            one.touches(two),
            bytes(hull) <= bytes(one) + bytes(two)
        );
    }

    #[test]
    fn round_up_is_the_next_multiple(bytes: u64, bitmap in 1_u64..) {
        let sizes = PageSizes::new(bitmap).unwrap();
        let granule = u128::from(sizes.granule().get());
        let wanted = u128::from(bytes).div_ceil(granule) * granule;
        let wanted = u64::try_from(wanted).ok().filter(|&bytes| bytes != 0);
        prop_assert_eq!(remap_size(sizes.granule(), bytes).map(Length::get), wanted);
    }
}

/// The pages of a run, one after the other, as an IOMMU driver makes them.
fn greedy(bitmap: u64, mut iova: u64, mut phys: u64, mut bytes: u64) -> Option<(u64, u64)> {
    let mut used: Option<(u64, u64)> = None;
    while bytes != 0 {
        let size = (0..63)
            .map(|bit| 1_u64 << bit)
            .filter(|size| bitmap & size != 0 && *size <= bytes && (iova | phys) & (size - 1) == 0)
            .max()?;
        used = Some(used.map_or((size, size), |(least, most)| {
            (least.min(size), most.max(size))
        }));
        (iova, phys, bytes) = (iova + size, phys + size, bytes - size);
    }
    used
}

fn used(bitmap: u64, iova: u64, runs: &[Span<Phys>]) -> Option<(u64, u64)> {
    let sizes = PageSizes::new(bitmap).unwrap();
    sizes.used(Iova::new(iova), runs.iter().copied())
}

#[test]
fn used_pages_follow_alignment() {
    assert_eq!(used(INTEL, M2, &[pages(512, 512)]), Some((M2, M2)));
    assert_eq!(used(INTEL, PAGE, &[pages(512, 512)]), Some((PAGE, PAGE)));
    assert_eq!(used(INTEL, M2, &[pages(512, 513)]), Some((PAGE, M2)));
    assert_eq!(
        used(INTEL, G1 - M2, &[pages(0x3fe00, 0x40200)]),
        Some((M2, G1))
    );
    assert_eq!(
        used(INTEL, M2, &[pages(512, 512), pages(7, 1)]),
        Some((PAGE, M2))
    );
    assert_eq!(used(INTEL, M2, &[]), None);
    // The last page of all, and a page that is smaller than the IOMMU's.
    let top = u64::MAX - PAGE + 1;
    assert_eq!(used(INTEL, top, &[pages(1, 1)]), Some((PAGE, PAGE)));
    assert_eq!(used(M2, M2, &[pages(512, 1)]), None);
}

proptest! {
    #[test]
    fn used_pages_are_those_of_a_walk(
        bitmap in prop_oneof![Just(INTEL), Just(0x7_f000), (0_u64..1 << 12).prop_map(|more| (more << 12) | PAGE)],
        iova in 0_u64..4096,
        phys in 0_u64..4096,
        same_step: bool,
        count in 1_u64..2048,
    ) {
        let iova = if same_step { iova & !511 | phys & 511 } else { iova };
        prop_assert_eq!(
            used(bitmap, iova * PAGE, &[pages(phys, count)]),
            greedy(bitmap, iova * PAGE, phys * PAGE, count * PAGE)
        );
    }
}
