// SPDX-License-Identifier: GPL-2.0
//! Sets of I/O virtual addresses: inclusive spans, a set of them that merges what touches, and a pair of such
//! sets (readable, writable) that is what "reach" means in the record. Inclusive ends make 2^64 - 1 an ordinary
//! address, so nothing here needs a wider type except a size.

use serde::Serialize;
use std::collections::BTreeMap;

/// A non-empty run of addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first: u64,
    pub last: u64,
}

impl Span {
    pub const ALL: Span = Span {
        first: 0,
        last: u64::MAX,
    };

    /// None for an empty span and for one that runs past the last address.
    pub fn new(first: u64, size: u64) -> Option<Span> {
        let last = first.checked_add(size.checked_sub(1)?)?;
        Some(Span { first, last })
    }

    pub fn size(self) -> u128 {
        u128::from(self.last) - u128::from(self.first) + 1
    }
}

/// What a device may do with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub read: bool,
    pub write: bool,
}

/// Addresses, kept as the fewest spans.
#[derive(Clone, Debug, Default)]
struct SpanSet(BTreeMap<u64, u64>);

impl SpanSet {
    fn insert(&mut self, span: Span) {
        let Span {
            mut first,
            mut last,
        } = span;
        // Everything that overlaps or touches is taken out and comes back as one span.
        while let Some((&f, &l)) = self.0.range(..=last.saturating_add(1)).next_back() {
            if l.saturating_add(1) < first {
                break;
            }
            self.0.remove(&f);
            first = first.min(f);
            last = last.max(l);
        }
        self.0.insert(first, last);
    }

    fn contains(&self, at: u64) -> bool {
        self.0
            .range(..=at)
            .next_back()
            .is_some_and(|(_, &last)| at <= last)
    }
}

/// One line of a record: `size` is wider than an address because all of them are one more than u64 can say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Range {
    pub iova: u64,
    pub size: u128,
    pub read: bool,
    pub write: bool,
}

/// Which addresses can be read and which can be written.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    read: SpanSet,
    write: SpanSet,
}

impl Reach {
    pub fn add(&mut self, span: Span, access: Access) {
        if access.read {
            self.read.insert(span);
        }
        if access.write {
            self.write.insert(span);
        }
    }

    /// Sorted, not overlapping, neighbours with the same access merged.
    pub fn list(&self) -> Vec<Range> {
        let mut cuts: Vec<u128> = [&self.read.0, &self.write.0]
            .into_iter()
            .flatten()
            .flat_map(|(&first, &last)| [u128::from(first), u128::from(last) + 1])
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut list: Vec<Range> = Vec::new();
        for pair in cuts.windows(2) {
            // The last cut may be 2^64; it never begins a piece.
            let Ok(iova) = u64::try_from(pair[0]) else {
                continue;
            };
            let size = pair[1] - pair[0];
            let (read, write) = (self.read.contains(iova), self.write.contains(iova));
            if !read && !write {
                continue;
            }
            match list.last_mut() {
                Some(before)
                    if u128::from(before.iova) + before.size == pair[0]
                        && (before.read, before.write) == (read, write) =>
                {
                    before.size += size;
                }
                _ => list.push(Range {
                    iova,
                    size,
                    read,
                    write,
                }),
            }
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RO: Access = Access {
        read: true,
        write: false,
    };
    const WO: Access = Access {
        read: false,
        write: true,
    };
    const RW: Access = Access {
        read: true,
        write: true,
    };

    fn span(first: u64, size: u64) -> Span {
        Span::new(first, size).expect("a valid span")
    }

    fn listed(reach: &Reach) -> Vec<(u64, u128, bool, bool)> {
        reach
            .list()
            .into_iter()
            .map(|r| (r.iova, r.size, r.read, r.write))
            .collect()
    }

    #[test]
    fn a_span_may_end_at_the_last_address_and_not_past_it() {
        assert_eq!(span(u64::MAX, 1).last, u64::MAX);
        assert_eq!(span(1 << 63, 1 << 63).last, u64::MAX);
        assert_eq!(Span::new(u64::MAX, 2), None);
        assert_eq!(Span::new(5, 0), None);
        assert_eq!(Span::ALL.size(), 1 << 64);
    }

    #[test]
    fn touching_and_overlapping_spans_merge() {
        let mut reach = Reach::default();
        reach.add(span(0x1000, 0x1000), RW);
        reach.add(span(0x3000, 0x1000), RW);
        assert_eq!(reach.list().len(), 2);
        reach.add(span(0x2000, 0x1000), RW);
        reach.add(span(0x1800, 0x100), RW);
        assert_eq!(listed(&reach), [(0x1000, 0x3000, true, true)]);
    }

    #[test]
    fn a_gap_of_one_byte_stays_a_gap() {
        let mut reach = Reach::default();
        reach.add(span(0x1000, 0xfff), RO);
        reach.add(span(0x2000, 0x1000), RO);
        assert_eq!(reach.list().len(), 2);
    }

    #[test]
    fn one_span_swallows_many() {
        let mut reach = Reach::default();
        for page in 0..100 {
            reach.add(span(page * 0x2000, 0x1000), RO);
        }
        assert_eq!(reach.list().len(), 100);
        reach.add(Span::ALL, RO);
        assert_eq!(listed(&reach), [(0, 1 << 64, true, false)]);
    }

    #[test]
    fn reading_and_writing_are_told_apart() {
        let mut reach = Reach::default();
        reach.add(span(0x1000, 0x3000), RO);
        reach.add(span(0x2000, 0x4000), WO);
        assert_eq!(
            listed(&reach),
            [
                (0x1000, 0x1000, true, false),
                (0x2000, 0x2000, true, true),
                (0x4000, 0x2000, false, true)
            ]
        );
    }
}
