// SPDX-License-Identifier: GPL-2.0
/*
 * A kernel client of qat_iommu, whole: while it is loaded the QAT PFs of this host
 * reach a buffer of its own. The seven steps are those of icp_sal_iommu.h; a driver
 * hands the IOVA to its device where this one writes it to the log.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/string.h>

#include "icp_sal_iommu.h"

static const char text[] = "memory of a kernel client";

static void *buffer;
static size_t size;
static u64 iova;

static int __init qat_client_init(void)
{
	/* 1. How much a mapping of the data covers. */
	size = icp_sal_iommu_get_remap_size(sizeof(text));

	/* 2. That much memory. It is physically contiguous and begins on a page. */
	buffer = alloc_pages_exact(size, GFP_KERNEL | __GFP_ZERO);
	if (!buffer)
		return -ENOMEM;
	memcpy(buffer, text, sizeof(text));

	/* 3. Its physical address, which is to be its IOVA as well. */
	iova = virt_to_phys(buffer);

	/* 4. Let the PFs reach it. */
	if (icp_sal_iommu_map(iova, iova, size)) {
		pr_err("IOVA %#llx was refused; qat_iommu's debug messages say why\n",
		       iova);
		free_pages_exact(buffer, size);
		return -EIO;
	}

	/* 5. Use it. */
	pr_info("the PFs reach %zu bytes at IOVA %#llx\n", size, iova);
	return 0;
}
module_init(qat_client_init);

static void __exit qat_client_exit(void)
{
	/* 6. Take it back. If that fails a PF may still reach it: never free it. */
	if (icp_sal_iommu_unmap(iova, size)) {
		pr_err("IOVA %#llx did not unmap: its memory is lost\n", iova);
		return;
	}

	/* 7. No PF reaches it any more. */
	free_pages_exact(buffer, size);
}
module_exit(qat_client_exit);

MODULE_DESCRIPTION("Example of a kernel client of qat_iommu");
MODULE_AUTHOR("The qat-iommu developers");
MODULE_LICENSE("GPL");
