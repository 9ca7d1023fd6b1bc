// SPDX-License-Identifier: GPL-2.0
/*
 * The emulated PF's engine: copies from memory to memory in one command, and
 * says which address it was refused.
 */
#include "hostdrv.h"
#include "qat_pf.h"

static int engine_pf_copy(void __iomem *bar, dma_addr_t src, dma_addr_t dst,
			  size_t len, struct engine_result *result)
{
	int ret;

	ret = qat_pf_run(bar, QAT_PF_CMD_COPY, src, dst, len, &result->status);
	if (ret)
		return ret;
	if (result->status == QAT_PF_STATUS_DONE)
		return 0;
	result->fault = readq(bar + QAT_PF_REG_FAULT);
	return -EFAULT;
}

const struct engine engine_pf = {
	.copy = engine_pf_copy,
};
