// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU's edu device: moves at most 4096 bytes between memory and a buffer of its
 * own, in 100 ms. A refused address leaves no trace in its registers: a refused
 * read clears the buffer, a refused write is dropped, so data tells.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/irqflags.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/time64.h>

#include "hostdrv.h"

#define EDU_REG_SRC		0x80
#define EDU_REG_DST		0x88
#define EDU_REG_COUNT		0x90
#define EDU_REG_CMD		0x98

#define EDU_CMD_RUN		BIT(0)
#define EDU_CMD_TO_MEMORY	BIT(1)

#define EDU_BUFFER		0x40000
/* A transfer beyond its buffer ends the whole virtual machine. */
#define EDU_BUFFER_SIZE		4096

#define EDU_TRANSFER_US		(100 * USEC_PER_MSEC)
#define EDU_TIMEOUT_US		(10 * USEC_PER_SEC)

static void edu_start(void __iomem *bar, u64 src, u64 dst, size_t len, u64 cmd)
{
	writeq(src, bar + EDU_REG_SRC);
	writeq(dst, bar + EDU_REG_DST);
	writeq(len, bar + EDU_REG_COUNT);
	writeq(cmd, bar + EDU_REG_CMD);
}

static int edu_transfer(void __iomem *bar, u64 src, u64 dst, size_t len,
			u64 cmd)
{
	u64 left;

	edu_start(bar, src, dst, len, cmd);
	return readq_poll_timeout(bar + EDU_REG_CMD, left,
				  !(left & EDU_CMD_RUN), EDU_TRANSFER_US / 10,
				  EDU_TIMEOUT_US);
}

static int engine_edu_copy(void __iomem *bar, dma_addr_t src, dma_addr_t dst,
			   size_t len, struct engine_result *result)
{
	while (len) {
		size_t part = min_t(size_t, len, EDU_BUFFER_SIZE);
		int ret;

		ret = edu_transfer(bar, src, EDU_BUFFER, part, EDU_CMD_RUN);
		if (ret)
			return ret;
		ret = edu_transfer(bar, EDU_BUFFER, dst, part,
				   EDU_CMD_RUN | EDU_CMD_TO_MEMORY);
		if (ret)
			return ret;
		src += part;
		dst += part;
		len -= part;
	}
	return 0;
}

/*
 * Some time, without a look at the clock: where an emulated processor's time is a
 * count of instructions, each such look takes it long, and udelay() looks all the
 * time.
 */
static void edu_wait(void)
{
	unsigned int i;

	for (i = 0; i < 100000; i++)
		barrier();
}

static int engine_edu_copy_alone(void __iomem *bar, dma_addr_t src,
				 dma_addr_t dst, size_t len,
				 struct engine_result *result)
{
	unsigned long flags;
	ktime_t late;
	bool runs;

	if (len > EDU_BUFFER_SIZE)
		return -EINVAL;
	local_irq_save(flags);
	late = ktime_add_us(ktime_get(), EDU_TIMEOUT_US);
	edu_start(bar, src, EDU_BUFFER, len, EDU_CMD_RUN);
	do {
		edu_wait();
		runs = readq(bar + EDU_REG_CMD) & EDU_CMD_RUN;
	} while (runs && ktime_before(ktime_get(), late));
	local_irq_restore(flags);
	if (runs)
		return -ETIMEDOUT;
	return edu_transfer(bar, EDU_BUFFER, dst, len,
			    EDU_CMD_RUN | EDU_CMD_TO_MEMORY);
}

const struct engine engine_edu = {
	.copy = engine_edu_copy,
	.copy_alone = engine_edu_copy_alone,
};
