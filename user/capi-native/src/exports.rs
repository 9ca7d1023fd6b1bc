// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The exported functions: pointers in, errno out.
#![allow(unsafe_code)]

use crate::arguments::{access, placement, FIXED};
use libc::{c_int, c_void, size_t, E2BIG, EINVAL, ENOENT};
use qat_iommu::UserBuffer;
use qat_iommu_capi_buffers::{buffers, is_module, lookup, map, unmap, Module, Request, Wanted};
use qat_iommu_capi_core::{status, Failure, PROCESS};
use std::{ptr::NonNull, slice};

#[inline]
fn module() -> Module<'static> {
    Module(&PROCESS)
}

/// `struct qat_iommu_buffer` of `qat_iommu.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Buffer {
    virt: *mut c_void,
    length: size_t,
    iova: u64,
}

/// Maps a buffer.
///
/// # Safety
///
/// `iova` must be null or good for reading and writing; the buffer must be one that a
/// device may use until it is unmapped.
#[no_mangle]
pub unsafe extern "C" fn qat_iommu_map_user(
    virt: *mut c_void,
    length: size_t,
    flags: u32,
    alignment: u64,
    iova: *mut u64,
) -> c_int {
    status("qat_iommu_map_user", || {
        let iova = present(iova, "iova")?;
        let wanted = match flags & FIXED {
            0 => 0,
            // SAFETY: not null, and the caller vouches for it.
            _ => unsafe { iova.read() },
        };
        let request = Request {
            address: virt.addr(),
            length,
            access: access(flags, FIXED)?,
            placement: placement(flags, alignment, wanted)?,
            alone: false,
        };
        let mapped = map(buffers()?, &module(), &request)?;
        // SAFETY: as above.
        unsafe { iova.write(mapped) };
        Ok(())
    })
}

/// Unmaps the newest mapping of a buffer.
#[no_mangle]
pub extern "C" fn qat_iommu_unmap_user(virt: *mut c_void, length: size_t) -> c_int {
    status("qat_iommu_unmap_user", || {
        let address = virt.addr();
        take_away(Wanted::Buffer { address, length })
    })
}

/// Unmaps a buffer by its IOVA.
#[no_mangle]
pub extern "C" fn qat_iommu_unmap_iova(iova: u64, length: size_t) -> c_int {
    status("qat_iommu_unmap_iova", || {
        take_away(Wanted::Range { iova, length })
    })
}

fn take_away(wanted: Wanted) -> Result<(), Failure> {
    unmap(buffers()?, &module(), wanted, is_module)
}

/// Looks up the IOVA of a byte.
///
/// # Safety
///
/// `iova` must be null or good for writing.
#[no_mangle]
pub unsafe extern "C" fn qat_iommu_virt_to_iova(virt: *const c_void, iova: *mut u64) -> c_int {
    match (lookup(virt.addr()), NonNull::new(iova)) {
        (Some(found), Some(iova)) => {
            // SAFETY: not null, and the caller vouches for it.
            unsafe { iova.write(found) };
            0
        }
        (found, _) => no_answer(virt.addr(), found.is_some()),
    }
}

/// Says why there is nothing to write, or nowhere.
#[cold]
fn no_answer(address: usize, found: bool) -> c_int {
    status("qat_iommu_virt_to_iova", || {
        Err(if found {
            null("iova")
        } else {
            Failure::new(
                ENOENT,
                format!("no mapped buffer holds the address {address:#x}; map it first"),
            )
        })
    })
}

/// Maps several buffers, or none.
///
/// # Safety
///
/// `list` must have `count` elements, `failed` be null or good for writing; each buffer
/// must be one that a device may use until it is unmapped.
#[no_mangle]
pub unsafe extern "C" fn qat_iommu_map_user_batch(
    list: *mut Buffer,
    count: size_t,
    flags: u32,
    alignment: u64,
    failed: *mut size_t,
) -> c_int {
    status("qat_iommu_map_user_batch", || {
        let access = access(flags, 0)?;
        if count == 0 {
            return Ok(());
        }
        let list = present(list, "buffers")?;
        bounded(count)?;
        // SAFETY: the caller vouches for so many elements.
        let list = unsafe { slice::from_raw_parts_mut(list.as_ptr(), count) };
        let wanted: Vec<UserBuffer> = list
            .iter()
            .map(|buffer| UserBuffer {
                address: buffer.virt.addr(),
                length: buffer.length,
            })
            .collect();
        let iovas = module()
            .map_batch(buffers()?, &wanted, access, alignment)
            // SAFETY: the caller vouches for the pointer.
            .map_err(|(failure, index)| unsafe { name(failed, index, failure) })?;
        for (buffer, iova) in list.iter_mut().zip(iovas) {
            buffer.iova = iova;
        }
        Ok(())
    })
}

