// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The ioctl interface of `/dev/qat_iommu` as Rust sees it: structures and
//! constants generated from `include/uapi/linux/qat_iommu.h`, whose comments are
//! their documentation, and the command numbers, which are macros in C and
//! therefore written out here.
#![no_std]

#[allow(non_camel_case_types, missing_docs)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/qat_iommu.rs"));
}

pub use generated::*;

/// What the C macro `_IO(QAT_IOMMU_TYPE, command)` is on the architectures that
/// have QAT devices (direction bits 0).
const fn io(command: u32) -> u32 {
    // `From` is not const yet; widening loses nothing.
    ((QAT_IOMMU_TYPE as u32) << 8) | command
}

/// Describe the host's PFs and this context's space: [`qat_iommu_info`].
pub const QAT_IOMMU_INFO: u32 = io(QAT_IOMMU_CMD_INFO);
/// Choose this context's space: [`qat_iommu_attach`].
pub const QAT_IOMMU_ATTACH: u32 = io(QAT_IOMMU_CMD_ATTACH);
/// Map a physical range at an IOVA: [`qat_iommu_map_phys`].
pub const QAT_IOMMU_MAP_PHYS: u32 = io(QAT_IOMMU_CMD_MAP_PHYS);
/// Remove one mapping: [`qat_iommu_unmap`].
pub const QAT_IOMMU_UNMAP: u32 = io(QAT_IOMMU_CMD_UNMAP);
/// Pin a buffer and map it: [`qat_iommu_map_user`].
pub const QAT_IOMMU_MAP_USER: u32 = io(QAT_IOMMU_CMD_MAP_USER);
/// Remove the mapping of a buffer: [`qat_iommu_unmap_user`].
pub const QAT_IOMMU_UNMAP_USER: u32 = io(QAT_IOMMU_CMD_UNMAP_USER);
/// Find a mapping of this context: [`qat_iommu_query`].
pub const QAT_IOMMU_QUERY: u32 = io(QAT_IOMMU_CMD_QUERY);
/// Map several buffers: [`qat_iommu_map_user_batch`].
pub const QAT_IOMMU_MAP_USER_BATCH: u32 = io(QAT_IOMMU_CMD_MAP_USER_BATCH);
/// Remove several mappings: [`qat_iommu_unmap_batch`].
pub const QAT_IOMMU_UNMAP_BATCH: u32 = io(QAT_IOMMU_CMD_UNMAP_BATCH);
