// SPDX-License-Identifier: GPL-2.0

//! The types of `include/uapi/linux/qat_iommu.h`, generated from it by bindgen at build time, and
//! the proof that they may be copied to and from user space as plain bytes.

#[allow(
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub,
    clippy::all
)]
mod generated {
    include!(env!("QAT_IOMMU_UAPI_RS"));
}

pub(crate) use generated::*;

use kernel::transmute::{
    AsBytes,
    FromBytes, //
};

/// A structure that crosses the user boundary.
///
/// # Safety
///
/// It consists of integers without padding between or after them, and begins with its size as
/// an `u32`.
pub(crate) unsafe trait Wire: AsBytes + FromBytes {
    /// What it says its size is.
    fn size(&self) -> u32;
}

/// Declares that `$type` is made of the listed fields and nothing else.
macro_rules! wire {
    ($type:ty { $($field:ident: $as:ty),+ $(,)? }) => {
        plain!($type { $($field: $as),+ });
        // SAFETY: `plain!` proved that there is no padding; `size` comes first by the list.
        unsafe impl Wire for $type {
            fn size(&self) -> u32 {
                self.size
            }
        }
    };
}

/// As [`wire!`], for elements of arrays.
macro_rules! plain {
    ($type:ty { $($field:ident: $as:ty),+ $(,)? }) => {
        const _: () = {
            // The fields have these types and leave no byte of the structure over.
            assert!(core::mem::size_of::<$type>() == 0 $(+ core::mem::size_of::<$as>())+);
            #[allow(dead_code)]
            fn fields(value: $type) {
                $(let _: $as = value.$field;)+
            }
        };
        // SAFETY: Integers only, and no padding by the assertion above: every byte is initialised.
        unsafe impl AsBytes for $type {}
        // SAFETY: Integers only: every bit pattern is valid.
        unsafe impl FromBytes for $type {}
    };
}

plain!(qat_iommu_pf {
    segment: u32,
    bus: u8,
    device: u8,
    function: u8,
    reserved: u8,
    vendor_id: u16,
    device_id: u16,
    flags: u32,
    space: u64,
});
plain!(qat_iommu_range {
    first: u64,
    last: u64,
});
wire!(qat_iommu_info {
    size: u32,
    flags: u32,
    abi_version: u32,
    mode: u32,
    aperture_first: u64,
    aperture_last: u64,
    page_sizes: u64,
    generation: u64,
    pfs: u64,
    reserved_ranges: u64,
    num_pfs: u32,
    num_reserved_ranges: u32,
    iommu_pages: u64,
    space: u64,
});
wire!(qat_iommu_attach {
    size: u32,
    flags: u32,
    segment: u32,
    bus: u8,
    device: u8,
    function: u8,
    reserved: u8,
    space: u64,
});
wire!(qat_iommu_map_phys {
    size: u32,
    flags: u32,
    phys: u64,
    iova: u64,
    length: u64,
    mapped: u64,
});
wire!(qat_iommu_unmap {
    size: u32,
    flags: u32,
    iova: u64,
    length: u64,
});
plain!(qat_iommu_user_buffer {
    va: u64,
    length: u64,
    iova: u64,
});
plain!(qat_iommu_unmap_range {
    iova: u64,
    length: u64,
});
wire!(qat_iommu_map_user {
    size: u32,
    flags: u32,
    va: u64,
    length: u64,
    alignment: u64,
    iova: u64,
});
wire!(qat_iommu_unmap_user {
    size: u32,
    flags: u32,
    va: u64,
    length: u64,
});
wire!(qat_iommu_query {
    size: u32,
    flags: u32,
    iova: u64,
    length: u64,
    backing: u64,
    kind: u32,
    map_flags: u32,
});
wire!(qat_iommu_map_user_batch {
    size: u32,
    flags: u32,
    buffers: u64,
    alignment: u64,
    count: u32,
    failed: u32,
});
wire!(qat_iommu_unmap_batch {
    size: u32,
    flags: u32,
    ranges: u64,
    count: u32,
    failed: u32,
});
