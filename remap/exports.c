// SPDX-License-Identifier: GPL-2.0
/*
 * Exports the classic calls to other kernel modules. Their bodies are in
 * remap/exports.rs; an export has to be made in C.
 */
#include <linux/export.h>

#include <icp_sal_iommu.h>

EXPORT_SYMBOL_GPL(icp_sal_iommu_get_remap_size);
EXPORT_SYMBOL_GPL(icp_sal_iommu_map);
EXPORT_SYMBOL_GPL(icp_sal_iommu_unmap);
