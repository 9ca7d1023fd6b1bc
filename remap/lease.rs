// SPDX-License-Identifier: GPL-2.0

//! IOVAs that the DMA API lends us in the domain of a shared PF, from the allocator that its
//! driver's own DMA uses: the one place where no collision with that can happen.
//!
//! Locks: the lock of the space is held by every caller, and the PF's driver is bound: the
//! allocator belongs to its device.

use super::pf;
use crate::iova::{
    addr::{
        Address,
        Iova,
        Length, //
    },
    span::Span, //
};
use core::num::NonZeroUsize;
use kernel::{
    bindings,
    pci, //
};

/// A range that is to be given back with [`Lease::end`]; if it is not, nobody gets it again.
#[must_use]
pub(crate) struct Lease {
    bytes: NonZeroUsize,
}

impl Lease {
    /// Borrows `length` bytes, at a multiple of `align`, a power of two.
    ///
    /// # Safety
    ///
    /// The driver of `dev` is bound and uses the DMA API.
    pub(super) unsafe fn new(
        dev: &pci::Device,
        length: Length,
        align: u64,
    ) -> Option<(Self, Span<Iova>)> {
        // The allocator aligns a range to its size, rounded up to a power of two.
        let bytes = usize::try_from(length.get().max(align)).ok()?;
        // The highest bit is a flag of the DMA API's.
        isize::try_from(bytes).ok()?;
        let mut state = bindings::dma_iova_state::default();
        // SAFETY: The device is bound by the contract of this function, and the size neither 0
        // nor so large that it could be taken for a flag.
        let found =
            unsafe { bindings::dma_iova_try_alloc(pf::device_ptr(dev), &raw mut state, 0, bytes) };
        let lease = found.then_some(Self {
            bytes: NonZeroUsize::new(bytes)?,
        })?;
        match Span::new(Iova::new(state.addr), length) {
            Ok(span) => Some((lease, span)),
            Err(_) => {
                // SAFETY: As above, and it was borrowed there just now.
                unsafe { lease.end(dev, Iova::new(state.addr)) };
                None
            }
        }
    }

    /// Gives the range back. Nothing may be mapped there any more, nor cached in the IOTLB.
    ///
    /// # Safety
    ///
    /// `dev` and `first` are those that it was borrowed from and at; the driver is still bound.
    pub(super) unsafe fn end(self, dev: &pci::Device, first: Iova) {
        let mut state = bindings::dma_iova_state {
            addr: first.raw(),
            // A size that was an `usize` before.
            __size: self.bytes.get() as u64,
        };
        // SAFETY: By the contract of this function.
        unsafe { bindings::dma_iova_free(pf::device_ptr(dev), &raw mut state) };
    }
}
