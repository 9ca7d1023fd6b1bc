// SPDX-License-Identifier: GPL-2.0

//! Why a range was refused, in terms of the address arithmetic alone. Whoever talks to user space
//! or to a kernel client turns these into its own error numbers.

/// The reason for which a range was refused or not found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Error {
    /// The size is 0.
    Zero,
    /// An address or a size is not a multiple of the page size.
    Misaligned,
    /// The range runs past the end of the 64-bit address space, or ends before it begins.
    Wrap,
    /// The range is not wholly inside the aperture.
    OutsideAperture,
    /// The range is not wholly inside the physical address width.
    BeyondPhysical,
    /// The range touches a reserved range.
    Reserved,
    /// The range touches a live mapping.
    Overlap,
    /// No live mapping covers exactly this range.
    NotFound,
    /// There is no room in the list of reserved ranges for one more.
    TooManyReserved,
}

impl Error {
    /// One line for people: what was wrong and what to do about it.
    pub(crate) const fn explain(self) -> &'static str {
        match self {
            Error::Zero => "the size is 0: give the number of bytes to map",
            Error::Misaligned => {
                "an address is not page aligned: use page aligned memory, such as from mmap or posix_memalign"
            }
            Error::Wrap => "the range runs past the end of the address space: check address and size",
            Error::OutsideAperture => {
                "the IOVA is outside what the device and its IOMMU can address: choose one inside the aperture"
            }
            Error::BeyondPhysical => {
                "the physical range is beyond what the processor can address: check address and size"
            }
            Error::Reserved => {
                "the IOVA is in a reserved range (such as the MSI window, or page 0): choose another"
            }
            Error::Overlap => "part of the range is already mapped: unmap it first, or choose another",
            Error::NotFound => {
                "no mapping covers exactly this range: unmap with the address and size that were mapped"
            }
            Error::TooManyReserved => {
                "the device's IOMMU reserves more separate ranges than can be kept: this PF cannot be used"
            }
        }
    }
}
