// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The three ioctls of a VFIO container (type 1) that are needed here, as `linux/vfio.h`
//! has them.
#![allow(unsafe_code)]

use rustix::{
    fs::fstat,
    io::Errno,
    ioctl::{ioctl, Opcode, Updater},
};
use std::{
    ops::RangeInclusive,
    os::fd::{BorrowedFd, RawFd},
};

/// `_IO(';', 100 + number)`.
const fn command(number: u32) -> Opcode {
    (0x3b << 8) | (100 + number)
}

const GET_INFO: Opcode = command(12);
const MAP_DMA: Opcode = command(13);
const UNMAP_DMA: Opcode = command(14);

const INFO_CAPS: u32 = 1 << 1;
const CAP_IOVA_RANGE: u16 = 1;
const DMA_READ: u32 = 1 << 0;
const DMA_WRITE: u32 = 1 << 1;

/// Room for the answer to GET_INFO, whose capabilities have no fixed length: about a
/// thousand ranges.
const INFO_WORDS: usize = 2048;

#[repr(C)]
struct Map {
    argsz: u32,
    flags: u32,
    vaddr: u64,
    iova: u64,
    size: u64,
}

#[repr(C)]
struct Unmap {
    argsz: u32,
    flags: u32,
    iova: u64,
    size: u64,
}

/// A container of the program's: a number that the program may close at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContainerFd {
    fd: RawFd,
    /// Device number of the node, by which one that means something else is recognised.
    device: u64,
}

impl ContainerFd {
    pub(crate) fn new(fd: RawFd) -> Result<Self, Errno> {
        let device = device(fd)?;
        Ok(Self { fd, device })
    }

    pub(crate) fn number(self) -> RawFd {
        self.fd
    }

    /// Whether it still is what it was.
    pub(crate) fn is_intact(self) -> bool {
        device(self.fd) == Ok(self.device)
    }

    /// The IOVAs that may be mapped.
    pub(crate) fn valid_ranges(self) -> Result<Vec<RangeInclusive<u64>>, Errno> {
        let mut words = vec![0_u64; INFO_WORDS].into_boxed_slice();
        let bytes = size_of_val(&*words);
        words[0] = u64::try_from(bytes).map_err(|_| Errno::OVERFLOW)?;
        let words: &mut [u64; INFO_WORDS] = (&mut *words).try_into().map_err(|_| Errno::INVAL)?;
        // SAFETY: the structure is GET_INFO's, with as much room as it says (on a
        // little-endian machine the first word is its size, with no flags).
        unsafe { call::<GET_INFO, _>(self.fd, words)? };
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        iova_ranges(&bytes).ok_or(Errno::OPNOTSUPP)
    }

    /// Maps a buffer of this process for reading and writing.
    pub(crate) fn map(self, address: u64, iova: u64, length: u64) -> Result<(), Errno> {
        let mut argument = Map {
            argsz: 32,
            flags: DMA_READ | DMA_WRITE,
            vaddr: address,
            iova,
            size: length,
        };
        // SAFETY: the structure is MAP_DMA's. The C program that asks for it answers for
        // its buffer.
        unsafe { call::<MAP_DMA, _>(self.fd, &mut argument) }
    }

    /// Unmaps a range, and returns how many bytes were unmapped.
    pub(crate) fn unmap(self, iova: u64, length: u64) -> Result<u64, Errno> {
        let mut argument = Unmap {
            argsz: 24,
            flags: 0,
            iova,
            size: length,
        };
        // SAFETY: the structure is UNMAP_DMA's and has no pointers.
        unsafe { call::<UNMAP_DMA, _>(self.fd, &mut argument)? };
        Ok(argument.size)
    }
}

const _: () = assert!(size_of::<Map>() == 32 && size_of::<Unmap>() == 24);
const _: () = assert!(cfg!(target_endian = "little"));

fn device(fd: RawFd) -> Result<u64, Errno> {
    Ok(fstat(borrow(fd)?)?.st_rdev)
}

