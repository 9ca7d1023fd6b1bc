// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! What the PFs may do with a mapping.

use qat_iommu_uapi as uapi;

/// What the PFs may do with a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// The device reads the memory.
    Read,
    /// The device writes the memory. Some IOMMUs then let it read as well.
    Write,
    /// The device reads and writes the memory.
    ReadWrite,
}

impl Access {
    pub(crate) fn from_flags(flags: u32) -> Option<Self> {
        let has = |flag| flags & flag != 0;
        match (
            has(uapi::QAT_IOMMU_MAP_READ),
            has(uapi::QAT_IOMMU_MAP_WRITE),
        ) {
            (true, true) => Some(Access::ReadWrite),
            (true, false) => Some(Access::Read),
            (false, true) => Some(Access::Write),
            (false, false) => None,
        }
    }

    #[inline]
    pub(crate) fn flags(self) -> u32 {
        match self {
            Access::Read => uapi::QAT_IOMMU_MAP_READ,
            Access::Write => uapi::QAT_IOMMU_MAP_WRITE,
            Access::ReadWrite => uapi::QAT_IOMMU_MAP_READ | uapi::QAT_IOMMU_MAP_WRITE,
        }
    }
}
