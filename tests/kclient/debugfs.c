// SPDX-License-Identifier: GPL-2.0
/*
 * The calls of a kernel client, one by one, for scripts:
 * /sys/kernel/debug/qat_kclient/cmd.
 *
 * What a script leaves allocated is freed with the module, even where a mapping
 * of it is left: tests do this on purpose. A client must not.
 */
#include <linux/io.h>
#include <linux/slab.h>
#include <linux/timex.h>
#include <linux/xarray.h>

#include "icp_sal_iommu.h"
#include "kclient.h"
#include "line_cmd.h"
#include "qat_pf.h"

/**
 * struct kclient_buffer - Memory that a script has allocated
 * @data: From kmalloc
 * @size: Bytes
 */
struct kclient_buffer {
	void *data;
	size_t size;
};

static DEFINE_XARRAY_ALLOC1(kclient_buffers);
static struct line_file kclient_file;
static struct dentry *kclient_dir;

static int run_size(void *ctx, const u64 *arg, char *out, size_t room)
{
	scnprintf(out, room, "%zu", icp_sal_iommu_get_remap_size(arg[0]));
	return 0;
}

static int run_map(void *ctx, const u64 *arg, char *out, size_t room)
{
	scnprintf(out, room, "%d", icp_sal_iommu_map(arg[0], arg[1], arg[2]));
	return 0;
}

static int run_unmap(void *ctx, const u64 *arg, char *out, size_t room)
{
	scnprintf(out, room, "%d", icp_sal_iommu_unmap(arg[0], arg[1]));
	return 0;
}

/* One map at the physical address itself, and its unmap, by the time-stamp counter. */
static int run_time(void *ctx, const u64 *arg, char *out, size_t room)
{
	u64 start = get_cycles(), mapped, unmapped;
	int ret;

	ret = icp_sal_iommu_map(arg[0], arg[0], arg[1]);
	mapped = get_cycles();
	if (ret != KCLIENT_SUCCESS)
		return -EIO;
	ret = icp_sal_iommu_unmap(arg[0], arg[1]);
	unmapped = get_cycles();
	if (ret != KCLIENT_SUCCESS)
		return -EIO;
	scnprintf(out, room, "%llu %llu", mapped - start, unmapped - mapped);
	return 0;
}

static int run_alloc(void *ctx, const u64 *arg, char *out, size_t room)
{
	struct kclient_buffer *buf;
	u32 id;
	int ret;

	if (!arg[0] || arg[0] > KMALLOC_MAX_SIZE)
		return -EINVAL;
	buf = kzalloc_obj(*buf);
	if (!buf)
		return -ENOMEM;
	buf->size = arg[0];
	buf->data = kzalloc(buf->size, GFP_KERNEL | __GFP_NOWARN);
	if (!buf->data) {
		ret = -ENOMEM;
		goto free;
	}
	ret = xa_alloc(&kclient_buffers, &id, buf, xa_limit_31b, GFP_KERNEL);
	if (ret)
		goto free;
	scnprintf(out, room, "%u %#llx", id, (u64)virt_to_phys(buf->data));
	return 0;

free:
	kfree(buf->data);
	kfree(buf);
	return ret;
}

static int run_fill(void *ctx, const u64 *arg, char *out, size_t room)
{
	struct kclient_buffer *buf = xa_load(&kclient_buffers, arg[0]);

	if (!buf)
		return -ENOENT;
	if (arg[1] > U8_MAX)
		return -ERANGE;
	memset(buf->data, arg[1], buf->size);
	scnprintf(out, room, "ok");
	return 0;
}

static int run_sum(void *ctx, const u64 *arg, char *out, size_t room)
{
	struct kclient_buffer *buf = xa_load(&kclient_buffers, arg[0]);

	if (!buf)
		return -ENOENT;
	scnprintf(out, room, "0x%016llx", qat_pf_sum(buf->data, buf->size));
	return 0;
}

static int run_free(void *ctx, const u64 *arg, char *out, size_t room)
{
	struct kclient_buffer *buf = xa_erase(&kclient_buffers, arg[0]);

	if (!buf)
		return -ENOENT;
	kfree(buf->data);
	kfree(buf);
	scnprintf(out, room, "ok");
	return 0;
}

static int run_demo(void *ctx, const u64 *arg, char *out, size_t room)
{
	int ret = kclient_demo();

	if (ret)
		scnprintf(out, room, "error: %pe; the kernel log says more",
			  ERR_PTR(ret));
	else
		scnprintf(out, room, "ok");
	return ret;
}

static int run_stress(void *ctx, const u64 *arg, char *out, size_t room)
{
	return kclient_stress(arg[0], arg[1], out, room);
}

static const struct line_cmd kclient_cmds[] = {
	{ "size", 1, run_size },
	{ "map", 3, run_map },
	{ "unmap", 2, run_unmap },
	{ "time", 2, run_time },
	{ "alloc", 1, run_alloc },
	{ "fill", 2, run_fill },
	{ "sum", 1, run_sum },
	{ "free", 1, run_free },
	{ "demo", 0, run_demo },
	{ "stress", 2, run_stress },
	{ }
};

void kclient_debugfs_create(void)
{
	kclient_dir = debugfs_create_dir("qat_kclient", NULL);
	line_cmd_create(&kclient_file, kclient_dir, kclient_cmds, NULL);
}

void kclient_debugfs_remove(void)
{
	struct kclient_buffer *buf;
	unsigned long id;

	/* Returns when no command runs any more. */
	debugfs_remove(kclient_dir);
	xa_for_each(&kclient_buffers, id, buf) {
		kfree(buf->data);
		kfree(buf);
	}
	xa_destroy(&kclient_buffers);
}
