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
#[inline]
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

#[inline]
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

#[inline]
pub(crate) fn unmap(fd: BorrowedFd<'_>, argument: uapi::qat_iommu_unmap) -> Result<(), Errno> {
    let mut argument = uapi::qat_iommu_unmap {
        size: size::<uapi::qat_iommu_unmap>(),
        ..argument
    };
    // SAFETY: the structure is UNMAP's and has no pointers.
    unsafe { call::<{ uapi::QAT_IOMMU_UNMAP }, _>(fd, &mut argument) }
}

/// # Safety
///
/// The buffer must be memory that a device may access as the flags say until it is
/// unmapped.
#[inline]
pub(crate) unsafe fn map_user(
    fd: BorrowedFd<'_>,
    argument: uapi::qat_iommu_map_user,
) -> Result<uapi::qat_iommu_map_user, Errno> {
    let mut argument = uapi::qat_iommu_map_user {
        size: size::<uapi::qat_iommu_map_user>(),
        ..argument
    };
    // SAFETY: the structure is MAP_USER's; the caller vouches for the buffer.
    unsafe { call::<{ uapi::QAT_IOMMU_MAP_USER }, _>(fd, &mut argument)? };
    Ok(argument)
}

#[inline]
pub(crate) fn unmap_user(
    fd: BorrowedFd<'_>,
    argument: uapi::qat_iommu_unmap_user,
) -> Result<(), Errno> {
    let mut argument = uapi::qat_iommu_unmap_user {
        size: size::<uapi::qat_iommu_unmap_user>(),
        ..argument
    };
    // SAFETY: the structure is UNMAP_USER's, and the buffer is not looked at.
    unsafe { call::<{ uapi::QAT_IOMMU_UNMAP_USER }, _>(fd, &mut argument) }
}

pub(crate) fn query(
    fd: BorrowedFd<'_>,
    argument: uapi::qat_iommu_query,
) -> Result<uapi::qat_iommu_query, Errno> {
    let mut argument = uapi::qat_iommu_query {
        size: size::<uapi::qat_iommu_query>(),
        ..argument
    };
    // SAFETY: the structure is QUERY's and has no pointers.
    unsafe { call::<{ uapi::QAT_IOMMU_QUERY }, _>(fd, &mut argument)? };
    Ok(argument)
}

/// The IOVAs are written into `buffers`. If one of them is the reason of a failure,
/// its index comes with the error.
///
/// # Safety
///
/// As for [`map_user`], for each buffer.
pub(crate) unsafe fn map_user_batch(
    fd: BorrowedFd<'_>,
    buffers: &mut [uapi::qat_iommu_user_buffer],
    flags: u32,
    alignment: u64,
) -> Result<(), (Errno, Option<usize>)> {
    let mut argument = uapi::qat_iommu_map_user_batch {
        size: size::<uapi::qat_iommu_map_user_batch>(),
        flags,
        buffers: user_pointer(buffers),
        alignment,
        count: batch_count(buffers)?,
        failed: u32::MAX,
    };
    // SAFETY: the structure is MAP_USER_BATCH's, and its pointer is to an exclusively
    // borrowed array of integers; the caller vouches for the buffers.
    let result = unsafe { call::<{ uapi::QAT_IOMMU_MAP_USER_BATCH }, _>(fd, &mut argument) };
    result.map_err(|errno| (errno, culprit(argument.failed, buffers.len())))
}

pub(crate) fn unmap_batch(
    fd: BorrowedFd<'_>,
    ranges: &mut [uapi::qat_iommu_unmap_range],
) -> Result<(), (Errno, Option<usize>)> {
    let mut argument = uapi::qat_iommu_unmap_batch {
        size: size::<uapi::qat_iommu_unmap_batch>(),
        flags: 0,
        ranges: user_pointer(ranges),
        count: batch_count(ranges)?,
        failed: u32::MAX,
    };
    // SAFETY: the structure is UNMAP_BATCH's, and its pointer is to an exclusively
    // borrowed array of integers.
    let result = unsafe { call::<{ uapi::QAT_IOMMU_UNMAP_BATCH }, _>(fd, &mut argument) };
    result.map_err(|errno| (errno, culprit(argument.failed, ranges.len())))
}

/// Which element the module names; it names none where the batch as such is wrong.
fn culprit(failed: u32, elements: usize) -> Option<usize> {
    usize::try_from(failed)
        .ok()
        .filter(|index| *index < elements)
}

fn batch_count<T>(slice: &[T]) -> Result<u32, (Errno, Option<usize>)> {
    u32::try_from(slice.len()).map_err(|_| (Errno::TOOBIG, None))
}

fn user_pointer<T>(slice: &mut [T]) -> u64 {
    // usize has at most 64 bits wherever Linux runs.
    slice.as_mut_ptr().expose_provenance() as u64
}

fn count<T>(slice: &[T]) -> Result<u32, Errno> {
    u32::try_from(slice.len()).map_err(|_| Errno::OVERFLOW)
}