/// Unmaps several buffers by their IOVAs, or none.
///
/// # Safety
///
/// `list` must have `count` elements, `failed` be null or good for writing.
#[no_mangle]
pub unsafe extern "C" fn qat_iommu_unmap_batch(
    list: *const Buffer,
    count: size_t,
    failed: *mut size_t,
) -> c_int {
    status("qat_iommu_unmap_batch", || {
        if count == 0 {
            return Ok(());
        }
        let list = present(list.cast_mut(), "buffers")?;
        bounded(count)?;
        // SAFETY: the caller vouches for so many elements.
        let list = unsafe { slice::from_raw_parts(list.as_ptr(), count) };
        let wanted = list.iter().map(|buffer| Wanted::Range {
            iova: buffer.iova,
            length: buffer.length,
        });
        module()
            .unmap_batch(buffers()?, wanted)
            // SAFETY: the caller vouches for the pointer.
            .map_err(|(failure, index)| unsafe { name(failed, index, failure) })
    })
}

/// `QAT_IOMMU_BATCH_MAX` of the module's interface.
const BATCH_MAX: usize = 65536;

fn bounded(count: usize) -> Result<(), Failure> {
    if count > BATCH_MAX {
        return Err(Failure::new(
            E2BIG,
            format!("a batch has at most {BATCH_MAX} buffers; split it"),
        ));
    }
    Ok(())
}

/// Tells which element a failure is about.
///
/// # Safety
///
/// `failed` must be null or good for writing.
unsafe fn name(failed: *mut size_t, index: Option<usize>, failure: Failure) -> Failure {
    if let (Some(failed), Some(index)) = (NonNull::new(failed), index) {
        // SAFETY: not null, and the caller vouches for it.
        unsafe { failed.write(index) };
    }
    failure
}

#[inline]
fn present<T>(pointer: *mut T, what: &str) -> Result<NonNull<T>, Failure> {
    NonNull::new(pointer).ok_or_else(|| null(what))
}

#[cold]
fn null(what: &str) -> Failure {
    Failure::new(EINVAL, format!("the pointer `{what}` is null; give one"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Error, ptr};

    fn errno() -> Option<i32> {
        Error::last_os_error().raw_os_error()
    }

    #[test]
    fn pointers_are_checked() {
        let mut byte = 0_u8;
        let virt: *mut c_void = ptr::from_mut(&mut byte).cast();
        // SAFETY: null is allowed.
        let result = unsafe { qat_iommu_map_user(virt, 1, 3, 0, ptr::null_mut()) };
        assert_eq!((result, errno()), (-1, Some(EINVAL)));
        // SAFETY: as above.
        let result = unsafe { qat_iommu_map_user_batch(ptr::null_mut(), 1, 3, 0, ptr::null_mut()) };
        assert_eq!((result, errno()), (-1, Some(EINVAL)));
        // SAFETY: as above.
        let result = unsafe { qat_iommu_unmap_batch(ptr::null(), 1, ptr::null_mut()) };
        assert_eq!((result, errno()), (-1, Some(EINVAL)));
    }

    #[test]
    fn an_empty_batch_succeeds_and_a_huge_one_does_not() {
        let mut buffer = Buffer {
            virt: ptr::null_mut(),
            length: 1,
            iova: 0x1000,
        };
        // SAFETY: there is no element.
        let result = unsafe { qat_iommu_map_user_batch(ptr::null_mut(), 0, 3, 0, ptr::null_mut()) };
        assert_eq!(result, 0);
        // SAFETY: as above.
        assert_eq!(
            unsafe { qat_iommu_unmap_batch(ptr::null(), 0, ptr::null_mut()) },
            0
        );
        // SAFETY: the array is not looked at.
        let result = unsafe { qat_iommu_map_user_batch(&mut buffer, 65537, 3, 0, ptr::null_mut()) };
        assert_eq!((result, errno()), (-1, Some(E2BIG)));
    }

    #[test]
    fn what_is_not_mapped_is_not_there() {
        let mut iova = 7;
        let mut failed = 9;
        let buffer = Buffer {
            virt: ptr::null_mut(),
            length: 1,
            iova: 0x1000,
        };
        // SAFETY: the pointers are to variables.
        unsafe {
            let result = qat_iommu_virt_to_iova(ptr::from_ref(&buffer).cast(), &mut iova);
            assert_eq!((result, errno(), iova), (-1, Some(ENOENT), 7));
            assert_eq!(qat_iommu_unmap_batch(&buffer, 1, &mut failed), -1);
        }
        assert_eq!((errno(), failed), (Some(ENOENT), 0));
        assert_eq!(qat_iommu_unmap_iova(0x1000, 1), -1);
        assert_eq!(errno(), Some(ENOENT));
        assert_eq!(qat_iommu_unmap_user(ptr::null_mut(), 1), -1);
        assert_eq!(errno(), Some(ENOENT));
    }
}
