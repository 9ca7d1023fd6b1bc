// SPDX-License-Identifier: GPL-2.0

//! Where the C driver and its watch (`remap/pf_driver.c`) enter the Rust half. Each function is
//! called with the device lock held, but for the one that tells of a new device, and only hands on
//! to `host`.

use super::{
    host,
    pf, //
};
use kernel::{
    bindings,
    prelude::*, //
};

#[no_mangle]
extern "C" fn qat_iommu_pf_probe(pdev: *mut bindings::pci_dev) -> c_int {
    // SAFETY: The driver core keeps the device for the length of the call.
    match host::probe(unsafe { pf::from_ptr(pdev) }) {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

#[no_mangle]
extern "C" fn qat_iommu_pf_remove(pdev: *mut bindings::pci_dev) {
    // SAFETY: As above.
    host::remove(unsafe { pf::from_ptr(pdev) });
}

#[no_mangle]
extern "C" fn qat_iommu_pf_added(pdev: *mut bindings::pci_dev) {
    // SAFETY: As above.
    host::added(unsafe { pf::from_ptr(pdev) });
}

#[no_mangle]
extern "C" fn qat_iommu_pf_bound(pdev: *mut bindings::pci_dev) {
    // SAFETY: As above.
    host::bound(unsafe { pf::from_ptr(pdev) });
}

#[no_mangle]
extern "C" fn qat_iommu_pf_unbinding(pdev: *mut bindings::pci_dev) {
    // SAFETY: As above.
    host::unbinding(unsafe { pf::from_ptr(pdev) });
}
