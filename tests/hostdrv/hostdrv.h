/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HOSTDRV_H
#define HOSTDRV_H

#include <linux/atomic.h>
#include <linux/mutex.h>
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
 * @copy_alone: The same for at most a page, and this processor does nothing else
 *	until the source has been read. Interrupts are off meanwhile, so that no
 *	timer of it runs, such as the one that flushes the IOTLB in lazy mode.
 */
struct engine {
	int (*copy)(void __iomem *bar, dma_addr_t src, dma_addr_t dst,
		    size_t len, struct engine_result *result);
	int (*copy_alone)(void __iomem *bar, dma_addr_t src, dma_addr_t dst,
			  size_t len, struct engine_result *result);
};

extern const struct engine engine_pf;
extern const struct engine engine_edu;

#define LOAD_THREADS	32

/**
 * struct load - Threads that use the DMA API until they are told to stop
 * @threads: They
 * @count: How many there are; 0 while none runs
 * @most: The most bytes of one buffer
 * @transfers: Transfers by the device whose data was right
 * @bytes: Bytes of them
 * @wrong: Transfers whose data was not
 * @refused: Transfers that the device was refused an address of
 * @failed: Buffers that could not be mapped, and transfers that did not end
 * @told: Somebody has written, or is writing, @first
 * @first: What went wrong first
 *
 * @threads, @count and @most change under the lock of the command file, or when
 * there are no commands any more.
 */
struct load {
	struct task_struct *threads[LOAD_THREADS];
	unsigned int count;
	size_t most;
	atomic64_t transfers;
	atomic64_t bytes;
	atomic64_t wrong;
	atomic64_t refused;
	atomic64_t failed;
	atomic_t told;
	char first[96];
};

/**
 * struct hostdrv - One device that this driver holds
 * @dev: The device
 * @bar: Its BAR0
 * @engine: How its DMA engine is run
 * @engine_lock: Held for one transfer; taken last
 * @scratch: A page of coherent memory, for what is read on command
 * @scratch_dma: Where the device sees it
 * @file: Its commands
 * @dir: Where @file is
 * @buffers: Memory that commands have mapped for it, by id
 * @load: The threads in the background
 * @leaving: It is being unbound: a long command ends early
 */
struct hostdrv {
	struct device *dev;
	void __iomem *bar;
	const struct engine *engine;
	struct mutex engine_lock; /* one transfer at a time */
	void *scratch;
	dma_addr_t scratch_dma;
	struct line_file file;
	struct dentry *dir;
	struct xarray buffers;
	struct load load;
	bool leaving;
};

/* How a buffer is had and mapped. */
enum way {
	WAY_SINGLE,	/* kmalloc and dma_map_single */
	WAY_LIST,	/* pages from here and there and dma_map_sgtable */
	WAY_COHERENT,	/* dma_alloc_coherent */
	WAYS
};

/**
 * struct transfer - One or two copies from one buffer to another
 * @from: How the source is mapped
 * @to: How the destination is mapped
 * @size: Bytes
 * @again: Copy other data as well while both are mapped
 */
struct transfer {
	enum way from;
	enum way to;
	size_t size;
	bool again;
};

int hostdrv_transfer(struct hostdrv *host, const struct transfer *how,
		     char *why, size_t room);

int hostdrv_load_start(struct hostdrv *host, u64 threads, u64 most);
int hostdrv_load_stop(struct hostdrv *host, char *out, size_t room);

void hostdrv_commands_create(struct hostdrv *host, struct dentry *parent);
void hostdrv_commands_remove(struct hostdrv *host);

#endif
