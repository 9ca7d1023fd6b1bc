// SPDX-License-Identifier: GPL-2.0

//! One PF: its address, what it demands of a space, and what to do to its function when it comes
//! to us and when it goes. The raw `struct pci_dev` stays in this file.
//!
//! Locks: the device lock is held whenever a PF's function is touched.

use super::{
    ffi,
    group::Attached, //
};
use crate::iova::{
    addr::{
        Address,
        Iova, //
    },
    span::Span, //
};
use kernel::{
    bindings,
    error::to_result,
    fmt,
    pci,
    prelude::*,
    sync::aref::ARef, //
};

/// The device as the PCI core knows it.
fn pci_ptr(dev: &pci::Device) -> *mut bindings::pci_dev {
    // CAST: `pci::Device` is a transparent wrapper of `struct pci_dev`.
    core::ptr::from_ref(dev).cast_mut().cast()
}

/// The device as the driver core knows it.
pub(super) fn device_ptr(dev: &pci::Device) -> *mut bindings::device {
    // SAFETY: The pointer is valid as long as the reference; only an address is computed.
    unsafe { &raw mut (*pci_ptr(dev)).dev }
}

/// The device behind a pointer that the driver core gave to a callback.
///
/// # Safety
///
/// The pointer is valid for `'a`.
pub(super) unsafe fn from_ptr<'a>(raw: *mut bindings::pci_dev) -> &'a pci::Device {
    // CAST: `pci::Device` is a transparent wrapper of `struct pci_dev`.
    // SAFETY: By the contract of this function.
    unsafe { &*raw.cast() }
}

/// Whether the function is a VF.
pub(crate) fn is_vf(dev: &pci::Device) -> bool {
    // SAFETY: The pointer is valid; the bit is set before the device is visible and never changes.
    unsafe { (*pci_ptr(dev)).is_virtfn() != 0 }
}

/// Where a PF sits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PciAddress {
    pub(crate) segment: u32,
    pub(crate) bus: u8,
    pub(crate) device: u8,
    pub(crate) function: u8,
}

impl PciAddress {
    /// The address of a device.
    pub(crate) fn of(dev: &pci::Device) -> Self {
        let [devfn, bus] = dev.dev_id().to_le_bytes();
        Self {
            // SAFETY: The device is valid and so is its bus.
            segment: unsafe { ffi::qat_iommu_pci_segment(pci_ptr(dev)) },
            bus,
            device: devfn >> 3,
            function: devfn & 7,
        }
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{:x}",
            self.segment, self.bus, self.device, self.function
        )
    }
}

/// What a PF demands of the space it is in.
pub(crate) struct Rules {
    /// The IOVAs that the PF can address and the domain translate.
    pub(crate) aperture: Span<Iova>,
    /// The IOVAs that must not be mapped.
    pub(crate) reserved: KVec<Span<Iova>>,
}

/// The IOVAs that `bits` address lines reach.
pub(crate) fn reach(bits: u32) -> Span<Iova> {
    let last = u64::MAX
        .checked_shr(64u32.saturating_sub(bits))
        .unwrap_or(0);
    Span::between(Iova::MIN, Iova::new(last))
}

/// A PF in a space.
pub(crate) struct Pf {
    dev: ARef<pci::Device>,
    pub(crate) address: PciAddress,
    pub(crate) rules: Rules,
    /// It could not take all of the live mappings when it joined.
    pub(crate) incomplete: bool,
    /// Its attachment, for an owned PF that is translated. Goes with the PF.
    attached: Option<Attached>,
}

impl Pf {
    /// A PF that joins.
    pub(crate) fn new(dev: &pci::Device, rules: Rules, attached: Option<Attached>) -> Self {
        Self {
            dev: dev.into(),
            address: PciAddress::of(dev),
            rules,
            incomplete: false,
            attached,
        }
    }

    /// Whether this is `dev`.
    pub(crate) fn is(&self, dev: &pci::Device) -> bool {
        core::ptr::eq(pci_ptr(&self.dev), pci_ptr(dev))
    }

    /// Whether `dev` is in the IOMMU group that it, an owned PF, is attached with.
    pub(crate) fn is_grouped(&self, dev: &pci::Device) -> bool {
        self.attached
            .as_ref()
            .is_some_and(|attached| attached.has(dev))
    }

    /// The device itself.
    pub(super) fn device(&self) -> &pci::Device {
        &self.dev
    }

    /// Its PCI vendor and device ids.
    pub(crate) fn ids(&self) -> (u16, u16) {
        (self.dev.vendor_id().as_raw(), self.dev.device_id())
    }
}

/// Lets an owned PF decode its memory and do DMA. Called by probe, once it is attached.
pub(crate) fn start(dev: &pci::Device) -> Result {
    // SAFETY: Called by probe: the device is there and ours, under the device lock.
    to_result(unsafe { bindings::pci_enable_device_mem(pci_ptr(dev)) })?;
    // SAFETY: As above.
    unsafe { bindings::pci_set_master(pci_ptr(dev)) };
    Ok(())
}

/// Ends an owned PF's DMA, and what it may still have in flight. Called by remove, while it is
/// still attached: afterwards its IOVAs may mean raw physical addresses.
///
/// Waits for the drivers of its VFs to let go of them, VFIO's users included.
pub(crate) fn stop(dev: &pci::Device) {
    let raw = pci_ptr(dev);
    // VFs go first, while the PF that their drivers may have to talk to still works.
    // (A kernel with lockdep may warn: the PCI core asserts its rescan lock here, which it holds
    // itself when a device is removed, and does not when a driver is unbound.)
    // SAFETY: Called by remove: the device is there and ours, under the device lock. Without VFs
    // the function does nothing.
    unsafe { bindings::pci_disable_sriov(raw) };
    // SAFETY: As above.
    unsafe { bindings::pci_clear_master(raw) };
    // One that was unplugged would be waited for, for a minute.
    // SAFETY: As above.
    if unsafe { bindings::pci_device_is_present(raw) } {
        // SAFETY: As above; the function wants the device lock held.
        if unsafe { bindings::pci_reset_function_locked(raw) } != 0 {
            // Some functions cannot be reset.
            // SAFETY: As above.
            unsafe { bindings::pci_wait_for_pending_transaction(raw) };
        }
    }
    // SAFETY: As above; undoes `start`.
    unsafe { bindings::pci_disable_device(raw) };
}
