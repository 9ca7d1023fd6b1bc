// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! A hash for addresses. They are the program's own and the kernel's, not an enemy's, so
//! that a multiplication will do; the standard one costs several times as much.

use std::hash::{BuildHasherDefault, Hasher};

pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Multiply>>;

#[derive(Debug, Default)]
pub(crate) struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        // The map takes its bits from both ends; the product is mixed best at the top.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(29) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, value: usize) {
        // usize has at most 64 bits wherever Linux runs.
        self.write_u64(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        collections::HashSet,
        hash::{BuildHasher, BuildHasherDefault},
    };

    #[test]
    fn neighbouring_buffers_spread() {
        let hash = BuildHasherDefault::<Multiply>::default();
        let hashes = (0..4096_usize).map(|page| hash.hash_one((page << 12, 4096_usize)));
        let hashes: Vec<u64> = hashes.collect();
        let low: HashSet<u64> = hashes.iter().map(|hash| hash & 0xfff).collect();
        let high: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        assert!(low.len() > 2000, "{}", low.len());
        assert_eq!(high.len(), 128);
    }
}
