// SPDX-License-Identifier: GPL-2.0
/*
 * A kernel client of qat_iommu: loading it, with or without the demonstration.
 */
#include <linux/init.h>
#include <linux/module.h>

#include "kclient.h"

static bool demo;
module_param(demo, bool, 0444);
MODULE_PARM_DESC(demo, "Run the demonstration; the module loads only if it goes well");

static int __init kclient_init(void)
{
	int ret;

	if (demo) {
		ret = kclient_demo();
		if (ret)
			return ret;
	}
	kclient_debugfs_create();
	return 0;
}
module_init(kclient_init);

static void __exit kclient_exit(void)
{
	kclient_debugfs_remove();
}
module_exit(kclient_exit);

MODULE_DESCRIPTION("Example and test of a kernel client of qat_iommu");
MODULE_AUTHOR("The qat-iommu developers");
MODULE_LICENSE("GPL");
