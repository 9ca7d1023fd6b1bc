// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Copies from and to memory that a device may write at the same time: every access
//! is volatile, by machine words where both ends of the memory allow it.
#![allow(unsafe_code)]

const WORD: usize = size_of::<usize>();

/// How many of `length` bytes come before the first word boundary.
fn head(start: *const u8, length: usize) -> usize {
    start.align_offset(WORD).min(length)
}

/// # Safety
///
/// `from` must be good for reading as many bytes as `to` has, none of which anything
/// in this process writes meanwhile.
pub(crate) unsafe fn copy_out(from: *const u8, to: &mut [u8]) {
    let (first, rest) = to.split_at_mut(head(from, to.len()));
    let mut at = from;
    let bytes = |at: &mut *const u8, to: &mut [u8]| {
        for byte in to {
            // SAFETY: one of the bytes that the caller vouches for.
            unsafe {
                *byte = at.read_volatile();
                *at = at.add(1);
            }
        }
    };
    bytes(&mut at, first);
    let mut words = rest.chunks_exact_mut(WORD);
    for word in &mut words {
        // SAFETY: as above, a whole word, at a multiple of its size.
        unsafe {
            word.copy_from_slice(&at.cast::<usize>().read_volatile().to_ne_bytes());
            at = at.add(WORD);
        }
    }
    bytes(&mut at, words.into_remainder());
}

/// # Safety
///
/// `to` must be good for writing as many bytes as `from` has, none of which anything
/// in this process accesses meanwhile.
pub(crate) unsafe fn copy_in(from: &[u8], to: *mut u8) {
    let (first, rest) = from.split_at(head(to, from.len()));
    let mut at = to;
    let bytes = |at: &mut *mut u8, from: &[u8]| {
        for byte in from {
            // SAFETY: one of the bytes that the caller vouches for.
            unsafe {
                at.write_volatile(*byte);
                *at = at.add(1);
            }
        }
    };
    bytes(&mut at, first);
    let words = rest.chunks_exact(WORD);
    let last = words.remainder();
    for word in words {
        let mut value = [0; WORD];
        value.copy_from_slice(word);
        // SAFETY: as above, a whole word, at a multiple of its size.
        unsafe {
            at.cast::<usize>()
                .write_volatile(usize::from_ne_bytes(value));
            at = at.add(WORD);
        }
    }
    bytes(&mut at, last);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_and_length() {
        let source: Vec<u8> = (0..64).collect();
        for offset in 0..16 {
            for length in 0..40 {
                let mut memory = [0xee_u8; 64];
                // SAFETY: all of it lies within the array.
                unsafe { copy_in(&source[..length], memory.as_mut_ptr().add(offset)) };
                assert!(memory[..offset].iter().all(|byte| *byte == 0xee));
                assert_eq!(memory[offset..offset + length], source[..length]);
                assert!(memory[offset + length..].iter().all(|byte| *byte == 0xee));

                let mut out = vec![0; length];
                // SAFETY: as above.
                unsafe { copy_out(memory.as_ptr().add(offset), &mut out) };
                assert_eq!(out, source[..length]);
            }
        }
    }
}
