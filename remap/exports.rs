// SPDX-License-Identifier: GPL-2.0

//! The classic calls as `remap/exports.c` exports them to other kernel modules. Their documentation
//! is in `include/qat_iommu/icp_sal_iommu.h`. `caller` is the address that they are called from.
//!
//! Process context, may sleep, no lock of the caller's is needed.

use super::{
    classic,
    domain::Access,
    history::Why,
    owner::Owner,
    spare::Spare, //
};

const CPA_STATUS_SUCCESS: i32 = 0;
const CPA_STATUS_FAIL: i32 = -1;

/// What the last mapping of a kernel client lived in.
static SPARE: Spare = Spare::empty();

/// Gives back what is kept for kernel clients: nothing drops a static. For the module's exit, when
/// no client is left.
pub(crate) fn shutdown() {
    drop(SPARE.take());
}

/// Rounds a size up to what a mapping covers; 0 for 0 and on overflow.
#[no_mangle]
extern "C" fn qat_iommu_kernel_remap_size(size: usize) -> usize {
    u64::try_from(size)
        .ok()
        .and_then(|size| usize::try_from(classic::remap_size(size)).ok())
        .unwrap_or(0)
}

/// Maps a physical range for the PFs of this host.
#[no_mangle]
extern "C" fn qat_iommu_kernel_map(phaddr: u64, iova: u64, size: usize, caller: usize) -> i32 {
    let Some(access) = Access::new(true, true) else {
        return CPA_STATUS_FAIL;
    };
    let owner = Owner::Kernel(caller);
    match u64::try_from(size).map(|size| classic::map(owner, &SPARE, phaddr, iova, size, access)) {
        Ok(Ok(_)) => CPA_STATUS_SUCCESS,
        _ => CPA_STATUS_FAIL,
    }
}

/// Undoes [`qat_iommu_kernel_map`].
#[no_mangle]
extern "C" fn qat_iommu_kernel_unmap(iova: u64, size: usize, caller: usize) -> i32 {
    let owner = Owner::Kernel(caller);
    match u64::try_from(size).map(|size| classic::unmap(owner, &SPARE, iova, size, Why::Unmap)) {
        Ok(Ok(())) => CPA_STATUS_SUCCESS,
        _ => CPA_STATUS_FAIL,
    }
}
