// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The exported functions.
// Exporting a name is unsafe in that it may clash with another: these are meant to.
#![allow(unsafe_code)]
#![allow(non_snake_case)]

use crate::{
    backend::{Choice, Either},
    calls::{map_contiguous, unmap_contiguous},
    next, order,
    registry::Registry,
};
use libc::{c_int, c_void, size_t};
use qat_iommu_capi_buffers::{buffers, lookup};
use qat_iommu_capi_core::{say, value, Failure, PerProcess, PROCESS};

/// What one process knows besides its buffers.
#[derive(Debug)]
struct Usdm {
    choice: Choice,
    registry: Registry,
}

static USDM: PerProcess<Usdm> = PerProcess::new();

#[inline]
fn usdm() -> Result<&'static Usdm, Failure> {
    USDM.get_or_make(|| {
        Ok(Usdm {
            choice: Choice::from_environment(),
            registry: Registry::default(),
        })
    })
}

impl Usdm {
    #[inline]
    fn either(&self) -> Either<'_> {
        Either {
            choice: self.choice,
            registry: &self.registry,
            process: &PROCESS,
        }
    }
}

/// Maps a buffer at a contiguous IOVA.
#[no_mangle]
pub extern "C" fn qaeMemMapContiguousIova(virt: *mut c_void, size: size_t) -> u64 {
    value("qaeMemMapContiguousIova", 0, || {
        order::check();
        map_contiguous(buffers()?, usdm()?.either(), virt.addr(), size)
    })
}

/// Unmaps what `qaeMemMapContiguousIova` mapped.
#[no_mangle]
pub extern "C" fn qaeMemUnmapContiguousIova(virt: *mut c_void, size: size_t) -> c_int {
    value("qaeMemUnmapContiguousIova", 1, || {
        unmap_contiguous(buffers()?, usdm()?.either(), virt.addr(), size)?;
        Ok(0)
    })
}

/// Looks up the IOVA of a byte.
#[no_mangle]
pub extern "C" fn qaeVirtToPhysNUMA(virt: *mut c_void) -> u64 {
    match lookup(virt.addr()) {
        Some(iova) => iova,
        None => elsewhere(virt),
    }
}

/// Asks the next library for what this one has not mapped.
#[cold]
fn elsewhere(virt: *mut c_void) -> u64 {
    next::virt_to_phys().map_or(0, |next| next(virt))
}

/// Registers a VFIO container for one more device.
#[no_mangle]
pub extern "C" fn qaeRegisterDevice(fd: c_int) -> c_int {
    let ours = || usdm()?.registry.register(buffers()?, fd);
    of_device("qaeRegisterDevice", next::register(), fd, ours)
}

/// Unregisters a VFIO container for one device.
#[no_mangle]
pub extern "C" fn qaeUnregisterDevice(fd: c_int) -> c_int {
    let ours = || usdm()?.registry.unregister(buffers()?, fd);
    of_device("qaeUnregisterDevice", next::unregister(), fd, ours)
}

/// The next library's answer is the one that counts: it has memory of its own in the
/// container.
fn of_device(
    call: &str,
    next: Option<extern "C" fn(c_int) -> c_int>,
    fd: c_int,
    ours: impl FnOnce() -> Result<(), Failure>,
) -> c_int {
    match next.map(|next| next(fd)) {
        None => value(call, 1, || ours().map(|()| 0)),
        Some(0) => value(call, 0, || {
            if let Err(failure) = ours() {
                say(&format!("{call}: {}", failure.reason()));
            }
            Ok(0)
        }),
        Some(refused) => refused,
    }
}
