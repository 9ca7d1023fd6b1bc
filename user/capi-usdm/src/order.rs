// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Whether this library comes first: a program that maps by these calls and looks up by
//! another library's gets no answer, and no call of it fails in a way that would say why.
#![allow(unsafe_code)]

use qat_iommu_capi_core::warn;
use std::{
    ffi::{c_void, CStr},
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

/// Calls that belong together.
const NAMES: [&CStr; 4] = [
    c"qaeMemUnmapContiguousIova",
    c"qaeVirtToPhysNUMA",
    c"qaeRegisterDevice",
    c"qaeUnregisterDevice",
];

/// Says, once, which of the calls another library would answer.
#[inline]
pub(crate) fn check() {
    if !CHECKED.load(Ordering::Relaxed) {
        check_once();
    }
}

static CHECKED: AtomicBool = AtomicBool::new(false);

#[cold]
#[inline(never)]
fn check_once() {
    if CHECKED.swap(true, Ordering::Relaxed) {
        return;
    }
    let Some((ours, _)) = object(ptr::from_ref(&CHECKED).cast()) else {
        return;
    };
    for name in NAMES {
        // SAFETY: the name ends with a null byte.
        let first = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        let Some((theirs, path)) = object(first) else {
            // A static program, or one that shows nobody its symbols.
            continue;
        };
        if theirs != ours {
            warn(&format!(
                "warning: {} is {path}'s, which does not know the buffers that are mapped here; \
                 link libqat_iommu before it, or put it into LD_PRELOAD",
                name.to_string_lossy()
            ));
        }
    }
}

/// The base and the path of the program or library that an address is in.
fn object(address: *const c_void) -> Option<(*const c_void, String)> {
    if address.is_null() {
        return None;
    }
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the structure is there to be filled; any address may be asked for.
    if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: all zeroes are valid, and dladdr has filled it.
    let info = unsafe { info.assume_init() };
    let path = if info.dli_fname.is_null() {
        String::new()
    } else {
        // SAFETY: a string of the dynamic linker's, for as long as the object is loaded.
        let path = unsafe { CStr::from_ptr(info.dli_fname) };
        path.to_string_lossy().into_owned()
    };
    Some((info.dli_fbase.cast_const(), path))
}
