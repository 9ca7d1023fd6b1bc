// SPDX-License-Identifier: GPL-2.0

//! The two kinds of address, which must never be mixed up (`Iova` and `Phys`), and `Length`, a
//! number of bytes that is not 0. All arithmetic on them is checked.

use core::{fmt, num::NonZeroU64};

use super::error::Error;

/// The processor's page size; nothing smaller is ever mapped.
pub(crate) const PAGE: u64 = 4096;

/// What every kind of address can do.
pub(crate) trait Address: Copy + Ord + fmt::Debug {
    /// The lowest address.
    const MIN: Self;
    /// The highest address.
    const MAX: Self;

    /// Makes an address of a number.
    fn new(raw: u64) -> Self;

    /// The address as a number.
    fn raw(self) -> u64;

    /// The address `bytes` further up, if there is one.
    fn checked_add(self, bytes: u64) -> Option<Self> {
        self.raw().checked_add(bytes).map(Self::new)
    }

    /// Whether the address is a multiple of `align`, a power of two.
    fn is_aligned(self, align: u64) -> bool {
        is_aligned(self.raw(), align)
    }
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
        pub(crate) struct $name(u64);

        impl Address for $name {
            const MIN: Self = Self(0);
            const MAX: Self = Self(u64::MAX);

            #[inline]
            fn new(raw: u64) -> Self {
                Self(raw)
            }

            #[inline]
            fn raw(self) -> u64 {
                self.0
            }
        }

        /// As people write it: `0x1000`.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address!(
    /// An address as a device sees it: what an IOMMU translates.
    Iova
);
address!(
    /// An address as the memory sees it: what an IOMMU translates to.
    Phys
);

/// Whether `value` is a multiple of `align`, a power of two.
pub(crate) const fn is_aligned(value: u64, align: u64) -> bool {
    value & align.wrapping_sub(1) == 0
}

/// A number of bytes that is not 0.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Length(NonZeroU64);

impl Length {
    /// Makes a length; 0 gives [`Error::Zero`].
    pub(crate) fn new(bytes: u64) -> Result<Self, Error> {
        NonZeroU64::new(bytes).map(Self).ok_or(Error::Zero)
    }

    /// The number of bytes.
    #[inline]
    pub(crate) const fn get(self) -> u64 {
        self.0.get()
    }

    /// What is added to the first byte's address to get the last byte's.
    #[inline]
    pub(crate) const fn last_offset(self) -> u64 {
        self.get().saturating_sub(1)
    }
}

/// As people write it: `0x1000`.
impl fmt::Debug for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.get())
    }
}
