// SPDX-License-Identifier: GPL-2.0
/*
 * Transfers of a driver's own: two buffers, mapped for the device in any of the
 * ways that the DMA API has, a copy by the device, and a look at every byte.
 *
 * Any number of threads may be in here for one device: they map and unmap side by
 * side, and only the copies, of which the device makes one at a time, are in turn.
 */
#include <linux/dma-mapping.h>
#include <linux/gfp.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "hostdrv.h"

/**
 * struct side - One end of a transfer
 * @way: How it is mapped
 * @dir: Which way its data goes
 * @size: Bytes
 * @cpu: Where the processor sees it, if it is in one piece
 * @dma: Where the device sees it, if it is in one piece
 * @list: Its pages, if it is not
 */
struct side {
	enum way way;
	enum dma_data_direction dir;
	size_t size;
	void *cpu;
	dma_addr_t dma;
	struct sg_table list;
};

static void list_free(struct sg_table *list)
{
	struct scatterlist *sg;
	unsigned int i;

	for_each_sgtable_sg(list, sg, i)
		if (sg_page(sg))
			__free_page(sg_page(sg));
	sg_free_table(list);
}

static int list_alloc(struct sg_table *list, size_t size)
{
	struct scatterlist *sg;
	unsigned int i;
	int ret;

	ret = sg_alloc_table(list, DIV_ROUND_UP(size, PAGE_SIZE), GFP_KERNEL);
	if (ret)
		return ret;
	for_each_sgtable_sg(list, sg, i) {
		struct page *page = alloc_page(GFP_KERNEL | __GFP_NOWARN);

		if (!page) {
			list_free(list);
			return -ENOMEM;
		}
		sg_set_page(sg, page, min_t(size_t, size, PAGE_SIZE), 0);
		size -= sg->length;
	}
	return 0;
}

/* Memory that the processor can fill; coherent memory is mapped from now on. */
static int side_alloc(struct hostdrv *host, struct side *side)
{
	gfp_t gfp = GFP_KERNEL | __GFP_NOWARN | __GFP_NORETRY;

	switch (side->way) {
	case WAY_SINGLE:
		side->cpu = kmalloc(side->size, gfp);
		return side->cpu ? 0 : -ENOMEM;
	case WAY_COHERENT:
		side->cpu = dma_alloc_coherent(host->dev, side->size,
					       &side->dma, gfp);
		return side->cpu ? 0 : -ENOMEM;
	default:
		return list_alloc(&side->list, side->size);
	}
}

static void side_free(struct hostdrv *host, struct side *side)
{
	switch (side->way) {
	case WAY_SINGLE:
		kfree(side->cpu);
		break;
	case WAY_COHERENT:
		dma_free_coherent(host->dev, side->size, side->cpu, side->dma);
		break;
	default:
		list_free(&side->list);
	}
}

static int side_map(struct hostdrv *host, struct side *side)
{
	switch (side->way) {
	case WAY_SINGLE:
		side->dma = dma_map_single(host->dev, side->cpu, side->size,
					   side->dir);
		return dma_mapping_error(host->dev, side->dma);
	case WAY_COHERENT:
		return 0;
	default:
		return dma_map_sgtable(host->dev, &side->list, side->dir, 0);
	}
}

static void side_unmap(struct hostdrv *host, struct side *side)
{
	if (side->way == WAY_SINGLE)
		dma_unmap_single(host->dev, side->dma, side->size, side->dir);
	else if (side->way == WAY_LIST)
		dma_unmap_sgtable(host->dev, &side->list, side->dir, 0);
}

/* The processor may look at what is mapped. */
static void side_to_cpu(struct hostdrv *host, struct side *side)
{
	if (side->way == WAY_SINGLE)
		dma_sync_single_for_cpu(host->dev, side->dma, side->size,
					side->dir);
	else if (side->way == WAY_LIST)
		dma_sync_sgtable_for_cpu(host->dev, &side->list, side->dir);
}

/* And the device again. */
static void side_to_device(struct hostdrv *host, struct side *side)
{
	if (side->way == WAY_SINGLE)
		dma_sync_single_for_device(host->dev, side->dma, side->size,
					   side->dir);
	else if (side->way == WAY_LIST)
		dma_sync_sgtable_for_device(host->dev, &side->list, side->dir);
}

/* The eight bytes at a multiple of eight. */
static u64 pattern(u64 seed, size_t at)
{
	u64 word = seed + at * 0x9e3779b97f4a7c15ULL;

	return word ^ (word >> 29);
}

static void fill(u8 *to, size_t len, u64 seed, size_t at)
{
	size_t i;

	for (i = 0; i < len; i += sizeof(u64)) {
		u64 word = pattern(seed, at + i);

		memcpy(to + i, &word, min(len - i, sizeof(word)));
	}
}

/* Where @from first differs from what @fill would have written, or @len. */
static size_t differs_at(const u8 *from, size_t len, u64 seed, size_t at)
{
	size_t i;

	for (i = 0; i < len; i += sizeof(u64)) {
		u64 word = pattern(seed, at + i);
		size_t part = min(len - i, sizeof(word));

		if (!memcmp(from + i, &word, part))
			continue;
		while (from[i] == ((u8 *)&word)[i % sizeof(word)])
			i++;
		return i;
	}
	return len;
}

static void side_fill(struct side *side, u64 seed)
{
	struct scatterlist *sg;
	unsigned int i;

	if (side->way != WAY_LIST) {
		fill(side->cpu, side->size, seed, 0);
		return;
	}
	for_each_sgtable_sg(&side->list, sg, i)
		fill(sg_virt(sg), sg->length, seed, i * PAGE_SIZE);
}

