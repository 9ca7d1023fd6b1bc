// SPDX-License-Identifier: GPL-2.0
//! What one context has mapped, as its thread believes.

use crate::abi::Context;
use crate::mem::PAGE;

pub const PAGE_U64: u64 = 4096;

/// A range of IOVAs: where it begins, and its bytes.
pub type Range = (u64, u64);

/// The space that a context chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// None yet.
    Nowhere,
    /// The one of the owned PFs.
    Owned,
    /// That of a shared PF, for as long as its presence is this.
    Shared { seat: usize, presence: u64 },
}

/// A mapped buffer.
#[derive(Clone, Debug)]
pub struct User {
    /// Which part of the thread's memory it is in.
    pub slot: usize,
    pub va: u64,
    pub length: u64,
    /// That of its first byte.
    pub iova: u64,
}

impl User {
    /// The whole pages that are mapped.
    pub fn range(&self) -> Range {
        let first = self.iova & !(PAGE_U64 - 1);
        let end = (self.iova + self.length).next_multiple_of(PAGE_U64);
        (first, end - first)
    }

    pub fn pages(&self) -> usize {
        usize::try_from(self.range().1).expect("a small buffer") / PAGE
    }
}

/// How long a classic mapping lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The owned space has it, which never ends.
    Long,
    /// Until there is no PF: the count of such times when it was made.
    Until(u64),
    /// It may be gone already.
    Doubtful,
}

/// A classic mapping of one page.
#[derive(Clone, Debug)]
pub struct Classic {
    /// Which of the thread's pages it is.
    pub page: usize,
    pub iova: u64,
    pub life: Life,
}

impl Classic {
    pub fn surely_there(&self, barren: u64) -> bool {
        match self.life {
            Life::Long => true,
            Life::Until(count) => count == barren,
            Life::Doubtful => false,
        }
    }

    pub fn range(&self) -> Range {
        (self.iova, PAGE_U64)
    }
}

/// An open context and what is mapped through it.
pub struct Held {
    pub context: Context,
    pub place: Place,
    pub users: Vec<User>,
    pub classics: Vec<Classic>,
}

impl Held {
    pub fn new(context: Context) -> Self {
        Self {
            context,
            place: Place::Nowhere,
            users: Vec::new(),
            classics: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_covers_the_pages_that_it_touches() {
        let user = |iova, length| User {
            slot: 0,
            va: 0,
            length,
            iova,
        };
        assert_eq!(user(0x1000, 1).range(), (0x1000, 0x1000));
        assert_eq!(user(0x1fff, 2).range(), (0x1000, 0x2000));
        assert_eq!(user(0x1000, 0x2000).pages(), 2);
    }

    #[test]
    fn a_classic_mapping_is_certain_while_there_was_a_pf() {
        let classic = |life| Classic {
            page: 0,
            iova: 0,
            life,
        };
        assert!(classic(Life::Long).surely_there(7));
        assert!(classic(Life::Until(7)).surely_there(7));
        assert!(!classic(Life::Until(6)).surely_there(7));
        assert!(!classic(Life::Doubtful).surely_there(0));
    }
}
