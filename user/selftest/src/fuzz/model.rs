// SPDX-License-Identifier: GPL-2.0
//! The reference model: what is mapped, and what the answer to a request may be. Written
//! from the interface's header, not from the module. A request that breaks several rules may
//! be refused for any of them; one that breaks none must succeed.

use rustix::io::Errno;
use std::fmt;

use super::place::Facts;
use crate::abi::BOTH;
use crate::expect;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// What backs a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Physical pages; from this one of the worker's on, if it is one of them.
    Phys { phys: u64, page: Option<usize> },
    /// The buffer that holds this address; `here` unless it is a child's.
    User { va: u64, length: u64, here: bool },
}

/// One mapping.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    pub ctx: usize,
    /// Whole pages.
    pub first: u64,
    pub length: u64,
    pub flags: u32,
    /// Counts up with each.
    pub sequence: u64,
    pub backing: Backing,
}

impl Mapping {
    pub fn last(&self) -> u64 {
        self.first + (self.length - 1)
    }

    /// Whether it has a byte of these.
    pub fn touches(&self, first: u64, last: u64) -> bool {
        self.first <= last && first <= self.last()
    }

    pub fn is_user(&self) -> bool {
        matches!(self.backing, Backing::User { .. })
    }

    /// IOVA and length as the program knows them.
    pub fn named(&self) -> (u64, u64) {
        match self.backing {
            Backing::Phys { .. } => (self.first, self.length),
            Backing::User { va, length, .. } => (self.first + va % PAGE, length),
        }
    }
}

/// The whole pages that hold these bytes, first and last byte; none if there is no byte, or they
/// wrap.
pub fn pages(first: u64, length: u64) -> Option<(u64, u64)> {
    let last = first.checked_add(length.checked_sub(1)?)?;
    Some((first & !(PAGE - 1), last | (PAGE - 1)))
}

/// The rules that a request breaks, as the errors that say so. With none it must succeed, unless
/// others can be in its way (`perhaps`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub broken: Vec<Errno>,
    pub perhaps: Vec<Errno>,
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.broken.is_empty() {
            f.write_str("success")?;
        }
        for error in self.broken.iter().chain(&self.perhaps) {
            write!(f, " {}", expect::name(*error))?;
        }
        Ok(())
    }
}

impl Rules {
    /// Breaks a rule if `broken`.
    pub fn rule(&mut self, broken: bool, error: Errno) -> &mut Self {
        if broken {
            self.broken.push(error);
        }
        self
    }

    /// What others can cause, or what comes of a limit.
    pub fn perhaps(&mut self, possible: bool, error: Errno) -> &mut Self {
        if possible {
            self.perhaps.push(error);
        }
        self
    }

    /// What the flags of a map may be; `more` are known besides read and write.
    pub fn access(&mut self, flags: u32, more: u32) -> &mut Self {
        self.rule(flags & !(BOTH | more) != 0, Errno::OPNOTSUPP)
            .rule(flags & BOTH == 0, Errno::INVAL)
    }

    /// Bytes that some memory or a range may have.
    pub fn bytes(&mut self, first: u64, length: u64) -> &mut Self {
        self.rule(length == 0, Errno::INVAL).rule(
            length > 0 && pages(first, length).is_none(),
            Errno::OVERFLOW,
        )
    }

    /// What a physical range may be: memory.
    pub fn physical(&mut self, facts: &Facts, phys: u64, length: u64) -> &mut Self {
        let Some((first, last)) = pages(phys, length) else {
            return self;
        };
        let within = |(from, to): &(u64, u64)| *from <= first && last <= *to;
        let bits = facts.physical_bits;
        self.rule(
            last.checked_shr(bits).is_some_and(|rest| rest != 0),
            Errno::RANGE,
        )
        .rule(!facts.ram.iter().any(within), Errno::ACCESS)
    }

    /// Where a range may be mapped at an IOVA of the caller's choice.
    pub fn fixed(&mut self, facts: &Facts, live: &[Mapping], iova: u64, length: u64) -> &mut Self {
        let Some((first, last)) = pages(iova, length) else {
            return self.rule(length > 0, Errno::OVERFLOW);
        };
        let (low, high) = facts.aperture;
        let reserved = |(from, to): &(u64, u64)| *from <= last && first <= *to;
        self.rule(first < low || last > high, Errno::RANGE)
            .rule(
                first == 0 || facts.reserved.iter().any(reserved),
                Errno::ADDRNOTAVAIL,
            )
            .rule(facts.shared && first < 1 << 32, Errno::ADDRNOTAVAIL)
            .rule(
                live.iter().any(|one| one.touches(first, last)),
                Errno::EXIST,
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            aperture: (0, (1 << 48) - 1),
            reserved: vec![(0xfee0_0000, 0xfeef_ffff)],
            shared: false,
            ..Facts::default()
        }
    }

    fn broken(iova: u64, length: u64) -> Vec<Errno> {
        let live = [Mapping {
            ctx: 0,
            first: 0x10_0000_0000,
            length: 0x2000,
            flags: BOTH,
            sequence: 0,
            backing: Backing::Phys {
                phys: 0,
                page: None,
            },
        }];
        let mut rules = Rules::default();
        rules.fixed(&facts(), &live, iova, length);
        rules.broken
    }

    #[test]
    fn a_range_is_judged_by_its_pages() {
        assert_eq!(broken(0x10_0000_2000, 1), []);
        assert_eq!(broken(0x10_0000_1fff, 1), [Errno::EXIST]);
        assert_eq!(broken(0xf_ffff_f000, 0x1000), []);
        assert_eq!(broken(0xf_ffff_f000, 0x1001), [Errno::EXIST]);
        assert_eq!(broken(0xfedf_f000, 0x1001), [Errno::ADDRNOTAVAIL]);
        assert_eq!(broken(0, 1), [Errno::ADDRNOTAVAIL]);
        assert_eq!(broken((1 << 48) - 1, 2), [Errno::RANGE]);
        assert_eq!(broken(u64::MAX, 2), [Errno::OVERFLOW]);
    }

    #[test]
    fn pages_hold_all_bytes() {
        assert_eq!(pages(0x1fff, 2), Some((0x1000, 0x2fff)));
        assert_eq!(pages(0x1000, 0), None);
        assert_eq!(pages(u64::MAX, 1), Some((u64::MAX - 0xfff, u64::MAX)));
        assert_eq!(pages(u64::MAX, 2), None);
    }
}
