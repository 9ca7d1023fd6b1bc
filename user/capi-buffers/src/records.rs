// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Each mapped buffer as a whole, found by the buffer or by its IOVA. Where several match,
//! the newest is meant.

use crate::{hash::HashMap, span::Span};
use qat_iommu::Context;
use std::{
    collections::hash_map::Entry,
    hash::{Hash, Hasher},
    ptr,
};

/// Where a mapping was made, and whose end is its own.
#[derive(Debug, Clone, Copy)]
pub enum Owner {
    /// A context of the module.
    Context(&'static Context),
    /// A VFIO container, numbered by whoever registers them.
    Container(u64),
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Owner::Context(one), Owner::Context(other)) => ptr::eq(*one, *other),
            (Owner::Container(one), Owner::Container(other)) => one == other,
            (Owner::Context(_), Owner::Container(_)) | (Owner::Container(_), _) => false,
        }
    }
}

impl Eq for Owner {}

/// One mapping of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Where the buffer begins.
    pub address: usize,
    /// Bytes.
    pub length: usize,
    /// IOVA of its first byte.
    pub iova: u64,
    /// Where the mapping was made.
    pub owner: Owner,
}

/// What a record is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Exactly this buffer.
    Buffer {
        /// Where it begins.
        address: usize,
        /// Bytes.
        length: usize,
    },
    /// Exactly these IOVAs.
    Range {
        /// The first one.
        iova: u64,
        /// Bytes.
        length: usize,
    },
    /// The pages that these IOVAs lie in.
    Pages {
        /// The first one.
        iova: u64,
        /// Bytes.
        length: usize,
    },
}

impl Record {
    pub(crate) fn span(&self) -> Option<Span> {
        Span::new(self.address, self.length, self.iova)
    }

    fn is(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Buffer { address, length } => (self.address, self.length) == (address, length),
            Wanted::Range { iova, length } => (self.iova, self.length) == (iova, length),
            Wanted::Pages { iova, length } => {
                frames(self.iova, self.length) == frames(iova, length)
            }
        }
    }
}

/// The unit by which IOVAs are looked up: no page is smaller.
const FRAME: u64 = 4096;

/// First and last page of a range.
fn frames(iova: u64, length: usize) -> (u64, u64) {
    // usize has at most 64 bits wherever Linux runs.
    let last = iova.saturating_add((length as u64).saturating_sub(1));
    (iova / FRAME, last / FRAME)
}

/// Place of a record in the store.
type Index = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Buffer(usize, usize),
    Frame(u64),
}

// One word for the kind would double the cost of a hash; the two maps are apart anyway.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Key::Buffer(address, length) => (address, length).hash(state),
            Key::Frame(frame) => frame.hash(state),
        }
    }
}

/// Every record with the same key, newest first, is a list through one of the two
/// links.
#[derive(Debug, Clone, Copy)]
struct Stored {
    record: Record,
    /// Higher for newer ones.
    age: u64,
    older: [Option<Index>; 2],
}

const BY_BUFFER: usize = 0;
const BY_FRAME: usize = 1;

/// All records.
#[derive(Debug, Default)]
pub(crate) struct Records {
    store: Vec<Option<Stored>>,
    free: Vec<Index>,
    newest: [HashMap<Key, Index>; 2],
    /// Records are found by their IOVAs, too: since one was for the first time.
    by_frame: bool,
    /// How many there have been.
    added: u64,
}

fn keys(record: &Record) -> [Key; 2] {
    [
        Key::Buffer(record.address, record.length),
        Key::Frame(record.iova / FRAME),
    ]
}

