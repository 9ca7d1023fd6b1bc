/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The DMA engine of the emulated PF, as a driver sees it: 8-byte registers in
 * BAR0. Whoever uses it sees to it that nobody else does meanwhile.
 */
#ifndef QAT_PF_H
#define QAT_PF_H

#include <linux/errno.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/time64.h>
#include <linux/types.h>

#define QAT_PF_VENDOR		0x8086
#define QAT_PF_DEVICE		0x4940
/* Another kind, where a machine has two. */
#define QAT_PF_DEVICE_401XX	0x4942

#define QAT_PF_REG_MAGIC	0x00
#define QAT_PF_REG_SRC		0x08
#define QAT_PF_REG_DST		0x10
#define QAT_PF_REG_LEN		0x18
#define QAT_PF_REG_CMD		0x20
#define QAT_PF_REG_STATUS	0x28
#define QAT_PF_REG_FAULT	0x30
#define QAT_PF_REG_FILL		0x38
#define QAT_PF_REG_SUM		0x40

/* "QATPFDMA", read as bytes. */
#define QAT_PF_MAGIC		0x414d444650544151ULL

#define QAT_PF_CMD_COPY		1
#define QAT_PF_CMD_FILL		2
#define QAT_PF_CMD_SUM		3

#define QAT_PF_STATUS_BUSY	0
#define QAT_PF_STATUS_DONE	1
#define QAT_PF_STATUS_SRC_FAULT	2
#define QAT_PF_STATUS_DST_FAULT	4
#define QAT_PF_STATUS_INVALID	8

#define QAT_PF_TIMEOUT_US	(10 * USEC_PER_SEC)

/* A real PF has no such engine, and other things at these offsets. */
static inline bool qat_pf_has_engine(void __iomem *bar)
{
	return readq(bar + QAT_PF_REG_MAGIC) == QAT_PF_MAGIC;
}

/* Start one command. */
static inline void qat_pf_start(void __iomem *bar, u64 cmd, u64 src, u64 dst,
				u64 len)
{
	writeq(src, bar + QAT_PF_REG_SRC);
	writeq(dst, bar + QAT_PF_REG_DST);
	writeq(len, bar + QAT_PF_REG_LEN);
	writeq(cmd, bar + QAT_PF_REG_CMD);
}

/*
 * Run one command to its end. Returns 0 with its final status, or -ETIMEDOUT.
 * Sleeps.
 */
static inline int qat_pf_run(void __iomem *bar, u64 cmd, u64 src, u64 dst,
			     u64 len, u64 *status)
{
	qat_pf_start(bar, cmd, src, dst, len);
	return readq_poll_timeout(bar + QAT_PF_REG_STATUS, *status,
				  *status != QAT_PF_STATUS_BUSY, 20,
				  QAT_PF_TIMEOUT_US);
}

/* What the engine's checksum of the same bytes is: FNV-1a, 64 bits. */
static inline u64 qat_pf_sum(const void *data, size_t len)
{
	const u8 *byte = data;
	u64 sum = 0xcbf29ce484222325ULL;
	size_t i;

	for (i = 0; i < len; i++)
		sum = (sum ^ byte[i]) * 0x100000001b3ULL;
	return sum;
}

#endif
