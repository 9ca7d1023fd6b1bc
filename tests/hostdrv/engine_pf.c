// SPDX-License-Identifier: GPL-2.0
/*
 * The emulated PF's engine: copies from memory to memory in one command, and
 * says which address it was refused.
 */
#include <linux/irqflags.h>

#include "hostdrv.h"
#include "qat_pf.h"

static int verdict(void __iomem *bar, struct engine_result *result)
{
	if (result->status == QAT_PF_STATUS_DONE)
		return 0;
	result->fault = readq(bar + QAT_PF_REG_FAULT);
	return -EFAULT;
}

static int engine_pf_copy(void __iomem *bar, dma_addr_t src, dma_addr_t dst,
			  size_t len, struct engine_result *result)
{
	int ret;

	ret = qat_pf_run(bar, QAT_PF_CMD_COPY, src, dst, len, &result->status);
	return ret ?: verdict(bar, result);
}

/* Unless data goes by message, it is over before the start returns. */
static int engine_pf_copy_alone(void __iomem *bar, dma_addr_t src,
				dma_addr_t dst, size_t len,
				struct engine_result *result)
{
	unsigned long flags;
	int ret;

	local_irq_save(flags);
	qat_pf_start(bar, QAT_PF_CMD_COPY, src, dst, len);
	ret = readq_poll_timeout_atomic(bar + QAT_PF_REG_STATUS, result->status,
					result->status != QAT_PF_STATUS_BUSY,
					20, QAT_PF_TIMEOUT_US);
	local_irq_restore(flags);
	return ret ?: verdict(bar, result);
}

const struct engine engine_pf = {
	.copy = engine_pf_copy,
	.copy_alone = engine_pf_copy_alone,
};