/* Where the side first differs from what @side_fill would have written, or its size. */
static size_t side_differs_at(struct side *side, u64 seed)
{
	struct scatterlist *sg;
	unsigned int i;
	size_t at;

	if (side->way != WAY_LIST)
		return differs_at(side->cpu, side->size, seed, 0);
	for_each_sgtable_sg(&side->list, sg, i) {
		at = differs_at(sg_virt(sg), sg->length, seed, i * PAGE_SIZE);
		if (at < sg->length)
			return i * PAGE_SIZE + at;
	}
	return side->size;
}

/**
 * struct cursor - How far a side has been copied
 * @dma: Where the device sees what comes next
 * @left: How much of it follows there
 * @sg: The piece that it is in, of a list
 */
struct cursor {
	dma_addr_t dma;
	size_t left;
	struct scatterlist *sg;
};

static struct cursor cursor_of(struct side *side)
{
	struct scatterlist *sg = side->list.sgl;

	if (side->way != WAY_LIST)
		return (struct cursor){ side->dma, side->size, NULL };
	return (struct cursor){ sg_dma_address(sg), sg_dma_len(sg), sg };
}

static void cursor_advance(struct cursor *cursor, size_t len)
{
	cursor->dma += len;
	cursor->left -= len;
	if (!cursor->left && cursor->sg) {
		cursor->sg = sg_next(cursor->sg);
		if (cursor->sg) {
			cursor->dma = sg_dma_address(cursor->sg);
			cursor->left = sg_dma_len(cursor->sg);
		}
	}
}

static int device_copies(struct hostdrv *host, struct side *from,
			 struct side *to, char *why, size_t room)
{
	struct cursor src = cursor_of(from), dst = cursor_of(to);
	struct engine_result result = { };
	size_t left = from->size;
	int ret;

	while (left) {
		size_t part = min3(src.left, dst.left, left);

		mutex_lock(&host->engine_lock);
		ret = host->engine->copy(host->bar, src.dma, dst.dma, part,
					 &result);
		mutex_unlock(&host->engine_lock);
		if (ret == -EFAULT)
			scnprintf(why, room,
				  "refused: status %llu at %#llx (%zu bytes from %#llx to %#llx)",
				  result.status, result.fault, part,
				  (u64)src.dma, (u64)dst.dma);
		if (ret)
			return ret;
		cursor_advance(&src, part);
		cursor_advance(&dst, part);
		left -= part;
	}
	return 0;
}

static int compare(struct side *side, u64 seed, char *why, size_t room)
{
	size_t at = side_differs_at(side, seed);

	if (at == side->size)
		return 0;
	scnprintf(why, room, "differs: byte %zu of %zu of the %s", at,
		  side->size, side->dir == DMA_TO_DEVICE ? "source" : "copy");
	return -EIO;
}

/* Both sides are mapped, and this is not for long. */
static int copy_again(struct hostdrv *host, struct side *from, struct side *to,
		      u64 seed, char *why, size_t room)
{
	int ret;

	side_to_cpu(host, to);
	ret = compare(to, seed, why, room);
	side_to_device(host, to);
	if (ret)
		return ret;
	side_to_cpu(host, from);
	side_fill(from, ~seed);
	side_to_device(host, from);
	return device_copies(host, from, to, why, room);
}

static int copy_mapped(struct hostdrv *host, struct side *from,
		       struct side *to, u64 *seed, bool again, char *why,
		       size_t room)
{
	int ret;

	ret = side_map(host, from);
	if (ret)
		goto not_mapped;
	ret = side_map(host, to);
	if (ret)
		goto unmap_from;
	ret = device_copies(host, from, to, why, room);
	if (!ret && again) {
		ret = copy_again(host, from, to, *seed, why, room);
		*seed = ~*seed;
	}
	side_unmap(host, to);
	side_unmap(host, from);
	return ret;

unmap_from:
	side_unmap(host, from);
not_mapped:
	scnprintf(why, room, "not mapped: %zu bytes (%pe)", from->size,
		  ERR_PTR(ret));
	return -ENOSPC;
}

/**
 * hostdrv_transfer() - Have the device copy a fresh buffer, and compare
 * @host: The device
 * @how: How
 * @why: Filled with what went wrong, if anything did
 * @room: Bytes of @why
 *
 * Return: 0; -EIO if the data is not what it should be, -EFAULT if the device was
 * refused an address, -ENOSPC if a buffer could not be mapped, -ETIMEDOUT if the
 * device did not end; -ENOMEM if there is no memory for the buffers.
 */
int hostdrv_transfer(struct hostdrv *host, const struct transfer *how,
		     char *why, size_t room)
{
	struct side from = {
		.way = how->from, .dir = DMA_TO_DEVICE, .size = how->size
	};
	struct side to = {
		.way = how->to, .dir = DMA_FROM_DEVICE, .size = how->size
	};
	u64 seed = get_random_u64();
	int ret;

	ret = side_alloc(host, &from);
	if (ret)
		return ret;
	ret = side_alloc(host, &to);
	if (ret)
		goto free_from;
	side_fill(&from, seed);
	/* Every word differs beforehand, so that one left out is seen. */
	side_fill(&to, seed + 1);
	ret = copy_mapped(host, &from, &to, &seed, how->again, why, room);
	if (!ret)
		ret = compare(&to, seed, why, room);
	if (!ret)
		ret = compare(&from, seed, why, room);
	side_free(host, &to);
free_from:
	side_free(host, &from);
	return ret;
}
