/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A debugfs file that takes one command per write and answers with one line per
 * read: how scripts drive the test modules.
 *
 * A command is a word and a fixed count of numbers (decimal, or 0x...). A write
 * that fails says why when the file is read. Commands of one file run one at a
 * time; a read waits for the command that is running.
 */
#ifndef LINE_CMD_H
#define LINE_CMD_H

#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#define LINE_CMD_MAX	256
#define LINE_CMD_ARGS	3

/**
 * struct line_cmd - One command of a file
 * @name: The word that it begins with; NULL ends a table
 * @nargs: How many numbers follow, at most LINE_CMD_ARGS
 * @run: Does it, and writes its answer without a newline into @out. Returns 0 or
 *	a negative errno, which the write fails with; an empty answer is then
 *	replaced by the error's name.
 */
struct line_cmd {
	const char *name;
	unsigned int nargs;
	int (*run)(void *ctx, const u64 *arg, char *out, size_t room);
};

/**
 * struct line_file - One debugfs file
 * @cmds: Its commands
 * @ctx: Handed to each of them
 * @lock: Held while a command runs, so that commands need no lock of their own
 * @out: Answer of the last one
 */
struct line_file {
	const struct line_cmd *cmds;
	void *ctx;
	struct mutex lock; /* one command at a time, and @out */
	char out[LINE_CMD_MAX + 1];
};

static inline int line_cmd_run(struct line_file *file, char **argv, int argc)
{
	const struct line_cmd *cmd;
	u64 arg[LINE_CMD_ARGS];
	unsigned int i;
	int ret;

	for (cmd = file->cmds; cmd->name; cmd++)
		if (argc && !strcmp(argv[0], cmd->name))
			break;
	if (!cmd->name) {
		scnprintf(file->out, LINE_CMD_MAX, "error: no such command");
		return -EINVAL;
	}
	if (argc - 1 != cmd->nargs) {
		scnprintf(file->out, LINE_CMD_MAX, "error: %s takes %u numbers",
			  cmd->name, cmd->nargs);
		return -EINVAL;
	}
	for (i = 0; i < cmd->nargs; i++) {
		ret = kstrtou64(argv[i + 1], 0, &arg[i]);
		if (ret) {
			scnprintf(file->out, LINE_CMD_MAX,
				  "error: argument %u is not a number", i + 1);
			return ret;
		}
	}
	ret = cmd->run(file->ctx, arg, file->out, LINE_CMD_MAX);
	if (ret && !file->out[0])
		scnprintf(file->out, LINE_CMD_MAX, "error: %pe", ERR_PTR(ret));
	return ret;
}

static inline ssize_t line_cmd_write(struct file *filp,
				     const char __user *buf, size_t len,
				     loff_t *pos)
{
	struct line_file *file = filp->private_data;
	char **argv;
	char *line;
	int argc;
	int ret;

	if (len > LINE_CMD_MAX)
		return -E2BIG;
	line = memdup_user_nul(buf, len);
	if (IS_ERR(line))
		return PTR_ERR(line);
	argv = argv_split(GFP_KERNEL, line, &argc);
	kfree(line);
	if (!argv)
		return -ENOMEM;
	ret = mutex_lock_interruptible(&file->lock);
	if (!ret) {
		file->out[0] = '\0';
		ret = line_cmd_run(file, argv, argc);
		strlcat(file->out, "\n", sizeof(file->out));
		mutex_unlock(&file->lock);
	}
	argv_free(argv);
	return ret ?: len;
}

static inline ssize_t line_cmd_read(struct file *filp, char __user *buf,
				    size_t len, loff_t *pos)
{
	struct line_file *file = filp->private_data;
	ssize_t ret;

	ret = mutex_lock_interruptible(&file->lock);
	if (ret)
		return ret;
	ret = simple_read_from_buffer(buf, len, pos, file->out,
				      strlen(file->out));
	mutex_unlock(&file->lock);
	return ret;
}

static const struct file_operations line_cmd_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = line_cmd_write,
	.read = line_cmd_read,
	.llseek = default_llseek,
};

/* Make @dir/cmd; it goes with its directory. */
static inline void line_cmd_create(struct line_file *file, struct dentry *dir,
				   const struct line_cmd *cmds, void *ctx)
{
	file->cmds = cmds;
	file->ctx = ctx;
	mutex_init(&file->lock);
	debugfs_create_file("cmd", 0600, dir, file, &line_cmd_fops);
}

#endif
