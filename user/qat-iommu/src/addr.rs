// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The two kinds of address there are, kept apart by type: what a PF puts on the
//! bus, and where memory really is.

use std::fmt;

/// An address as a PF uses it for DMA, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iova(u64);

/// A physical address of the host, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Phys(u64);

/// A range of IOVAs, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IovaRange {
    /// First byte.
    pub first: Iova,
    /// Last byte.
    pub last: Iova,
}

impl IovaRange {
    /// Whether `iova` lies in the range.
    pub fn contains(&self, iova: Iova) -> bool {
        self.first <= iova && iova <= self.last
    }
}

impl fmt::Display for IovaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

macro_rules! address {
    ($name:ident) => {
        impl $name {
            /// The address with this value.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// Its value.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(Iova);
address!(Phys);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_both_ends() {
        let range = IovaRange {
            first: Iova::new(0xfee0_0000),
            last: Iova::new(0xfeef_ffff),
        };
        assert!(range.contains(range.first) && range.contains(range.last));
        assert!(!range.contains(Iova::new(0xfedf_ffff)));
        assert!(!range.contains(Iova::new(0xfef0_0000)));
        assert_eq!(range.to_string(), "0xfee00000-0xfeefffff");
    }
}