/// # Safety
///
/// `T` must be the structure of command `COMMAND`, with its size in its first field.
unsafe fn call<const COMMAND: Opcode, T>(fd: RawFd, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: the caller vouches for command and structure. The kernel writes no more
    // than the size says, and only integers.
    unsafe { ioctl(borrow(fd)?, Updater::<COMMAND, T>::new(argument)) }
}

fn borrow<'a>(fd: RawFd) -> Result<BorrowedFd<'a>, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: it is not -1. If the program has closed it the system call says so.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Finds the IOVA ranges in an answer to GET_INFO: `vfio_iommu_type1_info`, and at the
/// offsets that it gives the capabilities.
fn iova_ranges(answer: &[u8]) -> Option<Vec<RangeInclusive<u64>>> {
    let u32_at = |at: usize| {
        let bytes = answer.get(at..at.checked_add(4)?)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let u64_at = |at: usize| {
        let bytes = answer.get(at..at.checked_add(8)?)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    };
    if u32_at(4)? & INFO_CAPS == 0 {
        return None;
    }
    let mut at = usize::try_from(u32_at(16)?).ok()?;
    // No more capabilities than there is room for: a loop would not end.
    for _ in 0..answer.len() / 8 {
        if at == 0 {
            return None;
        }
        let id = u16::from_ne_bytes(answer.get(at..at.checked_add(2)?)?.try_into().ok()?);
        if id == CAP_IOVA_RANGE {
            let count = usize::try_from(u32_at(at + 8)?).ok()?;
            return (0..count)
                .map(|index| {
                    let entry = index.checked_mul(16)?.checked_add(at)?.checked_add(16)?;
                    Some(u64_at(entry)?..=u64_at(entry + 8)?)
                })
                .collect();
        }
        at = usize::try_from(u32_at(at + 4)?).ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with the capabilities at 24: another one, then the ranges.
    fn answer(ranges: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |value: u32| bytes.extend(value.to_ne_bytes());
        [0, INFO_CAPS, 0x1000, 0, 24, 0].map(&mut put);
        [3 | (1 << 16), 40, 7, 7].map(&mut put);
        let count = u32::try_from(ranges.len()).unwrap();
        [u32::from(CAP_IOVA_RANGE) | (1 << 16), 0, count, 0].map(&mut put);
        for (first, last) in ranges {
            bytes.extend(first.to_ne_bytes());
            bytes.extend(last.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn ranges_are_found_behind_other_capabilities() {
        let ranges = [(0, 0xfedf_ffff), (0xfef0_0000, (1 << 48) - 1)];
        let found = iova_ranges(&answer(&ranges)).unwrap();
        assert_eq!(found, [0..=0xfedf_ffff, 0xfef0_0000..=(1 << 48) - 1]);
    }

    #[test]
    fn strange_answers_have_no_ranges() {
        let good = answer(&[(0, 1), (2, 3)]);
        for length in 0..good.len() {
            assert_eq!(iova_ranges(&good[..length]), None, "{length}");
        }
        let mut looping = good.clone();
        looping[40..44].copy_from_slice(&(2_u32 | (1 << 16)).to_ne_bytes());
        looping[44..48].copy_from_slice(&24_u32.to_ne_bytes());
        assert_eq!(iova_ranges(&looping), None);
        let mut without = good;
        without[4..8].copy_from_slice(&1_u32.to_ne_bytes());
        assert_eq!(iova_ranges(&without), None);
    }

    #[test]
    fn what_is_no_container_does_not_take_the_commands() {
        assert_eq!(ContainerFd::new(-1), Err(Errno::BADF));
        let file = std::fs::File::open("/dev/null").unwrap();
        let fd = ContainerFd::new(std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap();
        assert!(fd.is_intact());
        assert_eq!(fd.valid_ranges(), Err(Errno::NOTTY));
        assert_eq!(fd.map(0x1000, 0x1000, 0x1000), Err(Errno::NOTTY));
        assert_eq!(fd.unmap(0x1000, 0x1000), Err(Errno::NOTTY));
    }
}
