// SPDX-License-Identifier: GPL-2.0

//! `Span`, an inclusive address range. Inclusive, so that the last page of the address space is a
//! range like any other and no end address can wrap.

use core::{cmp, fmt};

use super::{
    addr::{Address, Length, Phys},
    error::Error,
};

/// All addresses from `first` to `last`, both included.
///
/// # Invariants
///
/// `first <= last`: a span is never empty.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct Span<A> {
    first: A,
    last: A,
}

impl<A: Address> Span<A> {
    /// The span of `length` bytes from `first` on; [`Error::Wrap`] if it runs past the last address.
    pub(crate) fn new(first: A, length: Length) -> Result<Self, Error> {
        let last = first.checked_add(length.last_offset()).ok_or(Error::Wrap)?;
        Ok(Self { first, last })
    }

    /// The span from `first` to `last`, both included; [`Error::Wrap`] if it ends before it begins.
    #[inline]
    pub(crate) fn from_bounds(first: A, last: A) -> Result<Self, Error> {
        if first <= last {
            Ok(Self { first, last })
        } else {
            Err(Error::Wrap)
        }
    }

    /// The span that has these two addresses, in whichever order, as its ends.
    pub(crate) fn between(one: A, other: A) -> Self {
        Self {
            first: cmp::min(one, other),
            last: cmp::max(one, other),
        }
    }

    /// The lowest address inside.
    #[inline]
    pub(crate) const fn first(self) -> A {
        self.first
    }

    /// The highest address inside.
    #[inline]
    pub(crate) const fn last(self) -> A {
        self.last
    }

    /// How many bytes that are; 0 for all 2^64, which are never one mapping.
    #[inline]
    pub(crate) fn bytes(self) -> u64 {
        let (first, last) = (self.first.raw(), self.last.raw());
        last.wrapping_sub(first).wrapping_add(1)
    }

    /// How many bytes it covers. `None` for the one span that covers all 2^64.
    pub(crate) fn length(self) -> Option<Length> {
        let bytes = self.last.raw().checked_sub(self.first.raw())?;
        Length::new(bytes.checked_add(1)?).ok()
    }

    /// Whether `address` is inside.
    #[inline]
    pub(crate) fn contains(self, address: A) -> bool {
        self.first <= address && address <= self.last
    }

    /// Whether all of `other` is inside.
    #[inline]
    pub(crate) fn contains_span(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether the two have at least one address in common.
    #[inline]
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether the two overlap or follow each other without a gap.
    pub(crate) fn touches(self, other: Self) -> bool {
        let meets = |low: Self, high: Self| low.last.checked_add(1) == Some(high.first);
        self.overlaps(other) || meets(self, other) || meets(other, self)
    }

    /// What the two have in common.
    #[inline]
    pub(crate) fn intersect(self, other: Self) -> Option<Self> {
        let first = cmp::max(self.first, other.first);
        let last = cmp::min(self.last, other.last);
        Self::from_bounds(first, last).ok()
    }

    /// The smallest span that covers both.
    pub(crate) fn hull(self, other: Self) -> Self {
        Self {
            first: cmp::min(self.first, other.first),
            last: cmp::max(self.last, other.last),
        }
    }

    /// Whether it begins and ends at multiples of `align`, a power of two.
    #[inline]
    pub(crate) fn is_aligned(self, align: u64) -> bool {
        // The address after the last one wraps to 0 at the end of the address space: still aligned.
        let end = A::new(self.last.raw().wrapping_add(1));
        self.first.is_aligned(align) && end.is_aligned(align)
    }
}

impl Span<Phys> {
    /// Checks that all of it can be addressed with `bits` bits; [`Error::BeyondPhysical`] if not.
    pub(crate) fn check_width(self, bits: u32) -> Result<(), Error> {
        // A shift by 64 or more leaves nothing above the width.
        match self.last.raw().checked_shr(bits) {
            None | Some(0) => Ok(()),
            Some(_) => Err(Error::BeyondPhysical),
        }
    }
}

/// As people write it: `0x1000-0x1fff`.
impl<A: Address> fmt::Debug for Span<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}-{:?}", self.first, self.last)
    }
}
