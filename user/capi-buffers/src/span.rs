// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Inclusive ranges of addresses and the IOVAs they have, and how a range falls apart
//! into the slots of one level of the tree.

/// What one level of the tree resolves: the width of a slot as a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shift(pub(crate) u32);

/// Bits of an address that each level below the root resolves.
pub(crate) const FANOUT_BITS: u32 = 9;
/// Slots of a table.
pub(crate) const FANOUT: usize = 1 << FANOUT_BITS;

impl Shift {
    /// A page of 4 KiB, which is the unit whatever the kernel's page is.
    pub(crate) const PAGE: Self = Self(12);
    /// 2 MiB.
    pub(crate) const MIDDLE: Self = Self(Self::PAGE.0 + FANOUT_BITS);
    /// 1 GiB.
    pub(crate) const LARGE: Self = Self(Self::MIDDLE.0 + FANOUT_BITS);
    /// 512 GiB: the slots of the root.
    pub(crate) const ROOT: Self = Self(Self::LARGE.0 + FANOUT_BITS);

    /// The level below.
    pub(crate) const fn below(self) -> Self {
        Self(self.0 - FANOUT_BITS)
    }

    /// Address bits within a slot.
    #[inline]
    pub(crate) const fn mask(self) -> usize {
        (1 << self.0) - 1
    }

    /// Which slot of its table an address is in.
    #[inline]
    pub(crate) const fn index(self, address: usize) -> usize {
        (address >> self.0) & (FANOUT - 1)
    }
}

/// A part of a mapped buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// First byte.
    pub(crate) first: usize,
    /// Last byte.
    pub(crate) last: usize,
    /// IOVA of the first byte, at the same offset within a page.
    pub(crate) iova: u64,
}

impl Span {
    /// The buffer of `length` bytes at `first`. `None` if it has no bytes or wraps.
    #[inline]
    pub(crate) fn new(first: usize, length: usize, iova: u64) -> Option<Self> {
        let last = first.checked_add(length.checked_sub(1)?)?;
        Some(Self { first, last, iova })
    }

    /// Whether it is all of the slot that it lies in.
    pub(crate) fn fills(&self, shift: Shift) -> bool {
        self.last.wrapping_sub(self.first) == shift.mask() && self.first & shift.mask() == 0
    }

    /// The parts that lie in the slots of one level, in order.
    pub(crate) fn parts(self, shift: Shift) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let span = rest.take()?;
            let end = span.first | shift.mask();
            if end >= span.last {
                return Some(span);
            }
            let length = end - span.first + 1;
            rest = Some(Self {
                first: end + 1,
                // usize has at most 64 bits wherever Linux runs.
                iova: span.iova.wrapping_add(length as u64),
                ..span
            });
            Some(Self { last: end, ..span })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: usize, length: usize, iova: u64) -> Span {
        Span::new(first, length, iova).unwrap()
    }

    #[test]
    fn falls_apart_at_the_bounds_of_slots() {
        let parts: Vec<_> = span(0x1ffe, 0x2004, 0x7ffe)
            .parts(Shift::PAGE)
            .map(|part| (part.first, part.last, part.iova))
            .collect();
        assert_eq!(
            parts,
            [
                (0x1ffe, 0x1fff, 0x7ffe),
                (0x2000, 0x2fff, 0x8000),
                (0x3000, 0x3fff, 0x9000),
                (0x4000, 0x4001, 0xa000),
            ]
        );
        assert_eq!(span(0x1ffe, 0x2004, 0).parts(Shift::MIDDLE).count(), 1);
    }

    #[test]
    fn the_last_address_is_an_end() {
        let top = span(usize::MAX - 4096, 4097, 0x1fff);
        let parts: Vec<_> = top.parts(Shift::PAGE).collect();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[1].last, usize::MAX);
        assert!(parts[1].fills(Shift::PAGE) && !parts[0].fills(Shift::PAGE));
        assert_eq!(Span::new(usize::MAX, 2, 0), None);
        assert_eq!(Span::new(0x1000, 0, 0), None);
    }

    #[test]
    fn a_whole_slot_is_recognised() {
        let two_mib = 2 << 20;
        assert!(span(two_mib, two_mib, 0x1000).fills(Shift::MIDDLE));
        assert!(!span(two_mib + 4096, two_mib, 0x1000).fills(Shift::MIDDLE));
        assert!(!span(two_mib, two_mib - 1, 0x1000).fills(Shift::MIDDLE));
        assert!(span(0, 1 << 30, 0x1000).fills(Shift::LARGE));
    }
}
