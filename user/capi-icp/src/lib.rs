// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The three classic calls, as C sees them. Their documentation is
//! `include/qat_iommu/icp_sal_iommu.h`. Nothing in the library calls them: a program
//! may put its own in their place.
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod classic;

use classic::{map, remap_size, unmap};
use qat_iommu_capi_core::{plain_status, size, PROCESS};

/// What a mapping of `size` bytes really covers.
// Exporting a name is unsafe in that it may clash with another: these are meant to.
#[allow(unsafe_code)]
#[no_mangle]
pub extern "C" fn icp_sal_iommu_get_remap_size(bytes: usize) -> usize {
    size("icp_sal_iommu_get_remap_size", || {
        remap_size(&PROCESS, bytes)
    })
}

/// Maps a physical range for every PF of the host.
#[allow(unsafe_code)]
#[no_mangle]
pub extern "C" fn icp_sal_iommu_map(phaddr: u64, iova: u64, bytes: usize) -> i32 {
    plain_status("icp_sal_iommu_map", || map(&PROCESS, phaddr, iova, bytes))
}

/// Removes what `icp_sal_iommu_map` mapped.
#[allow(unsafe_code)]
#[no_mangle]
pub extern "C" fn icp_sal_iommu_unmap(iova: u64, bytes: usize) -> i32 {
    plain_status("icp_sal_iommu_unmap", || unmap(&PROCESS, iova, bytes))
}
