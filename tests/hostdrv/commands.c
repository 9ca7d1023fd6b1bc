// SPDX-License-Identifier: GPL-2.0
/*
 * What a script can have this driver do with the DMA API: hold buffers mapped,
 * move data through the device with buffers mapped for each transfer, and go on
 * doing so in the background.
 */
#include <linux/dma-mapping.h>
#include <linux/limits.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "hostdrv.h"

/**
 * struct buffer - Memory that stays mapped until it is freed
 * @cpu: Where the processor sees it
 * @dma: Where the device sees it
 * @size: Bytes
 * @coherent: From dma_alloc_coherent, else kmalloc and dma_map_single
 * @mapped: The device sees it
 */
struct buffer {
	void *cpu;
	dma_addr_t dma;
	size_t size;
	bool coherent;
	bool mapped;
};

static int buffer_map(struct hostdrv *host, struct buffer *buf)
{
	if (buf->coherent) {
		buf->cpu = dma_alloc_coherent(host->dev, buf->size, &buf->dma,
					      GFP_KERNEL | __GFP_NOWARN);
		buf->mapped = buf->cpu;
		return buf->mapped ? 0 : -ENOMEM;
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
	buf->mapped = true;
	return 0;
}

/* Coherent memory goes with its mapping. */
static void buffer_end(struct hostdrv *host, struct buffer *buf)
{
	if (buf->coherent) {
		dma_free_coherent(host->dev, buf->size, buf->cpu, buf->dma);
		return;
	}
	if (buf->mapped)
		dma_unmap_single(host->dev, buf->dma, buf->size,
				 DMA_BIDIRECTIONAL);
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
	buffer_end(host, buf);
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

static int run_unmap(void *ctx, const u64 *arg, char *out, size_t room)
{
	struct hostdrv *host = ctx;
	struct buffer *buf;

	buf = xa_load(&host->buffers, arg[0]);
	if (!buf)
		return -ENOENT;
	if (buf->coherent || !buf->mapped)
		return -EINVAL;
	dma_unmap_single(host->dev, buf->dma, buf->size, DMA_BIDIRECTIONAL);
	buf->mapped = false;
	scnprintf(out, room, "ok");
	return 0;
}

static int run_free(void *ctx, const u64 *arg, char *out, size_t room)
{
	struct hostdrv *host = ctx;
	struct buffer *buf;

	buf = xa_erase(&host->buffers, arg[0]);
	if (!buf)
		return -ENOENT;
	buffer_end(host, buf);
	kfree(buf);
	scnprintf(out, room, "ok");
	return 0;
}

static int run_fill(void *ctx, const u64 *arg, char *out, size_t room)
{
	struct hostdrv *host = ctx;
	struct buffer *buf;

	buf = xa_load(&host->buffers, arg[0]);
	if (!buf)
		return -ENOENT;
	if (arg[1] > U8_MAX)
		return -EINVAL;
	if (!buf->coherent && buf->mapped)
		dma_sync_single_for_cpu(host->dev, buf->dma, buf->size,
					DMA_BIDIRECTIONAL);
	memset(buf->cpu, arg[1], buf->size);
	if (!buf->coherent && buf->mapped)
		dma_sync_single_for_device(host->dev, buf->dma, buf->size,
					   DMA_BIDIRECTIONAL);
	scnprintf(out, room, "ok");
	return 0;
}

static int run_copy(void *ctx, const u64 *arg, char *out, size_t room)
{
	struct engine_result result = { };
	struct hostdrv *host = ctx;
	int ret;

	mutex_lock(&host->engine_lock);
	ret = host->engine->copy(host->bar, arg[0], arg[1], arg[2], &result);
	mutex_unlock(&host->engine_lock);
	if (ret && ret != -EFAULT)
		return ret;
	if (ret)
		scnprintf(out, room, "refused %llu %#llx", result.status,
			  result.fault);
	else
		scnprintf(out, room, "done");
	return 0;
}

static int run_peek(void *ctx, const u64 *arg, char *out, size_t room)
{
	struct engine_result result = { };
	struct hostdrv *host = ctx;
	int ret;

	mutex_lock(&host->engine_lock);
	memset(host->scratch, 0, sizeof(u64));
	ret = host->engine->copy_alone(host->bar, arg[0], host->scratch_dma,
				       sizeof(u64), &result);
	if (!ret)
		scnprintf(out, room, "%#llx", *(u64 *)host->scratch);
	mutex_unlock(&host->engine_lock);
	if (ret != -EFAULT)
		return ret;
	scnprintf(out, room, "refused %llu %#llx", result.status, result.fault);
	return 0;
}

static int run_start(void *ctx, const u64 *arg, char *out, size_t room)
{
	int ret = hostdrv_load_start(ctx, arg[0], arg[1]);

	if (!ret)
		scnprintf(out, room, "ok");
	return ret;
}

static int run_stop(void *ctx, const u64 *arg, char *out, size_t room)
{
	return hostdrv_load_stop(ctx, out, room);
}

static int run_churn(void *ctx, const u64 *arg, char *out, size_t room)
{
	struct transfer how = {
		.from = WAY_SINGLE, .to = WAY_SINGLE, .size = arg[1],
	};
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
		ret = hostdrv_transfer(host, &how, out, room);
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
	{ "fill", 2, run_fill },
	{ "unmap", 1, run_unmap },
	{ "free", 1, run_free },
	{ "copy", 3, run_copy },
	{ "peek", 1, run_peek },
	{ "churn", 2, run_churn },
	{ "start", 2, run_start },
	{ "stop", 0, run_stop },
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
	hostdrv_load_stop(host, NULL, 0);
	xa_for_each(&host->buffers, id, buf) {
		buffer_end(host, buf);
		kfree(buf);
	}
	xa_destroy(&host->buffers);
}
