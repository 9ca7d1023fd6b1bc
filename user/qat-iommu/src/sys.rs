// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The ioctl calls themselves: the only place in this crate where memory is handed
//! to the kernel.
#![allow(unsafe_code)]

use qat_iommu_uapi as uapi;
use rustix::{
    io::Errno,
    ioctl::{ioctl, Opcode, Updater},
};
use std::{mem::size_of, os::fd::BorrowedFd};

/// The size field of a structure: they are all far below one page.
const fn size<T>() -> u32 {
    assert!(size_of::<T>() <= 4096);
    size_of::<T>() as u32
}

/// # Safety
///
/// `T` must be the structure of command `COMMAND`, its size field must hold its
/// size, and every user pointer in it must be good for the kernel to write to.
unsafe fn call<const COMMAND: Opcode, T>(
    fd: BorrowedFd<'_>,
    argument: &mut T,
) -> Result<(), Errno> {
    // SAFETY: the caller vouches for command and structure. The kernel writes no
    // more than the size field says, and only integers.
    unsafe { ioctl(fd, Updater::<COMMAND, T>::new(argument)) }
}

/// Fills `pfs` and `ranges` from the start; the counts in the answer are of what
/// there is, and may be larger than the slices.
pub(crate) fn info(
    fd: BorrowedFd<'_>,
    pfs: &mut [uapi::qat_iommu_pf],
    ranges: &mut [uapi::qat_iommu_range],
) -> Result<uapi::qat_iommu_info, Errno> {
    let mut argument = uapi::qat_iommu_info {
        size: size::<uapi::qat_iommu_info>(),
        pfs: user_pointer(pfs),
        reserved_ranges: user_pointer(ranges),
        num_pfs: count(pfs)?,
        num_reserved_ranges: count(ranges)?,
        ..Default::default()
    };
    // SAFETY: the structure is INFO's, and the two pointers are to exclusively
    // borrowed arrays of plain integers with as many elements as it says.
    unsafe { call::<{ uapi::QAT_IOMMU_INFO }, _>(fd, &mut argument)? };
    Ok(argument)
}

pub(crate) fn attach(
    fd: BorrowedFd<'_>,
    argument: uapi::qat_iommu_attach,
) -> Result<uapi::qat_iommu_attach, Errno> {
    let mut argument = uapi::qat_iommu_attach {
        size: size::<uapi::qat_iommu_attach>(),
        ..argument
    };
    // SAFETY: the structure is ATTACH's and has no pointers.
    unsafe { call::<{ uapi::QAT_IOMMU_ATTACH }, _>(fd, &mut argument)? };
    Ok(argument)
}

pub(crate) fn map_phys(
    fd: BorrowedFd<'_>,
    argument: uapi::qat_iommu_map_phys,
) -> Result<uapi::qat_iommu_map_phys, Errno> {
    let mut argument = uapi::qat_iommu_map_phys {
        size: size::<uapi::qat_iommu_map_phys>(),
        ..argument
    };
    // SAFETY: the structure is MAP_PHYS's and has no pointers: the physical address
    // is one that the device reaches, and the kernel decides whether it may.
    unsafe { call::<{ uapi::QAT_IOMMU_MAP_PHYS }, _>(fd, &mut argument)? };
    Ok(argument)
}

pub(crate) fn unmap(fd: BorrowedFd<'_>, argument: uapi::qat_iommu_unmap) -> Result<(), Errno> {
    let mut argument = uapi::qat_iommu_unmap {
        size: size::<uapi::qat_iommu_unmap>(),
        ..argument
    };
    // SAFETY: the structure is UNMAP's and has no pointers.
    unsafe { call::<{ uapi::QAT_IOMMU_UNMAP }, _>(fd, &mut argument) }
}

fn user_pointer<T>(slice: &mut [T]) -> u64 {
    // usize has at most 64 bits wherever Linux runs.
    slice.as_mut_ptr().expose_provenance() as u64
}

fn count<T>(slice: &[T]) -> Result<u32, Errno> {
    u32::try_from(slice.len()).map_err(|_| Errno::OVERFLOW)
}
