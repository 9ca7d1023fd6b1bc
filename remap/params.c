// SPDX-License-Identifier: GPL-2.0
/*
 * The module's parameters. They stand here because the Rust module! macro of
 * these kernels knows only numbers; remap/config.rs reads and checks them.
 */
#include <linux/module.h>

#include "glue.h"

static char *ids = "";
module_param(ids, charp, 0444);
MODULE_PARM_DESC(ids,
		 "More PFs to accept: vvvv:dddd[/dma-bits][,...] in hexadecimal, the width in decimal");

static char *shared_fixed = "high";
module_param(shared_fixed, charp, 0444);
MODULE_PARM_DESC(shared_fixed,
		 "Fixed IOVAs of PFs that their own driver holds: high (from 4 GiB up, the default), any, off");

static char *phys = "ram";
module_param(phys, charp, 0444);
MODULE_PARM_DESC(phys,
		 "Physical ranges that user space may map: ram (the default), any (MMIO as well), off");

static char *virt = "auto";
module_param(virt, charp, 0444);
MODULE_PARM_DESC(virt,
		 "Where the kernel runs: auto (ask the processor, the default), host, vm (do nothing)");

void qat_iommu_get_params(struct qat_iommu_params *params)
{
	params->ids = ids;
	params->shared_fixed = shared_fixed;
	params->phys = phys;
	params->virt = virt;
}
