// SPDX-License-Identifier: GPL-2.0

//! `Priorities`, the chances that keep a tree low: who has the higher one is nearer to the root. What
//! they grow from is random and nobody is told, so that no order of maps and unmaps makes a tree
//! deep.

/// A sequence of numbers that look random.
///
/// # Invariants
///
/// Not 0, after which nothing but 0 would come.
#[derive(Clone, Copy)]
pub(super) struct Priorities(u64);

impl Priorities {
    /// The sequence that grows from `seed`.
    pub(super) const fn new(seed: u64) -> Self {
        // INVARIANT: It has a bit that is set.
        Self(seed | 1)
    }

    /// The next one.
    #[inline]
    pub(super) fn draw(&mut self) -> u32 {
        let mut state = self.0;
        // INVARIANT: Each of these steps has an inverse, and so leads to 0 from 0 alone.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0 = state;
        let [_, _, _, _, high @ ..] = state.to_le_bytes();
        u32::from_le_bytes(high)
    }

    /// One for a node above so many levels of others: half of all have none below them, a quarter
    /// one, and so on. It is higher than all for fewer levels.
    #[inline]
    pub(super) fn draw_above(&mut self, levels: u32) -> u32 {
        let lower = u32::MAX.checked_shr(levels).unwrap_or(0);
        !lower | (self.draw() & (lower >> 1))
    }
}
