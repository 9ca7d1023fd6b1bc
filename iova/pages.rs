// SPDX-License-Identifier: GPL-2.0

//! `PageSizes`, the page sizes an IOMMU domain can map, and the remap size that follows from them.

use core::{cmp, num::NonZeroU64};

use super::addr::{Length, PAGE};

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
    pub(crate) fn granule(self) -> u64 {
        cmp::max(self.smallest(), PAGE)
    }

    /// The remap size of `bytes`: the next multiple of the granule. `None` for 0, and if the
    /// multiple is more than 64 bits hold.
    pub(crate) fn round_up(self, bytes: u64) -> Option<Length> {
        let mask = self.granule().wrapping_sub(1);
        Length::new(bytes.checked_add(mask)? & !mask).ok()
    }
}
