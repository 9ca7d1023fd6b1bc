/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HOSTDRV_H
#define HOSTDRV_H

#include <linux/pci.h>
#include <linux/types.h>
#include <linux/xarray.h>

#include "line_cmd.h"

/**
 * struct engine_result - What a device said of a transfer
 * @status: Its final status, where it has such a register
 * @fault: The address it could not reach
 */
struct engine_result {
	u64 status;
	u64 fault;
};

/**
 * struct engine - How a device is made to move memory
 * @copy: Have the device copy @len bytes from DMA address @src to @dst, and wait.
 *	Returns 0, -EFAULT with @result if it was refused an address (edu cannot
 *	tell), or -ETIMEDOUT.
 */
struct engine {
	int (*copy)(void __iomem *bar, dma_addr_t src, dma_addr_t dst,
		    size_t len, struct engine_result *result);
};

extern const struct engine engine_pf;
extern const struct engine engine_edu;

/**
 * struct hostdrv - One device that this driver holds
 * @dev: The device
 * @bar: Its BAR0
 * @engine: How its DMA engine is run
 * @file: Its commands
 * @dir: Where @file is
 * @buffers: Memory that commands have mapped for it, by id
 * @leaving: It is being unbound: a long command ends early
 */
struct hostdrv {
	struct device *dev;
	void __iomem *bar;
	const struct engine *engine;
	struct line_file file;
	struct dentry *dir;
	struct xarray buffers;
	bool leaving;
};

void hostdrv_commands_create(struct hostdrv *host, struct dentry *parent);
void hostdrv_commands_remove(struct hostdrv *host);

#endif
