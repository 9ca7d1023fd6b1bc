// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The free IOVAs of a container. What was freed is used again first, the smallest range
//! that fits; then the top of what was never used: libusdm comes from the bottom.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

/// Every range is a multiple of this, and begins at one: libusdm's promise.
pub(crate) const SLAB: u64 = 2 << 20;

/// The free IOVAs of a container.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    freed: Ranges,
    fresh: Ranges,
}

/// Disjoint ranges that do not touch each other, as first IOVA and length.
#[derive(Debug, Default)]
struct Ranges {
    by_first: BTreeMap<u64, u64>,
    by_length: BTreeSet<(u64, u64)>,
}

impl Pool {
    /// Everything in `valid` is free, but for the first slab, which has the IOVA 0.
    pub(crate) fn new(valid: &[RangeInclusive<u64>]) -> Self {
        let mut fresh = Ranges::default();
        for range in valid {
            if let Some((first, length)) = slabs(range) {
                fresh.insert(first, length);
            }
        }
        Self {
            fresh,
            ..Self::default()
        }
    }

    /// Takes everything out that is not in `valid`: devices that join a container may
    /// bring reserved ranges with them.
    pub(crate) fn restrict(&mut self, valid: &[RangeInclusive<u64>]) {
        self.fresh = self.fresh.within(valid);
        self.freed = self.freed.within(valid);
    }

    /// A free range of `slabs` slabs.
    pub(crate) fn take(&mut self, slabs: u64) -> Option<u64> {
        let length = slabs.checked_mul(SLAB).filter(|length| *length > 0)?;
        let found = self.freed.best(length).or_else(|| {
            let place = self.fresh.highest(length)?;
            Some(self.fresh.cut(place, length))
        });
        found.or_else(|| {
            // Neither has room: perhaps both together.
            for (first, length) in std::mem::take(&mut self.fresh).by_first {
                self.freed.insert(first, length);
            }
            self.freed.best(length)
        })
    }

    /// Gives back what was taken.
    pub(crate) fn give(&mut self, first: u64, slabs: u64) {
        self.freed.insert(first, slabs * SLAB);
    }
}

/// The whole slabs within a range, as first IOVA and length.
fn slabs(range: &RangeInclusive<u64>) -> Option<(u64, u64)> {
    let first = (*range.start()).max(1).checked_next_multiple_of(SLAB)?;
    // The last slab of all is never used, so that this cannot overflow.
    let end = range.end().checked_add(1).unwrap_or(u64::MAX) / SLAB * SLAB;
    (first < end).then_some((first, end.saturating_sub(first)))
}

impl Ranges {
    fn insert(&mut self, mut first: u64, mut length: u64) {
        let before = self.by_first.range(..first).next_back();
        if let Some((&start, &size)) = before.filter(|(start, size)| *start + *size == first) {
            self.remove(start, size);
            (first, length) = (start, size + length);
        }
        if let Some(&size) = self.by_first.get(&(first + length)) {
            self.remove(first + length, size);
            length += size;
        }
        self.by_first.insert(first, length);
        self.by_length.insert((length, first));
    }

    fn remove(&mut self, first: u64, length: u64) {
        self.by_first.remove(&first);
        self.by_length.remove(&(length, first));
    }

    /// Cuts from the smallest range that is large enough.
    fn best(&mut self, length: u64) -> Option<u64> {
        let (size, first) = *self.by_length.range((length, 0)..).next()?;
        Some(self.cut((first, size), length))
    }

    /// The highest range that is large enough.
    fn highest(&self, length: u64) -> Option<(u64, u64)> {
        let mut from_the_top = self.by_first.iter().rev();
        from_the_top
            .find(|(_, size)| **size >= length)
            .map(|(first, size)| (*first, *size))
    }

    /// Cuts `length` from the top of a range.
    fn cut(&mut self, (first, size): (u64, u64), length: u64) -> u64 {
        self.remove(first, size);
        if size > length {
            self.insert(first, size - length);
        }
        first + (size - length)
    }

