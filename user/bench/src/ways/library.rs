// SPDX-License-Identifier: GPL-2.0
//! Ours, by the C calls of the library, found in the shared object as any program finds them. The
//! library keeps one context for the whole life of the process.

use anyhow::{Context as _, Result};
use libloading::Library as Object;
use std::ffi::{c_int, c_void};

use super::{check, Way};
use crate::machine::Machine;
use crate::memory::Span;

type MapUser = unsafe extern "C" fn(*mut c_void, usize, u32, u64, *mut u64) -> c_int;
type UnmapUser = unsafe extern "C" fn(*mut c_void, usize) -> c_int;
pub type MapContiguous = unsafe extern "C" fn(*mut c_void, usize) -> u64;
pub type UnmapContiguous = unsafe extern "C" fn(*mut c_void, usize) -> c_int;
pub type Lookup = unsafe extern "C" fn(*mut c_void) -> u64;
pub type IcpMap = unsafe extern "C" fn(u64, u64, usize) -> i32;
pub type IcpUnmap = unsafe extern "C" fn(u64, usize) -> i32;

const READ_WRITE: u32 = 3;

/// Where a buffer begins, for C.
pub fn pointer(address: usize) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(address)
}

enum Calls {
    Native(MapUser, UnmapUser),
    Compatible(MapContiguous, UnmapContiguous),
}

pub struct Library {
    calls: Calls,
    // After the functions in it.
    _object: Object,
}

impl Library {
    pub fn native(machine: &Machine) -> Result<Self> {
        let object = open(&machine.libqat_iommu)?;
        // SAFETY: these are their prototypes.
        let calls = unsafe {
            Calls::Native(
                *object.get::<MapUser>(b"qat_iommu_map_user\0")?,
                *object.get::<UnmapUser>(b"qat_iommu_unmap_user\0")?,
            )
        };
        Ok(Self {
            calls,
            _object: object,
        })
    }

    pub fn compatible(machine: &Machine) -> Result<Self> {
        let object = open(&machine.libqat_iommu)?;
        // SAFETY: these are their prototypes.
        let calls = unsafe {
            Calls::Compatible(
                *object.get::<MapContiguous>(b"qaeMemMapContiguousIova\0")?,
                *object.get::<UnmapContiguous>(b"qaeMemUnmapContiguousIova\0")?,
            )
        };
        Ok(Self {
            calls,
            _object: object,
        })
    }
}

/// The shared object at `path`.
pub fn open(path: &std::path::Path) -> Result<Object> {
    // SAFETY: it is one of the two libraries that this program is about.
    unsafe { Object::new(path) }.with_context(|| format!("cannot load {}", path.display()))
}

impl Way for Library {
    fn map(&mut self, buffer: Span, _: u64) -> Result<u64> {
        let start = pointer(buffer.address);
        let mut iova = 0;
        match self.calls {
            // SAFETY: buffers are memory that nothing refers to, and outlive the ways.
            Calls::Native(map, _) => check("qat_iommu_map_user", unsafe {
                map(start, buffer.length, READ_WRITE, 0, &raw mut iova) == 0
            })?,
            // SAFETY: as above.
            Calls::Compatible(map, _) => {
                iova = unsafe { map(start, buffer.length) };
                check("qaeMemMapContiguousIova", iova != 0)?;
            }
        }
        Ok(iova)
    }

    fn unmap(&mut self, buffer: Span, _: u64) -> Result<()> {
        let start = pointer(buffer.address);
        // SAFETY: it looks at no memory of the buffer.
        let done = match self.calls {
            Calls::Native(_, unmap) => unsafe { unmap(start, buffer.length) },
            Calls::Compatible(_, unmap) => unsafe { unmap(start, buffer.length) },
        };
        check("unmap by the library", done == 0)
    }
}
