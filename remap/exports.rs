// SPDX-License-Identifier: GPL-2.0

//! The classic calls as other kernel modules see them. Their documentation is in
//! `include/qat_iommu/icp_sal_iommu.h`, their `EXPORT_SYMBOL_GPL` in `remap/exports.c`.
//!
//! Process context, may sleep, no lock of the caller's is needed.

use super::{
    classic::{
        self,
        Owner, //
    },
    domain::Access, //
};

const CPA_STATUS_SUCCESS: i32 = 0;
const CPA_STATUS_FAIL: i32 = -1;

/// Rounds a size up to what a mapping covers; 0 for 0 and on overflow.
#[no_mangle]
extern "C" fn icp_sal_iommu_get_remap_size(size: usize) -> usize {
    u64::try_from(size)
        .ok()
        .and_then(|size| usize::try_from(classic::remap_size(size)).ok())
        .unwrap_or(0)
}

/// Maps a physical range for the PFs of this host.
#[no_mangle]
extern "C" fn icp_sal_iommu_map(phaddr: u64, iova: u64, size: usize) -> i32 {
    let Some(access) = Access::new(true, true) else {
        return CPA_STATUS_FAIL;
    };
    match u64::try_from(size).map(|size| classic::map(Owner::Kernel, phaddr, iova, size, access)) {
        Ok(Ok(_)) => CPA_STATUS_SUCCESS,
        _ => CPA_STATUS_FAIL,
    }
}

/// Undoes [`icp_sal_iommu_map`].
#[no_mangle]
extern "C" fn icp_sal_iommu_unmap(iova: u64, size: usize) -> i32 {
    match u64::try_from(size).map(|size| classic::unmap(Owner::Kernel, iova, size)) {
        Ok(Ok(())) => CPA_STATUS_SUCCESS,
        _ => CPA_STATUS_FAIL,
    }
}
