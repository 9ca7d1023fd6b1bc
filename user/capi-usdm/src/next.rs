// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Functions of the same name in the library that comes after this one, which may be
//! Intel's libusdm.
#![allow(unsafe_code)]

use libc::{c_int, c_void};
use std::{
    ffi::CStr,
    marker::PhantomData,
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

/// The next definition of a function, looked for once.
#[derive(Debug)]
pub(crate) struct Next<F> {
    name: &'static CStr,
    /// Null until it has been looked for.
    found: AtomicPtr<c_void>,
    kind: PhantomData<F>,
}

/// No function is here.
const NONE: *mut c_void = ptr::dangling_mut::<u8>().cast();

impl<F> Next<F> {
    const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            found: AtomicPtr::new(ptr::null_mut()),
            kind: PhantomData,
        }
    }

    fn address(&self) -> Option<*mut c_void> {
        let mut found = self.found.load(Ordering::Relaxed);
        if found.is_null() {
            // SAFETY: the name ends with a null byte. In a static program nothing is
            // found.
            found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
            if found.is_null() {
                found = NONE;
            }
            self.found.store(found, Ordering::Relaxed);
        }
        (found != NONE).then_some(found)
    }
}

type Lookup = extern "C" fn(*mut c_void) -> u64;
type OfDevice = extern "C" fn(c_int) -> c_int;

static VIRT_TO_PHYS: Next<Lookup> = Next::new(c"qaeVirtToPhysNUMA");
static REGISTER: Next<OfDevice> = Next::new(c"qaeRegisterDevice");
static UNREGISTER: Next<OfDevice> = Next::new(c"qaeUnregisterDevice");

/// The next `qaeVirtToPhysNUMA`.
pub(crate) fn virt_to_phys() -> Option<Lookup> {
    // SAFETY: functions of this name have this type, see qae_mem.h.
    VIRT_TO_PHYS
        .address()
        .map(|address| unsafe { std::mem::transmute::<*mut c_void, Lookup>(address) })
}

/// The next `qaeRegisterDevice`.
pub(crate) fn register() -> Option<OfDevice> {
    // SAFETY: as above.
    REGISTER
        .address()
        .map(|address| unsafe { std::mem::transmute::<*mut c_void, OfDevice>(address) })
}

/// The next `qaeUnregisterDevice`.
pub(crate) fn unregister() -> Option<OfDevice> {
    // SAFETY: as above.
    UNREGISTER
        .address()
        .map(|address| unsafe { std::mem::transmute::<*mut c_void, OfDevice>(address) })
}
