// SPDX-License-Identifier: GPL-2.0

//! A PF's IOMMU group in our hands. The types say how far: `Claimed`, where DMA is blocked, and
//! `Attached`, where the PF reaches what its domain maps. Dropping one undoes its step.
//!
//! Locks: the device lock is held by every caller (probe and remove). The IOMMU core's group
//! mutex nests inside.
//!
//! With `iommu_attach_group` and not `iommu_attach_device`: the latter's detach warns and leaves
//! the domain attached if the group has grown meanwhile.

use super::{
    domain::PrivateDomain,
    pf, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    pci,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// A counted reference to a group.
///
/// # Invariants
///
/// Owns one reference.
struct Group(NonNull<bindings::iommu_group>);

// SAFETY: Groups are reference counted and may be used from any thread.
unsafe impl Send for Group {}
// SAFETY: As above.
unsafe impl Sync for Group {}

impl Group {
    fn of(dev: &pci::Device) -> Option<Self> {
        // SAFETY: The device is valid.
        let raw = unsafe { bindings::iommu_group_get(pf::device_ptr(dev)) };
        // INVARIANT: `iommu_group_get` took a reference for us.
        NonNull::new(raw).map(Self)
    }

    fn devices(&self) -> usize {
        /// # Safety
        ///
        /// `data` points to an `usize` that nobody else uses.
        unsafe extern "C" fn count(_dev: *mut bindings::device, data: *mut c_void) -> c_int {
            // SAFETY: By the contract of this function.
            unsafe { *data.cast::<usize>() += 1 };
            0
        }
        let mut devices: usize = 0;
        // SAFETY: The group is valid, and the counter outlives the call.
        unsafe {
            bindings::iommu_group_for_each_dev(
                self.0.as_ptr(),
                (&raw mut devices).cast(),
                Some(count),
            )
        };
        devices
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: Owns a reference by the type invariant.
        unsafe { bindings::iommu_group_put(self.0.as_ptr()) };
    }
}

/// A group whose DMA is ours and blocked.
///
/// # Invariants
///
/// We own the group's DMA, as [`OWNER`].
pub(crate) struct Claimed {
    dev: ARef<pci::Device>,
    group: Group,
}

/// Names this module as the owner of a group's DMA; only its address counts.
static OWNER: u8 = 0;

/// Why a PF's group could not be claimed.
pub(crate) enum ClaimError {
    /// There is no IOMMU in front of the PF.
    NoGroup,
    /// The group holds this many devices; they could reach each other's memory.
    NotAlone(usize),
    /// The kernel's answer.
    Kernel(Error),
}

impl Claimed {
    /// Takes the DMA of the PF's group. Called by probe.
    pub(crate) fn new(dev: &pci::Device) -> Result<Self, ClaimError> {
        let group = Group::of(dev).ok_or(ClaimError::NoGroup)?;
        let devices = group.devices();
        if devices != 1 {
            return Err(ClaimError::NotAlone(devices));
        }
        // SAFETY: Our driver, which manages DMA itself, is bound: this is called by its probe.
        to_result(unsafe {
            bindings::iommu_device_claim_dma_owner(
                pf::device_ptr(dev),
                (&raw const OWNER).cast_mut().cast(),
            )
        })
        .map_err(ClaimError::Kernel)?;
        // INVARIANT: Claimed just now.
        Ok(Self {
            dev: dev.into(),
            group,
        })
    }

    /// Attaches the group to a domain; on failure it is as before.
    pub(crate) fn attach(
        self,
        domain: Arc<PrivateDomain>,
    ) -> core::result::Result<Attached, (Error, Self)> {
        // SAFETY: Both are valid; the group is blocked, which `iommu_attach_group` accepts.
        let result = to_result(unsafe {
            bindings::iommu_attach_group(domain.as_ptr(), self.group.0.as_ptr())
        });
        match result {
            // INVARIANT: Attached just now.
            Ok(()) => Ok(Attached {
                domain,
                claimed: self,
            }),
            Err(err) => Err((err, self)),
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        // SAFETY: We own the group's DMA by the type invariant. The driver is still bound, or its
        // remove is running.
        unsafe { bindings::iommu_device_release_dma_owner(pf::device_ptr(&self.dev)) };
    }
}

/// A group attached to a domain.
///
/// # Invariants
///
/// The group is attached to the domain. Dropped by remove, while the device is still there.
pub(crate) struct Attached {
    claimed: Claimed,
    domain: Arc<PrivateDomain>,
}

impl Attached {
    /// Whether `dev` is in the group.
    pub(crate) fn has(&self, dev: &pci::Device) -> bool {
        Group::of(dev).is_some_and(|group| group.0 == self.claimed.group.0)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: Attached by the type invariant. The group goes back to being blocked; dropping
        // `claimed` then returns it to the kernel.
        unsafe {
            bindings::iommu_detach_group(self.domain.as_ptr(), self.claimed.group.0.as_ptr())
        };
    }
}
