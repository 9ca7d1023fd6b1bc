// SPDX-License-Identifier: GPL-2.0

//! `Alignment`, and which one a buffer needs for the IOMMU to map it with its best page size.

use core::cmp;

use crate::iova::{
    addr::{Address, Phys, PAGE},
    error::Error,
    pages::PageSizes,
    span::Span,
};

/// What an IOVA is a multiple of: a power of two, and no less than the processor's page size.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Alignment(u64);

impl Alignment {
    /// The smallest: that of a page.
    pub(crate) const PAGE: Self = Self(PAGE);

    /// Makes an alignment; [`Error::Misaligned`] if it is no power of two or less than a page.
    pub(crate) fn new(bytes: u64) -> Result<Self, Error> {
        if bytes.is_power_of_two() && bytes >= PAGE {
            Ok(Self(bytes))
        } else {
            Err(Error::Misaligned)
        }
    }

    /// The number of bytes.
    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    /// Half of it, but no less than a page.
    pub(crate) fn half(self) -> Self {
        Self(cmp::max(self.0 >> 1, PAGE))
    }

    /// The highest multiple that is not above `address`.
    pub(crate) fn round_down(self, address: u64) -> u64 {
        address & self.0.wrapping_neg()
    }

    /// The lowest multiple that is not below `address`, if there is one.
    #[inline]
    pub(crate) fn round_up(self, address: u64) -> Option<u64> {
        let mask = self.0.wrapping_sub(1);
        Some(address.checked_add(mask)? & !mask)
    }
}

/// The smallest alignment with which a buffer can be mapped with the largest page size, up to `cap`,
/// that its memory allows. `runs` are the physically contiguous pieces of the buffer in order.
///
/// A page of 2^n bytes can be used where 2^n bytes are contiguous, begin at a multiple of 2^n, and
/// do so in the buffer as well: then, and only then, an IOVA for the buffer that is a multiple of
/// 2^n puts them at a multiple of 2^n too.
pub(crate) fn best_alignment(
    pages: PageSizes,
    runs: impl IntoIterator<Item = Span<Phys>>,
    cap: Alignment,
) -> Alignment {
    let mut best = Alignment::PAGE;
    // No shorter run can be mapped with more than the smallest pages.
    let Some(larger) = pages.larger() else {
        return best;
    };
    // Where in the buffer the run begins. Only its low bits matter, and those survive a wrap.
    let mut offset = 0_u64;
    for run in runs {
        let length = run.last().raw().wrapping_sub(run.first().raw());
        if length >= larger.wrapping_sub(1) {
            best = cmp::max(best, best_of_run(pages, run, offset, cap));
        }
        offset = offset.wrapping_add(length).wrapping_add(1);
    }
    best
}

fn best_of_run(pages: PageSizes, run: Span<Phys>, offset: u64, cap: Alignment) -> Alignment {
    let first = run.first().raw();
    let bytes = run.last().raw().wrapping_sub(first).wrapping_add(1);
    // The page sizes up to the cap and to what the run holds, largest first.
    let up_to = if bytes == 0 {
        cap.get()
    } else {
        cmp::min(cap.get(), bytes)
    };
    let largest = up_to.checked_ilog2().map_or(u64::MAX, |log| {
        u64::MAX.wrapping_shr(63_u32.wrapping_sub(log))
    });
    let mut sizes = pages.bitmap() & largest;
    while let Some(log) = sizes.checked_ilog2() {
        let size = 1_u64.wrapping_shl(log);
        let Ok(align) = Alignment::new(size) else {
            break;
        };
        let in_phase = align.round_down(first ^ offset) == first ^ offset;
        let end = align
            .round_up(first)
            .and_then(|start| start.checked_add(size.wrapping_sub(1)));
        if in_phase && end.is_some_and(|end| end <= run.last().raw()) {
            return align;
        }
        sizes ^= size;
    }
    Alignment::PAGE
}