    fn within(&self, valid: &[RangeInclusive<u64>]) -> Self {
        let mut left = Self::default();
        for (first, length) in &self.by_first {
            for range in valid {
                let start = (*range.start()).max(*first);
                let end = (*range.end()).min(first + length - 1);
                if let Some((first, length)) = slabs(&(start..=end)) {
                    left.insert(first, length);
                }
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comes_from_the_top_and_uses_freed_ranges_first() {
        let mut pool = Pool::new(&[0..=0xfedf_ffff, 0xfef0_0000..=(1 << 39) - 1]);
        let top = (1_u64 << 39) - SLAB;
        assert_eq!(pool.take(1), Some(top));
        assert_eq!(pool.take(3), Some(top - 3 * SLAB));
        assert_eq!(pool.take(1), Some(top - 4 * SLAB));
        pool.give(top - 3 * SLAB, 3);
        assert_eq!(pool.take(1), Some(top - SLAB));
        assert_eq!(pool.take(2), Some(top - 3 * SLAB));
        assert_eq!(pool.take(1), Some(top - 5 * SLAB));
    }

    #[test]
    fn reserved_ranges_and_iova_0_are_not_used() {
        let mut pool = Pool::new(&[0..=3 * SLAB - 1, 4 * SLAB + 5..=7 * SLAB]);
        let mut all: Vec<u64> = std::iter::from_fn(|| pool.take(1)).collect();
        all.sort_unstable();
        let expected = [1, 2, 5, 6].map(|slab| slab * SLAB);
        assert_eq!(all, expected);
    }

    #[test]
    fn odd_ranges() {
        for range in [0..=u64::MAX, u64::MAX - SLAB..=u64::MAX] {
            let mut pool = Pool::new(&[range]);
            if let Some(iova) = pool.take(1) {
                assert!(iova % SLAB == 0 && iova.checked_add(SLAB).is_some());
            }
        }
        let mut none = Pool::new(&[5..=SLAB, 0..=SLAB - 1]);
        assert_eq!(none.take(1), None);
        assert_eq!(Pool::new(&[0..=u64::MAX]).take(0), None);
        assert_eq!(Pool::new(&[0..=u64::MAX]).take(u64::MAX), None);
    }

    #[test]
    fn joining_devices_narrow_it() {
        let mut pool = Pool::new(&[0..=8 * SLAB - 1]);
        let used = pool.take(2).unwrap();
        assert_eq!(used, 6 * SLAB);
        pool.restrict(&[0..=3 * SLAB - 1, 5 * SLAB..=8 * SLAB - 1]);
        pool.give(used, 2);
        let mut all: Vec<u64> = std::iter::from_fn(|| pool.take(1)).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 5, 6, 7].map(|slab| slab * SLAB));
    }

    proptest! {
        #[test]
        fn agrees_with_a_row_of_slabs(
            steps in prop::collection::vec((1..9_u64, any::<prop::sample::Index>(), any::<bool>()), 0..200)
        ) {
            const SLABS: u64 = 64;
            let mut pool = Pool::new(&[0..=SLABS * SLAB - 1]);
            let mut used = [false; SLABS as usize];
            used[0] = true;
            let mut live: Vec<(u64, u64)> = Vec::new();
            let slots = |first: u64, slabs: u64| {
                let first = usize::try_from(first / SLAB).unwrap();
                first..first + usize::try_from(slabs).unwrap()
            };
            for (slabs, index, give) in steps {
                if give && !live.is_empty() {
                    let (first, slabs) = live.swap_remove(index.index(live.len()));
                    pool.give(first, slabs);
                    used[slots(first, slabs)].fill(false);
                    continue;
                }
                let wide = usize::try_from(slabs).unwrap();
                let fits = used.windows(wide).any(|row| row.iter().all(|used| !used));
                match pool.take(slabs) {
                    Some(first) => {
                        prop_assert_eq!(first % SLAB, 0);
                        prop_assert!(used[slots(first, slabs)].iter().all(|used| !used));
                        used[slots(first, slabs)].fill(true);
                        live.push((first, slabs));
                    }
                    None => prop_assert!(!fits, "{slabs} slabs would have fitted"),
                }
            }
        }
    }
}
