// SPDX-License-Identifier: GPL-2.0

//! `PageSizes`, the page sizes an IOMMU domain can map, and the remap size that follows from them.

use core::{cmp, num::NonZeroU64};

use super::{
    addr::{Address, Iova, Length, Phys, PAGE},
    allocate::align::Alignment,
    span::Span,
};

/// A set of page sizes: bit n is set if pages of 2^n bytes can be mapped. Never empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PageSizes(NonZeroU64);

impl PageSizes {
    /// Takes a domain's bitmap. `None` if it is 0: such a domain can map nothing.
    pub(crate) fn new(bitmap: u64) -> Option<Self> {
        NonZeroU64::new(bitmap).map(Self)
    }

    /// The bitmap.
    pub(crate) const fn bitmap(self) -> u64 {
        self.0.get()
    }

    /// The smallest page that can be mapped.
    pub(crate) const fn smallest(self) -> u64 {
        self.bitmap() & self.bitmap().wrapping_neg()
    }

    /// What addresses and sizes of mappings are multiples of: the smallest page, but no less than
    /// the processor's.
    pub(crate) fn granule(self) -> Alignment {
        Alignment::new(self.smallest()).unwrap_or(Alignment::PAGE)
    }

    /// The smallest and the largest page with which runs are mapped that follow each other from
    /// `first` on, each as the kernel does it: always the largest page that fits. `None` without a
    /// run, and if one cannot be mapped with these sizes.
    pub(crate) fn used(
        self,
        first: Iova,
        runs: impl Iterator<Item = Span<Phys>>,
    ) -> Option<(u64, u64)> {
        let mut next = Some(first);
        let mut used = None;
        for run in runs {
            let iova = Span::new(next?, run.length()?).ok()?;
            let (smallest, largest) = self.used_in(iova, run)?;
            used = match used {
                None => Some((smallest, largest)),
                Some((least, most)) => Some((cmp::min(least, smallest), cmp::max(most, largest))),
            };
            next = iova.last().checked_add(1);
        }
        used
    }

    /// The same for one run. Pages grow from its beginning to the largest that fits, and shrink from
    /// there to its end: the smallest is at one of the ends.
    fn used_in(self, iova: Span<Iova>, phys: Span<Phys>) -> Option<(u64, u64)> {
        let bytes = iova.length()?.get();
        let at_most = |mask: u64| self.largest(mask, bytes);
        let head = at_most(iova.first().raw() | phys.first().raw())?;
        // The address after the last one: past the end of the address space it is 0.
        let end = |last: u64| last.wrapping_add(1);
        let tail = at_most(end(iova.last().raw()) | end(phys.last().raw()))?;
        let differ = iova.first().raw() ^ phys.first().raw();
        let mut rest = self.bitmap();
        let mut most = cmp::max(head, tail);
        while rest != 0 {
            let size = rest & rest.wrapping_neg();
            rest &= !size;
            let mask = size.wrapping_sub(1);
            let inside = iova
                .first()
                .raw()
                .checked_add(mask)
                .and_then(|bound| (bound & !mask).checked_add(mask))
                .is_some_and(|last| last <= iova.last().raw());
            if differ & mask == 0 && inside {
                most = cmp::max(most, size);
            }
        }
        Some((cmp::min(head, tail), most))
    }

    /// The largest size that is no more than `bytes` and divides what has these bits set.
    fn largest(self, bits: u64, bytes: u64) -> Option<u64> {
        let mut rest = self.bitmap();
        let mut found = None;
        while rest != 0 {
            let size = rest & rest.wrapping_neg();
            rest &= !size;
            if size <= bytes && bits & size.wrapping_sub(1) == 0 {
                found = Some(size);
            }
        }
        found
    }

    /// The smallest size above the processor's page size, if there is one.
    #[inline]
    pub(crate) fn larger(self) -> Option<u64> {
        let larger = self.bitmap() & PAGE.wrapping_mul(2).wrapping_neg();
        (larger != 0).then(|| larger & larger.wrapping_neg())
    }
}

/// The remap size of `bytes`: the next multiple of the granule. `None` for 0, and if the multiple is more
/// than 64 bits hold.
#[inline]
pub(crate) fn remap_size(granule: Alignment, bytes: u64) -> Option<Length> {
    Length::new(granule.round_up(bytes)?).ok()
}
