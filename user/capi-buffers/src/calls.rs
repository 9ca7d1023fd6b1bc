// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Mapping and unmapping, in the order that keeps the table right whoever else maps,
//! unmaps or looks up at the same time: entered after it is mapped, taken out before it
//! is unmapped, and put back if it turns out to be mapped still.

use crate::{Buffers, Owner, Record, Wanted};
use libc::{EEXIST, ENOENT};
use qat_iommu::{Access, Placement};
use qat_iommu_capi_core::Failure;

/// A buffer to map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Where it begins.
    pub address: usize,
    /// Bytes.
    pub length: usize,
    /// What the device may do.
    pub access: Access,
    /// Where it is to be mapped.
    pub placement: Placement,
    /// Whether none of it may be mapped already.
    pub alone: bool,
}

/// What really maps.
pub trait Backend {
    /// Maps a buffer: its IOVA, and whose the mapping is.
    ///
    /// # Errors
    ///
    /// Whatever it is; then nothing is mapped.
    fn map(&self, request: &Request) -> Result<(u64, Owner), Failure>;

    /// Unmaps what it mapped.
    ///
    /// # Errors
    ///
    /// Whatever it is, and what that means for the mapping.
    fn unmap(&self, record: &Record) -> Result<(), NotUnmapped>;
}

/// An unmap that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotUnmapped {
    /// The mapping is as it was.
    Kept(Failure),
    /// The mapping cannot be used any more.
    Gone(Failure),
    /// Nor can any other of the same owner.
    AllGone(Failure),
}

/// Maps a buffer and enters it.
///
/// # Errors
///
/// Those of the backend; EEXIST for a buffer that is to be alone and is not.
#[inline(always)]
pub fn map(buffers: &Buffers, backend: &impl Backend, request: &Request) -> Result<u64, Failure> {
    if request.alone && buffers.touches(request.address, request.length) {
        return Err(occupied());
    }
    let (iova, owner) = backend.map(request)?;
    let record = Record {
        address: request.address,
        length: request.length,
        iova,
        owner,
    };
    if !request.alone {
        buffers.add_one(record);
    } else if !buffers.add_alone(record) {
        // Another thread was faster. This one is nobody's, and whatever keeps it from
        // being unmapped would not be the caller's to mend.
        let _ = backend.unmap(&{ record });
        return Err(occupied());
    }
    Ok(iova)
}

/// Takes out and unmaps the newest mapping that is meant, of such an owner.
///
/// # Errors
///
/// ENOENT if there is none; those of the backend.
#[inline]
pub fn unmap(
    buffers: &Buffers,
    backend: &impl Backend,
    wanted: Wanted,
    owned: impl Fn(Owner) -> bool,
) -> Result<(), Failure> {
    let record = buffers.take(wanted, owned).ok_or_else(not_mapped)?;
    backend
        .unmap(&record)
        .map_err(|error| error.settle(buffers, &[{ record }]))
}

impl NotUnmapped {
    /// Makes the table right, of which `records` were taken out, and says why the unmap
    /// failed.
    #[cold]
    pub(crate) fn settle(self, buffers: &Buffers, records: &[Record]) -> Failure {
        match self {
            NotUnmapped::Kept(failure) => {
                buffers.add(records.iter().copied());
                failure
            }
            NotUnmapped::Gone(failure) => failure,
            NotUnmapped::AllGone(failure) => {
                buffers.take_all(|owner| records.iter().any(|record| record.owner == owner));
                failure
            }
        }
    }
}

#[cold]
pub(crate) fn not_mapped() -> Failure {
    Failure::new(
        ENOENT,
        "this process has no mapping of exactly that; give what was given to the map",
    )
}

#[cold]
fn occupied() -> Failure {
    Failure::new(
        EEXIST,
        "part of the buffer is mapped already; unmap it first, or use qat_iommu_map_user, \
         which maps a buffer as often as it is asked to",
    )
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
