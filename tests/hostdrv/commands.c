// SPDX-License-Identifier: GPL-2.0
/*
 * What a script can have this driver do with the DMA API: hold buffers mapped,
 * and move data through the device with buffers mapped for each transfer.
 */
#include <linux/dma-mapping.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "hostdrv.h"

/**
 * struct buffer - Memory that stays mapped until it is freed
 * @cpu: Where the processor sees it
 * @dma: Where the device sees it
 * @size: Bytes
 * @coherent: From dma_alloc_coherent, else kmalloc and dma_map_single
 */
struct buffer {
	void *cpu;
	dma_addr_t dma;
	size_t size;
	bool coherent;
};

static int buffer_map(struct hostdrv *host, struct buffer *buf)
{
	if (buf->coherent) {
		buf->cpu = dma_alloc_coherent(host->dev, buf->size, &buf->dma,
					      GFP_KERNEL | __GFP_NOWARN);
		return buf->cpu ? 0 : -ENOMEM;
	}
	buf->cpu = kzalloc(buf->size, GFP_KERNEL | __GFP_NOWARN);
	if (!buf->cpu)
		return -ENOMEM;
	buf->dma = dma_map_single(host->dev, buf->cpu, buf->size,
				  DMA_BIDIRECTIONAL);
	if (dma_mapping_error(host->dev, buf->dma)) {
		kfree(buf->cpu);
		return -ENOMEM;
	}
	return 0;
}

static void buffer_unmap(struct hostdrv *host, struct buffer *buf)
{
	if (buf->coherent) {
		dma_free_coherent(host->dev, buf->size, buf->cpu, buf->dma);
		return;
	}
	dma_unmap_single(host->dev, buf->dma, buf->size, DMA_BIDIRECTIONAL);
	kfree(buf->cpu);
}

static int buffer_create(struct hostdrv *host, u64 size, bool coherent,
			 char *out, size_t room)
{
	struct buffer *buf;
	u32 id;
	int ret;

	if (!size || size > KMALLOC_MAX_SIZE)
		return -EINVAL;
	buf = kzalloc_obj(*buf);
	if (!buf)
		return -ENOMEM;
	buf->size = size;
	buf->coherent = coherent;
	ret = buffer_map(host, buf);
	if (ret)
		goto free;
	ret = xa_alloc(&host->buffers, &id, buf, xa_limit_31b, GFP_KERNEL);
	if (ret)
		goto unmap;
	scnprintf(out, room, "id %u dma %#llx", id, (u64)buf->dma);
	return 0;

unmap:
	buffer_unmap(host, buf);
free:
	kfree(buf);
	return ret;
}

static int run_coherent(void *ctx, const u64 *arg, char *out, size_t room)
{
	return buffer_create(ctx, arg[0], true, out, room);
}

static int run_stream(void *ctx, const u64 *arg, char *out, size_t room)
{
	return buffer_create(ctx, arg[0], false, out, room);
}

static int run_free(void *ctx, const u64 *arg, char *out, size_t room)
{
	struct hostdrv *host = ctx;
	struct buffer *buf;

	buf = xa_erase(&host->buffers, arg[0]);
	if (!buf)
		return -ENOENT;
	buffer_unmap(host, buf);
	kfree(buf);
	scnprintf(out, room, "ok");
	return 0;
}

/* Says in @out what is wrong, if anything is. */
static int compare(const u8 *want, const u8 *got, size_t size, u64 round,
		   char *out, size_t room)
{
	size_t i;

	for (i = 0; i < size; i++) {
		if (got[i] == want[i])
			continue;
		scnprintf(out, room,
			  "differs: round %llu byte %zu is %#x instead of %#x",
			  round, i, got[i], want[i]);
		return -EIO;
	}
	return 0;
}

/* One transfer from @src to @dst by the device, both mapped for it alone. */
static int transfer(struct hostdrv *host, void *src, void *dst, size_t size,
		    u64 round, char *out, size_t room)
{
	struct engine_result result = { };
	dma_addr_t src_dma, dst_dma;
	int ret;

	src_dma = dma_map_single(host->dev, src, size, DMA_TO_DEVICE);
	if (dma_mapping_error(host->dev, src_dma))
		return -ENOMEM;
	dst_dma = dma_map_single(host->dev, dst, size, DMA_FROM_DEVICE);
	if (dma_mapping_error(host->dev, dst_dma)) {
		ret = -ENOMEM;
		goto unmap_src;
	}
	ret = host->engine->copy(host->bar, src_dma, dst_dma, size, &result);
	if (ret == -EFAULT)
		scnprintf(out, room,
			  "refused: round %llu status %llu at %#llx (from %#llx to %#llx)",
			  round, result.status, result.fault, (u64)src_dma,
			  (u64)dst_dma);
	dma_unmap_single(host->dev, dst_dma, size, DMA_FROM_DEVICE);
unmap_src:
	dma_unmap_single(host->dev, src_dma, size, DMA_TO_DEVICE);
	return ret;
}

static int churn_once(struct hostdrv *host, size_t size, u64 round, char *out,
		      size_t room)
{
	u8 *want = kmalloc(size, GFP_KERNEL | __GFP_NOWARN);
	u8 *src = kmalloc(size, GFP_KERNEL | __GFP_NOWARN);
	u8 *dst = kmalloc(size, GFP_KERNEL | __GFP_NOWARN);
	size_t i;
	int ret = -ENOMEM;

	if (!want || !src || !dst)
		goto free;
	get_random_bytes(want, size);
	memcpy(src, want, size);
	/* Every byte differs beforehand, so that one left out is seen. */
	for (i = 0; i < size; i++)
		dst[i] = ~want[i];
	ret = transfer(host, src, dst, size, round, out, room);
	if (!ret)
		ret = compare(want, dst, size, round, out, room);
	if (!ret)
		ret = compare(want, src, size, round, out, room);
free:
	kfree(dst);
	kfree(src);
	kfree(want);
	return ret;
}

static int run_churn(void *ctx, const u64 *arg, char *out, size_t room)
{
	struct hostdrv *host = ctx;
	u64 round;
	int ret;

	if (!arg[1] || arg[1] > KMALLOC_MAX_SIZE)
		return -EINVAL;
	for (round = 0; round < arg[0]; round++) {
		if (signal_pending(current) || READ_ONCE(host->leaving)) {
			scnprintf(out, room, "stopped after %llu", round);
			return -EINTR;
		}
		ret = churn_once(host, arg[1], round, out, room);
		if (ret)
			return ret;
		cond_resched();
	}
	scnprintf(out, room, "ok %llu", round);
	return 0;
}

static const struct line_cmd hostdrv_cmds[] = {
	{ "coherent", 1, run_coherent },
	{ "stream", 1, run_stream },
	{ "free", 1, run_free },
	{ "churn", 2, run_churn },
	{ }
};

void hostdrv_commands_create(struct hostdrv *host, struct dentry *parent)
{
	xa_init_flags(&host->buffers, XA_FLAGS_ALLOC1);
	host->dir = debugfs_create_dir(dev_name(host->dev), parent);
	line_cmd_create(&host->file, host->dir, hostdrv_cmds, host);
}

void hostdrv_commands_remove(struct hostdrv *host)
{
	struct buffer *buf;
	unsigned long id;

	WRITE_ONCE(host->leaving, true);
	/* Returns when no command runs any more. */
	debugfs_remove(host->dir);
	xa_for_each(&host->buffers, id, buf) {
		buffer_unmap(host, buf);
		kfree(buf);
	}
	xa_destroy(&host->buffers);
}
