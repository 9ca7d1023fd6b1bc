// SPDX-License-Identifier: GPL-2.0
//! The part of the interface that deals in buffers of programs: requests for tests
//! to spoil, and [`Context`]'s well-formed ones.

use qat_iommu_uapi as uapi;
use rustix::io::Errno;

use super::{address, size_of, Context, BOTH};

/// A buffer as the interface names it: where it begins and how long it is.
pub type Place = (u64, u64);

/// Why a batch failed, and at which of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub error: Errno,
    pub at: u32,
}

/// A well-formed request to map a buffer wherever there is room.
pub fn map_request(va: u64, length: u64) -> uapi::qat_iommu_map_user {
    uapi::qat_iommu_map_user {
        size: size_of::<uapi::qat_iommu_map_user>(),
        flags: BOTH,
        va,
        length,
        alignment: 0,
        iova: 0,
    }
}

/// A well-formed request to unmap a buffer.
pub fn unmap_request(va: u64, length: u64) -> uapi::qat_iommu_unmap_user {
    uapi::qat_iommu_unmap_user {
        size: size_of::<uapi::qat_iommu_unmap_user>(),
        flags: 0,
        va,
        length,
    }
}

/// A well-formed question for the first mapping from an IOVA on.
pub fn query_request(iova: u64) -> uapi::qat_iommu_query {
    uapi::qat_iommu_query {
        size: size_of::<uapi::qat_iommu_query>(),
        iova,
        ..Default::default()
    }
}

/// A well-formed request to map the buffers of a list, which must outlive it.
pub fn map_batch_request(
    buffers: &mut [uapi::qat_iommu_user_buffer],
) -> uapi::qat_iommu_map_user_batch {
    uapi::qat_iommu_map_user_batch {
        size: size_of::<uapi::qat_iommu_map_user_batch>(),
        flags: BOTH,
        buffers: address(buffers.as_mut_ptr()),
        alignment: 0,
        count: u32::try_from(buffers.len()).expect("a short list"),
        failed: 0,
    }
}

/// A well-formed request to unmap the ranges of a list, which must outlive it.
pub fn unmap_batch_request(ranges: &[uapi::qat_iommu_unmap_range]) -> uapi::qat_iommu_unmap_batch {
    uapi::qat_iommu_unmap_batch {
        size: size_of::<uapi::qat_iommu_unmap_batch>(),
        flags: 0,
        ranges: address(ranges.as_ptr()),
        count: u32::try_from(ranges.len()).expect("a short list"),
        failed: 0,
    }
}

/// Buffers as a batch wants them.
pub fn buffers(places: &[Place]) -> Vec<uapi::qat_iommu_user_buffer> {
    places
        .iter()
        .map(|(va, length)| uapi::qat_iommu_user_buffer {
            va: *va,
            length: *length,
            iova: 0,
        })
        .collect()
}

/// Ranges as a batch wants them.
pub fn ranges(places: &[Place]) -> Vec<uapi::qat_iommu_unmap_range> {
    places
        .iter()
        .map(|(iova, length)| uapi::qat_iommu_unmap_range {
            iova: *iova,
            length: *length,
        })
        .collect()
}

impl Context {
    /// Makes a request to map a buffer; the IOVA.
    pub fn map_user_as(&self, mut request: uapi::qat_iommu_map_user) -> Result<u64, Errno> {
        self.ioctl(uapi::QAT_IOMMU_MAP_USER, &mut request)?;
        Ok(request.iova)
    }

    /// Maps a buffer for reading and writing wherever there is room.
    pub fn map_user(&self, va: u64, length: u64) -> Result<u64, Errno> {
        self.map_user_as(map_request(va, length))
    }

    /// Maps a buffer with other permissions.
    pub fn map_user_with(&self, va: u64, length: u64, flags: u32) -> Result<u64, Errno> {
        self.map_user_as(uapi::qat_iommu_map_user {
            flags,
            ..map_request(va, length)
        })
    }

    /// Maps a buffer at an IOVA of this alignment.
    pub fn map_user_aligned(&self, va: u64, length: u64, alignment: u64) -> Result<u64, Errno> {
        self.map_user_as(uapi::qat_iommu_map_user {
            alignment,
            ..map_request(va, length)
        })
    }

    /// Maps a buffer at this IOVA.
    pub fn map_user_at(&self, va: u64, length: u64, iova: u64) -> Result<u64, Errno> {
        self.map_user_as(uapi::qat_iommu_map_user {
            flags: BOTH | uapi::QAT_IOMMU_MAP_FIXED,
            iova,
            ..map_request(va, length)
        })
    }

    pub fn unmap_user(&self, va: u64, length: u64) -> Result<(), Errno> {
        self.ioctl(uapi::QAT_IOMMU_UNMAP_USER, &mut unmap_request(va, length))
    }

    /// The mapping of this context at an IOVA, or the next one above it.
    pub fn query(&self, iova: u64) -> Result<uapi::qat_iommu_query, Errno> {
        let mut request = query_request(iova);
        self.ioctl(uapi::QAT_IOMMU_QUERY, &mut request)?;
        Ok(request)
    }

    /// Every mapping of this context.
    pub fn mappings(&self) -> Result<Vec<uapi::qat_iommu_query>, Errno> {
        let mut all = Vec::new();
        let mut from = 0;
        loop {
            match self.query(from) {
                Ok(found) => {
                    from = found.iova + found.length;
                    all.push(found);
                }
                Err(Errno::NOENT) => return Ok(all),
                Err(error) => return Err(error),
            }
        }
    }

    /// Maps every buffer or none; their IOVAs.
    pub fn map_batch(&self, places: &[Place]) -> Result<Vec<u64>, Refused> {
        let mut list = buffers(places);
        let mut request = map_batch_request(&mut list);
        match self.ioctl(uapi::QAT_IOMMU_MAP_USER_BATCH, &mut request) {
            Ok(()) => Ok(list.iter().map(|buffer| buffer.iova).collect()),
            Err(error) => Err(Refused {
                error,
                at: request.failed,
            }),
        }
    }

    /// Unmaps every range or none.
    pub fn unmap_batch(&self, places: &[Place]) -> Result<(), Refused> {
        let list = ranges(places);
        let mut request = unmap_batch_request(&list);
        self.ioctl(uapi::QAT_IOMMU_UNMAP_BATCH, &mut request)
            .map_err(|error| Refused {
                error,
                at: request.failed,
            })
    }
}
