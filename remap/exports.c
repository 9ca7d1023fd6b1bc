// SPDX-License-Identifier: GPL-2.0
/*
 * The classic calls as other kernel modules see them. In C because an export has
 * to be made in C, and because only here their caller is known: what a client
 * leaves mapped is listed under its name.
 */
#include <linux/export.h>
#include <linux/instruction_pointer.h>

#include <icp_sal_iommu.h>

#include "glue.h"

size_t icp_sal_iommu_get_remap_size(size_t size)
{
	return qat_iommu_kernel_remap_size(size);
}
EXPORT_SYMBOL_GPL(icp_sal_iommu_get_remap_size);

s32 icp_sal_iommu_map(u64 phaddr, u64 iova, size_t size)
{
	return qat_iommu_kernel_map(phaddr, iova, size, _RET_IP_);
}
EXPORT_SYMBOL_GPL(icp_sal_iommu_map);

s32 icp_sal_iommu_unmap(u64 iova, size_t size)
{
	return qat_iommu_kernel_unmap(iova, size, _RET_IP_);
}
EXPORT_SYMBOL_GPL(icp_sal_iommu_unmap);
