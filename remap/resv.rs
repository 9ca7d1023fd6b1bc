// SPDX-License-Identifier: GPL-2.0

//! The IOVAs that the IOMMU of a PF reserves: the MSI window, firmware's ranges. Owns the list
//! only while it reads it; takes no lock.

use super::pf;
use crate::iova::{
    addr::{
        Address,
        Iova,
        Length, //
    },
    span::Span, //
};
use kernel::{
    bindings,
    pci,
    prelude::*, //
};

/// A DMA write to these addresses is an interrupt message on every x86 machine. The kernel's list
/// can lack the entry when memory was short while it was made, so it is kept out in any case.
const MSI_WINDOW: (u64, u64) = (0xfee0_0000, 0xfeef_ffff);

/// The reserved ranges of `dev`.
///
/// `relaxable` ranges, which firmware used once and a driver of its own may use again, matter only
/// where that driver stays: in a shared space.
pub(crate) fn ranges(dev: &pci::Device, relaxable: bool) -> Result<KVec<Span<Iova>>> {
    let mut ranges = KVec::new();
    let (first, last) = MSI_WINDOW;
    ranges.push(
        Span::from_bounds(Iova::new(first), Iova::new(last)).map_err(|_| EINVAL)?,
        GFP_KERNEL,
    )?;

    let mut list = bindings::list_head::default();
    let head = &raw mut list;
    list.next = head;
    list.prev = head;
    // SAFETY: The device is valid and the list initialised.
    unsafe { bindings::iommu_get_resv_regions(pf::device_ptr(dev), head) };
    let result = collect(head, relaxable, &mut ranges);
    // SAFETY: The same device and list; frees the entries.
    unsafe { bindings::iommu_put_resv_regions(pf::device_ptr(dev), head) };
    result.map(|()| ranges)
}

fn collect(
    head: *mut bindings::list_head,
    relaxable: bool,
    ranges: &mut KVec<Span<Iova>>,
) -> Result {
    // SAFETY: The list is initialised, so its links are valid.
    let mut link = unsafe { (*head).next };
    while !core::ptr::eq(link, head) {
        // SAFETY: Every link but the head's is that of a region, and nobody else knows the list.
        let region = unsafe { &*kernel::container_of!(link, bindings::iommu_resv_region, list) };
        link = region.list.next;
        if region.type_ == bindings::iommu_resv_type_IOMMU_RESV_DIRECT_RELAXABLE && !relaxable {
            continue;
        }
        let length = u64::try_from(region.length).map_err(|_| EINVAL)?;
        let Ok(length) = Length::new(length) else {
            continue;
        };
        let first = Iova::new(region.start);
        let span = Span::new(first, length)
            .or_else(|_| Span::from_bounds(first, Iova::MAX))
            .map_err(|_| EINVAL)?;
        ranges.push(span, GFP_KERNEL)?;
    }
    Ok(())
}
