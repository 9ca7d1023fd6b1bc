// SPDX-License-Identifier: GPL-2.0

//! The three calls of `qat_iommu` for a Rust kernel client: [`remap_size`], and a [`Mapping`] that
//! owns the page it maps, so that no page is freed while a PF may reach it.

use core::mem::ManuallyDrop;
use kernel::{
    bindings,
    ffi::c_void,
    page::{Page, PAGE_SIZE},
    prelude::*,
};

/// `CPA_STATUS_SUCCESS` of `icp_sal_iommu.h`'s calls.
const SUCCESS: i32 = 0;

// The prototypes of `icp_sal_iommu.h`.
extern "C" {
    fn icp_sal_iommu_get_remap_size(size: usize) -> usize;
    fn icp_sal_iommu_map(phaddr: u64, iova: u64, size: usize) -> i32;
    fn icp_sal_iommu_unmap(iova: u64, size: usize) -> i32;
}

extern "C" {
    fn qat_client_rust_page_to_phys(page: *mut c_void) -> bindings::phys_addr_t;
}

/// `CPA_STATUS_FAIL`: the call changed nothing. The kernel log has the reason at debug level.
pub(crate) struct Refused;

fn checked(status: i32) -> Result<(), Refused> {
    if status == SUCCESS {
        Ok(())
    } else {
        Err(Refused)
    }
}

/// What a mapping of `size` bytes really covers; [`None`] where nothing can cover it.
pub(crate) fn remap_size(size: usize) -> Option<usize> {
    // SAFETY: The call takes any number and only calculates.
    let covered = unsafe { icp_sal_iommu_get_remap_size(size) };
    (covered != 0).then_some(covered)
}

/// Lets every PF reach `size` bytes of physical memory, at `iova`.
///
/// # Safety
///
/// Nobody may own that memory who does not reckon with a PF that reads and writes it, for as long
/// as it is mapped.
pub(crate) unsafe fn map(phys: u64, iova: u64, size: usize) -> Result<(), Refused> {
    // SAFETY: The call checks its numbers; what the PFs do with the memory is the caller's promise.
    checked(unsafe { icp_sal_iommu_map(phys, iova, size) })
}

/// Takes a mapping from every PF. The memory may be freed when this has succeeded.
pub(crate) fn unmap(iova: u64, size: usize) -> Result<(), Refused> {
    // SAFETY: The call checks its numbers, and takes away access only.
    checked(unsafe { icp_sal_iommu_unmap(iova, size) })
}

/// One page that every PF reaches at its physical address, until this is dropped.
pub(crate) struct Mapping {
    page: ManuallyDrop<Page>,
    iova: u64,
}

impl Mapping {
    /// Bytes that it covers.
    pub(crate) const SIZE: usize = PAGE_SIZE;

    /// Maps `page` 1:1.
    pub(crate) fn new(page: Page) -> Result<Self, Refused> {
        // SAFETY: `page` is a live page.
        let phys = unsafe { qat_client_rust_page_to_phys(page.as_ptr().cast()) };
        // SAFETY: The page is ours, is reached through raw pointers only, and is freed by `drop`
        // after it has been unmapped.
        unsafe { map(phys, phys, Self::SIZE) }?;
        Ok(Self {
            page: ManuallyDrop::new(page),
            iova: phys,
        })
    }

    /// Where the PFs see the page; also its physical address.
    pub(crate) fn iova(&self) -> u64 {
        self.iova
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        match unmap(self.iova, Self::SIZE) {
            // SAFETY: `page` is not used after this.
            Ok(()) => unsafe { ManuallyDrop::drop(&mut self.page) },
            Err(Refused) => pr_err!(
                "IOVA {:#x} did not unmap: its page is lost, the PF may reach it\n",
                self.iova
            ),
        }
    }
}
