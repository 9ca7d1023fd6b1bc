// SPDX-License-Identifier: GPL-2.0
/*
 * Keeps which places of the module under test were reached, however often that is removed and
 * loaded again, for as long as this module is loaded. /proc/qat_cover gives two bitmaps, a bit for
 * each byte of code: the module's init first. (In procfs, for debugfs is closed on a kernel that is
 * locked down.)
 */
#include <linux/bitops.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/uaccess.h>

#include "cover.h"

#define INIT_BITS (64UL << 10)
#define TEXT_BITS (4UL << 20)

static unsigned long reached[BITS_TO_LONGS(INIT_BITS + TEXT_BITS)];

void qat_cover_reached(bool init, unsigned long offset)
{
	unsigned long bit = init ? offset : INIT_BITS + offset;

	if (offset >= (init ? INIT_BITS : TEXT_BITS))
		return;
	/* Most were reached before; a write would take the line from other processors. */
	if (!test_bit(bit, reached))
		set_bit(bit, reached);
}
EXPORT_SYMBOL_GPL(qat_cover_reached);

static ssize_t cover_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	return simple_read_from_buffer(to, count, at, reached, sizeof(reached));
}

static const struct proc_ops cover_ops = {
	.proc_read = cover_read,
	.proc_lseek = default_llseek,
};

static int __init cover_init(void)
{
	return proc_create("qat_cover", 0400, NULL, &cover_ops) ? 0 : -ENOMEM;
}
module_init(cover_init);

static void __exit cover_exit(void)
{
	remove_proc_entry("qat_cover", NULL);
}
module_exit(cover_exit);

MODULE_DESCRIPTION("Keeps what was reached of qat_iommu");
MODULE_LICENSE("GPL");
