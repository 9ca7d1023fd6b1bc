// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! What the compatible calls check and do, for any process.

use crate::{
    backend::Either,
    pool::SLAB,
    signals::{held_back, uninterrupted},
};
use libc::{E2BIG, EINVAL};
use qat_iommu::{page_size, round_up, Access, Placement};
use qat_iommu_capi_buffers::{map, unmap, Buffers, Request, Wanted};
use qat_iommu_capi_core::Failure;

/// `QAE_IOVA_MAP_MAX_SIZE` of libusdm.
const MAX: usize = 2 << 30;

#[inline]
pub(crate) fn map_contiguous(
    buffers: &Buffers,
    either: Either<'_>,
    address: usize,
    size: usize,
) -> Result<u64, Failure> {
    let length = rounded(address, size)?;
    let mapped = map(buffers, &either, &request(address, length));
    uninterrupted(mapped, || map_again(buffers, either, address, length))
}

#[cold]
#[inline(never)]
fn map_again(
    buffers: &Buffers,
    either: Either<'_>,
    address: usize,
    length: usize,
) -> Result<u64, Failure> {
    held_back(|| map(buffers, &either, &request(address, length)))
}

#[inline]
fn request(address: usize, length: usize) -> Request {
    Request {
        address,
        length,
        access: Access::ReadWrite,
        placement: Placement::Aligned(SLAB),
        alone: true,
    }
}

#[inline]
pub(crate) fn unmap_contiguous(
    buffers: &Buffers,
    either: Either<'_>,
    address: usize,
    size: usize,
) -> Result<(), Failure> {
    let length = rounded(address, size)?;
    unmap(buffers, &either, Wanted::Buffer { address, length }, |_| {
        true
    })
}

/// The size in whole pages of a buffer that is as the calls want it.
fn rounded(address: usize, size: usize) -> Result<usize, Failure> {
    let page = page_size();
    // usize has at most 64 bits wherever Linux runs.
    let length = round_up(size as u64, page).and_then(|length| usize::try_from(length).ok());
    match length {
        Some(length) if size <= MAX && address != 0 && address as u64 & (page - 1) == 0 => {
            Ok(length)
        }
        _ => Err(refused(address, size, page)),
    }
}

/// What is wrong with a buffer.
#[cold]
fn refused(address: usize, size: usize, page: u64) -> Failure {
    if address == 0 || address as u64 & (page - 1) != 0 {
        return Failure::new(
            EINVAL,
            format!(
                "the address {address:#x} is null or not a multiple of {page}; allocate the buffer \
                 page aligned (aligned_alloc or mmap), or use qat_iommu_map_user"
            ),
        );
    }
    if size == 0 {
        return Failure::new(EINVAL, "the size is 0; give at least 1 byte");
    }
    Failure::new(
        E2BIG,
        "the size is above 2 GiB, the most that this call takes; use qat_iommu_map_user, which \
         has no limit",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Choice, registry::Registry};
    use qat_iommu_capi_core::{Process, Settings};

    #[test]
    fn arguments_are_checked_in_order() {
        let errno = |address, size| rounded(address, size).map_err(|failure| failure.errno());
        assert_eq!(errno(0, 4096), Err(EINVAL));
        assert_eq!(errno(0x1001, 4096), Err(EINVAL));
        assert_eq!(errno(0x1800, MAX + 1), Err(EINVAL));
        assert_eq!(errno(0x1000, 0), Err(EINVAL));
        assert_eq!(errno(0x1000, 1), Ok(4096));
        assert_eq!(errno(0x1000, 4097), Ok(8192));
        assert_eq!(errno(0x1000, MAX), Ok(MAX));
        assert_eq!(errno(0x1000, MAX + 1), Err(E2BIG));
        assert_eq!(errno(0x1000, usize::MAX), Err(E2BIG));
    }

    #[test]
    fn without_a_device_nothing_is_mapped() {
        let process = Process::new(Settings {
            node: "/nonexistent",
            pf: || None,
            in_vm: || false,
        });
        let (registry, buffers) = (Registry::default(), Buffers::new().unwrap());
        let either = Either {
            choice: Choice::Registered,
            registry: &registry,
            process: &process,
        };
        let failure = map_contiguous(&buffers, either, 0x1000, 4096).unwrap_err();
        assert_eq!(failure.errno(), libc::ENODEV);
        let failure = unmap_contiguous(&buffers, either, 0x1000, 4096).unwrap_err();
        assert_eq!(failure.errno(), libc::ENOENT);
        assert_eq!(buffers.lookup(0x1000), None);
    }
}
