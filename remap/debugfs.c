// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/debug/qat_iommu: what is open, mapped and was mapped, a record a
 * line (remap/watch.rs). For root, and without a writable file, so that it can be
 * read under kernel lockdown. In C because the Rust abstraction of debugfs has
 * only files that are written in one go, under one lock.
 *
 * An open file keeps the module loaded. A reader has its place, no lock, between
 * two records.
 */
#include <linux/debugfs.h>
#include <linux/kallsyms.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include "glue.h"

/**
 * struct reader - How far an open file was read
 * @list: Writes the next record
 * @at: Where the record is that is due
 * @next: Where the one after it is
 * @end: There is none that is due
 *
 * A record is due until it fits into the reader's buffer, so showing it does not
 * move @at.
 */
struct reader {
	bool (*list)(struct seq_file *m, struct qat_iommu_place *place);
	struct qat_iommu_place at;
	struct qat_iommu_place next;
	bool end;
};

static void *start(struct seq_file *m, loff_t *pos)
{
	struct reader *reader = m->private;

	if (!*pos) {
		reader->at = (struct qat_iommu_place) { };
		reader->end = false;
	}
	return reader->end ? NULL : reader;
}

static void *next(struct seq_file *m, void *v, loff_t *pos)
{
	struct reader *reader = v;

	++*pos;
	reader->at = reader->next;
	return reader->end ? NULL : reader;
}

static void stop(struct seq_file *m, void *v)
{
}

static int show(struct seq_file *m, void *v)
{
	struct reader *reader = v;

	reader->next = reader->at;
	reader->end = !reader->list(m, &reader->next);
	return 0;
}

static const struct seq_operations listing = {
	.start = start,
	.next = next,
	.stop = stop,
	.show = show,
};

static int open(struct inode *inode, struct file *file)
{
	struct reader *reader = __seq_open_private(file, &listing,
						   sizeof(*reader));

	if (!reader)
		return -ENOMEM;
	reader->list = inode->i_private;
	return 0;
}

static const struct file_operations file_ops = {
	.owner = THIS_MODULE,
	.open = open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = seq_release_private,
};

static struct dentry *dir;

static void create(const char *name,
		   bool (*list)(struct seq_file *m,
				struct qat_iommu_place *place))
{
	debugfs_create_file(name, 0400, dir, list, &file_ops);
}

/* Nothing depends on it, so a failure, or no debugfs, is nobody's concern. */
void qat_iommu_debugfs_create(void)
{
	dir = debugfs_create_dir(KBUILD_MODNAME, NULL);
	create("spaces", qat_iommu_list_spaces);
	create("contexts", qat_iommu_list_contexts);
	create("mappings", qat_iommu_list_mappings);
	create("history", qat_iommu_list_history);
}

void qat_iommu_debugfs_remove(void)
{
	debugfs_remove(dir);
}

/*
 * Writes which function of which module an address is in, or the address if it is
 * in none any more. The one given is where a call returns to.
 */
void qat_iommu_write_symbol(struct seq_file *m, unsigned long address)
{
	char symbol[KSYM_SYMBOL_LEN];

	sprint_symbol_no_offset(symbol, address - 1);
	seq_puts(m, strreplace(symbol, ' ', '/'));
}
