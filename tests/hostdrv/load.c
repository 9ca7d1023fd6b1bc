// SPDX-License-Identifier: GPL-2.0
/*
 * A driver at work: threads that transfer data in every way until they are told
 * to stop, for tests to run beside.
 */
#include <linux/kthread.h>
#include <linux/minmax.h>
#include <linux/random.h>
#include <linux/sched.h>

#include "hostdrv.h"

/* From a part of a page to the most that is asked for, small ones more often. */
static size_t load_size(size_t most)
{
	unsigned int shift = get_random_u32_below(ilog2(most / PAGE_SIZE) + 1);
	size_t size = get_random_u32_inclusive(1, 1U << shift) * PAGE_SIZE;

	/* Every other one ends within a page. */
	if (get_random_u32_below(2))
		size -= get_random_u32_below(PAGE_SIZE);
	return size;
}

static void load_note(struct load *load, int ret, size_t size, const char *why)
{
	switch (ret) {
	case 0:
		atomic64_inc(&load->transfers);
		atomic64_add(size, &load->bytes);
		return;
	case -ENOMEM:
		/* There was no memory to transfer: nothing of the DMA API's. */
		return;
	case -EIO:
		atomic64_inc(&load->wrong);
		break;
	case -EFAULT:
		atomic64_inc(&load->refused);
		break;
	default:
		atomic64_inc(&load->failed);
	}
	if (!atomic_xchg(&load->told, 1))
		strscpy(load->first, *why ? why : "the device did not end",
			sizeof(load->first));
}

static int load_thread(void *data)
{
	struct hostdrv *host = data;
	struct load *load = &host->load;

	while (!kthread_should_stop()) {
		struct transfer how = {
			.from = get_random_u32_below(WAYS),
			.to = get_random_u32_below(WAYS),
			.size = load_size(load->most),
			.again = get_random_u32_below(2),
		};
		char why[sizeof(load->first)] = "";
		int ret;

		ret = hostdrv_transfer(host, &how, why, sizeof(why));
		load_note(load, ret, how.size, why);
		cond_resched();
	}
	return 0;
}

static void load_end(struct load *load)
{
	while (load->count)
		kthread_stop(load->threads[--load->count]);
}

/**
 * hostdrv_load_start() - Start the threads
 * @host: The device
 * @threads: How many, at most LOAD_THREADS
 * @most: The most bytes of one buffer, at least a page
 *
 * Return: 0; -EBUSY if they run already.
 */
int hostdrv_load_start(struct hostdrv *host, u64 threads, u64 most)
{
	struct load *load = &host->load;

	if (!threads || threads > LOAD_THREADS || most < PAGE_SIZE ||
	    most > KMALLOC_MAX_SIZE)
		return -EINVAL;
	if (load->count)
		return -EBUSY;
	memset(load, 0, sizeof(*load));
	load->most = most;
	while (load->count < threads) {
		struct task_struct *task;

		task = kthread_run(load_thread, host, "hostdrv/%u",
				   load->count);
		if (IS_ERR(task)) {
			load_end(load);
			return PTR_ERR(task);
		}
		load->threads[load->count++] = task;
	}
	return 0;
}

/**
 * hostdrv_load_stop() - Stop the threads, and say what they did
 * @host: The device
 * @out: Filled with the counts, and with what went wrong first
 * @room: Bytes of @out
 *
 * Return: 0; -ENOENT if none runs; -EIO if anything went wrong.
 */
int hostdrv_load_stop(struct hostdrv *host, char *out, size_t room)
{
	struct load *load = &host->load;
	s64 wrong, refused, failed;

	if (!load->count)
		return -ENOENT;
	load_end(load);
	wrong = atomic64_read(&load->wrong);
	refused = atomic64_read(&load->refused);
	failed = atomic64_read(&load->failed);
	scnprintf(out, room,
		  "transfers %lld bytes %lld wrong %lld refused %lld failed %lld%s%s",
		  atomic64_read(&load->transfers), atomic64_read(&load->bytes),
		  wrong, refused, failed, *load->first ? ": " : "",
		  load->first);
	return wrong || refused || failed ? -EIO : 0;
}