impl Records {
    pub(crate) fn add(&mut self, record: Record) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.store.push(None);
            self.store.len() - 1
        });
        let [by_buffer, by_frame] = &mut self.newest;
        let [buffer, frame] = keys(&record);
        let older = [
            by_buffer.insert(buffer, index),
            match self.by_frame {
                true => by_frame.insert(frame, index),
                false => None,
            },
        ];
        let age = self.added;
        self.added += 1;
        self.store[index] = Some(Stored { record, age, older });
    }

    /// Whether records are found by their IOVAs, too.
    #[inline]
    pub(crate) fn has_iovas(&self) -> bool {
        self.by_frame
    }

    /// Makes it possible to find records by their IOVAs.
    #[cold]
    fn index_frames(&mut self) {
        self.by_frame = true;
        let stored = self.store.iter().enumerate();
        let mut all: Vec<(u64, Index)> = stored
            .filter_map(|(index, stored)| Some((stored.as_ref()?.age, index)))
            .collect();
        all.sort_unstable();
        for (_, index) in all {
            if let Some(stored) = &mut self.store[index] {
                let [_, frame] = keys(&stored.record);
                stored.older[BY_FRAME] = self.newest[BY_FRAME].insert(frame, index);
            }
        }
    }

    /// Takes out the newest record that is `wanted` and has such an owner.
    pub(crate) fn take(&mut self, wanted: Wanted, owned: impl Fn(Owner) -> bool) -> Option<Record> {
        let (by, key) = match wanted {
            Wanted::Buffer { address, length } => (BY_BUFFER, Key::Buffer(address, length)),
            Wanted::Range { iova, .. } | Wanted::Pages { iova, .. } => {
                (BY_FRAME, Key::Frame(iova / FRAME))
            }
        };
        if by == BY_FRAME && !self.by_frame {
            self.index_frames();
        }
        let Entry::Occupied(mut newest) = self.newest[by].entry(key) else {
            return None;
        };
        let index = *newest.get();
        let stored = self.store.get(index).copied().flatten()?;
        if stored.record.is(wanted) && owned(stored.record.owner) {
            match stored.older[by] {
                Some(older) => {
                    newest.insert(older);
                }
                None => {
                    newest.remove();
                }
            }
            if self.by_frame {
                self.unlink(1 - by, index, &stored);
            }
            self.store[index] = None;
            self.free.push(index);
            return Some(stored.record);
        }
        let mut at = stored.older[by];
        while let Some(index) = at {
            let stored = self.store.get(index).copied().flatten()?;
            if stored.record.is(wanted) && owned(stored.record.owner) {
                self.remove(index, &stored);
                return Some(stored.record);
            }
            at = stored.older[by];
        }
        None
    }

    /// Takes out every record with such an owner.
    pub(crate) fn take_all(&mut self, owned: impl Fn(Owner) -> bool) -> Vec<Record> {
        let mut taken = Vec::new();
        for index in 0..self.store.len() {
            if let Some(stored) = self.store[index].filter(|stored| owned(stored.record.owner)) {
                self.remove(index, &stored);
                taken.push(stored.record);
            }
        }
        taken
    }

    fn remove(&mut self, index: Index, stored: &Stored) {
        self.unlink(BY_BUFFER, index, stored);
        if self.by_frame {
            self.unlink(BY_FRAME, index, stored);
        }
        self.store[index] = None;
        self.free.push(index);
    }

    /// Takes a record out of one of the lists that it is in.
    fn unlink(&mut self, by: usize, index: Index, stored: &Stored) {
        let Entry::Occupied(mut newest) = self.newest[by].entry(keys(&stored.record)[by]) else {
            return;
        };
        match (*newest.get() == index, stored.older[by]) {
            (true, Some(older)) => {
                newest.insert(older);
            }
            (true, None) => {
                newest.remove();
            }
            (false, older) => {
                let mut at = Some(*newest.get());
                while let Some(newer) = at.and_then(|at| self.store[at].as_mut()) {
                    if newer.older[by] == Some(index) {
                        newer.older[by] = older;
                        break;
                    }
                    at = newer.older[by];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(address: usize, length: usize, iova: u64, container: u64) -> Record {
        Record {
            address,
            length,
            iova,
            owner: Owner::Container(container),
        }
    }

    fn buffer(address: usize, length: usize) -> Wanted {
        Wanted::Buffer { address, length }
    }

    #[test]
    fn the_newest_of_equal_buffers_is_taken_first() {
        let mut records = Records::default();
        let all = [1, 2, 3].map(|n| record(0x1000, 100, n << 20, n));
        all.into_iter().for_each(|record| records.add(record));
        assert_eq!(records.take(buffer(0x1000, 99), |_| true), None);
        let second = |owner| owner == Owner::Container(2);
        assert_eq!(records.take(buffer(0x1000, 100), second), Some(all[1]));
        assert_eq!(records.take(buffer(0x1000, 100), |_| true), Some(all[2]));
        assert_eq!(records.take(buffer(0x1000, 100), |_| true), Some(all[0]));
        assert_eq!(records.take(buffer(0x1000, 100), |_| true), None);
    }

    #[test]
    fn a_range_is_found_exactly_or_by_its_pages() {
        let mut records = Records::default();
        let only = record(0x1010, 5000, 0x7010, 1);
        records.add(only);
        let (iova, length) = (0x7010, 5000);
        for wrong in [
            Wanted::Range { iova, length: 4999 },
            Wanted::Range {
                iova: 0x7000,
                length,
            },
            Wanted::Pages { iova, length: 4000 },
            Wanted::Pages {
                iova: 0x8000,
                length: 4096,
            },
        ] {
            assert_eq!(records.take(wrong, |_| true), None, "{wrong:?}");
        }
        let pages = Wanted::Pages {
            iova: 0x7000,
            length: 8192,
        };
        assert_eq!(records.take(pages, |_| true), Some(only));
        records.add(only);
        let range = Wanted::Range { iova, length };
        assert_eq!(records.take(range, |_| true), Some(only));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(Record),
        TakeBuffer(usize, usize),
        TakeRange(u64, usize),
        TakeAll(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let address = (0..4_usize).prop_map(|n| n << 12);
        let length = (1..3_usize).prop_map(|n| n << 12);
        let iova = (1..5_u64).prop_map(|n| n << 12);
        let any = (address.clone(), length.clone(), iova.clone(), 0..3_u64)
            .prop_map(|(address, length, iova, owner)| record(address, length, iova, owner));
        prop_oneof![
            4 => any.prop_map(Step::Add),
            2 => (address, length.clone()).prop_map(|(a, l)| Step::TakeBuffer(a, l)),
            2 => (iova, length).prop_map(|(i, l)| Step::TakeRange(i, l)),
            1 => (0..3_u64).prop_map(Step::TakeAll),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec(step(), 0..60)) {
            let mut records = Records::default();
            let mut model: Vec<Record> = Vec::new();
            for step in steps {
                let wanted = match step {
                    Step::Add(record) => {
                        records.add(record);
                        model.push(record);
                        continue;
                    }
                    Step::TakeAll(container) => {
                        let owned = |owner| owner == Owner::Container(container);
                        let mut taken = records.take_all(owned);
                        let mut expected: Vec<_> =
                            model.iter().copied().filter(|r| owned(r.owner)).collect();
                        model.retain(|r| !owned(r.owner));
                        let key = |r: &Record| (r.address, r.length, r.iova);
                        taken.sort_by_key(key);
                        expected.sort_by_key(key);
                        prop_assert_eq!(taken, expected);
                        continue;
                    }
                    Step::TakeBuffer(address, length) => Wanted::Buffer { address, length },
                    Step::TakeRange(iova, length) => Wanted::Range { iova, length },
                };
                let expected = model.iter().rposition(|record| record.is(wanted));
                let expected = expected.map(|index| model.remove(index));
                prop_assert_eq!(records.take(wanted, |_| true), expected);
            }
        }
    }
}
