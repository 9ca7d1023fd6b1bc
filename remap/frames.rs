// SPDX-License-Identifier: GPL-2.0

//! `Frames`, page frames that follow each other in physical memory. No state, no lock.

use crate::iova::{
    addr::{
        Address,
        Phys,
        PAGE, //
    },
    span::Span, //
};

/// Page frames that follow each other: `struct qat_iommu_frames` of `remap/glue.h`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Frames {
    /// The number of the first one.
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl Frames {
    /// None at all.
    pub(crate) const NONE: Self = Self { first: 0, count: 0 };

    /// Whether frame number `pfn` comes right after them.
    #[inline]
    pub(crate) fn is_before(&self, pfn: u64) -> bool {
        self.first.wrapping_add(self.count) == pfn
    }

    /// How many bytes they hold. All of it is memory, so nothing wraps.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.count.wrapping_mul(PAGE)
    }

    /// Their physical range, if there is at least one.
    #[inline]
    pub(crate) fn phys(&self) -> Span<Phys> {
        let first = self.first.wrapping_mul(PAGE);
        let last = first.wrapping_add(self.bytes()).wrapping_sub(1);
        Span::between(Phys::new(first), Phys::new(last))
    }
}
