// SPDX-License-Identifier: GPL-2.0
/*
 * Several kernel threads that map and unmap pages of their own at once: the
 * calls must serve them all, since no two ask for the same IOVA.
 */
#include <linux/completion.h>
#include <linux/io.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "icp_sal_iommu.h"
#include "kclient.h"

#define STRESS_MAX_THREADS	64
/* Pages that each thread has mapped at the same time. */
#define STRESS_PAGES		8

/**
 * struct stress - One run, shared by its threads
 * @rounds: How often each thread maps and unmaps its pages
 * @running: Threads that have not ended
 * @done: None is running
 * @stop: They are to end early
 * @maps: Maps asked for
 * @failures: Maps and unmaps that failed
 * @no_memory: Pages that could not be had
 */
struct stress {
	u64 rounds;
	atomic_t running;
	struct completion done;
	bool stop;
	atomic64_t maps;
	atomic64_t failures;
	atomic64_t no_memory;
};

static void *stress_map(struct stress *stress)
{
	void *page = kmalloc(PAGE_SIZE, GFP_KERNEL);
	u64 phys;

	if (!page) {
		atomic64_inc(&stress->no_memory);
		return NULL;
	}
	phys = virt_to_phys(page);
	atomic64_inc(&stress->maps);
	if (icp_sal_iommu_map(phys, phys, PAGE_SIZE) == KCLIENT_SUCCESS)
		return page;
	atomic64_inc(&stress->failures);
	kfree(page);
	return NULL;
}

static void stress_unmap(struct stress *stress, void *page)
{
	/* A page that did not unmap is lost: the PF may still reach it. */
	if (icp_sal_iommu_unmap(virt_to_phys(page), PAGE_SIZE) ==
	    KCLIENT_SUCCESS)
		kfree(page);
	else
		atomic64_inc(&stress->failures);
}

static int stress_thread(void *data)
{
	struct stress *stress = data;
	void *page[STRESS_PAGES];
	u64 round;
	int i;

	for (round = 0; round < stress->rounds; round++) {
		if (READ_ONCE(stress->stop))
			break;
		for (i = 0; i < STRESS_PAGES; i++)
			page[i] = stress_map(stress);
		for (i = 0; i < STRESS_PAGES; i++)
			if (page[i])
				stress_unmap(stress, page[i]);
		cond_resched();
	}
	if (atomic_dec_and_test(&stress->running))
		complete(&stress->done);
	return 0;
}

/* Returns 0 with the counts in @out, or -EIO with them if anything failed. */
int kclient_stress(u64 threads, u64 rounds, char *out, size_t room)
{
	struct task_struct *task[STRESS_MAX_THREADS];
	struct stress stress = { .rounds = rounds };
	unsigned int started;
	int ret = 0;

	if (!threads || threads > STRESS_MAX_THREADS)
		return -EINVAL;
	atomic_set(&stress.running, threads);
	init_completion(&stress.done);
	for (started = 0; started < threads; started++) {
		struct task_struct *new;

		new = kthread_create(stress_thread, &stress, "qat_kclient/%u",
				     started);
		if (IS_ERR(new)) {
			ret = PTR_ERR(new);
			break;
		}
		/* It ends by itself: keep it until it is waited for below. */
		task[started] = get_task_struct(new);
		wake_up_process(new);
	}
	if (!ret)
		ret = wait_for_completion_interruptible(&stress.done);
	if (ret)
		WRITE_ONCE(stress.stop, true);
	while (started--)
		kthread_stop_put(task[started]);
	if (ret)
		return ret;
	scnprintf(out, room, "failures %lld of %lld maps%s",
		  atomic64_read(&stress.failures), atomic64_read(&stress.maps),
		  atomic64_read(&stress.no_memory) ? " (short of memory)" : "");
	return atomic64_read(&stress.failures) ? -EIO : 0;
}
