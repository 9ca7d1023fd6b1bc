// SPDX-License-Identifier: GPL-2.0
/*
 * The least that mapping a program's buffer for a device can cost: its pages are
 * pinned, each physically contiguous run of them is mapped in a domain of the
 * device, all is unmapped in one go, and the runs are unpinned. No bookkeeping, no
 * accounting, no checks; only what the kernel's own functions take is counted.
 *
 * The device is that of the parameter; no driver may be bound to it. One user at a
 * time: floor_lock.
 */
#include <linux/fs.h>
#include <linux/iommu.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/timex.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "qat_floor.h"

static char *device;
module_param(device, charp, 0444);
MODULE_PARM_DESC(device, "PCI address of the device, like 0000:01:00.0");

/**
 * struct floor_run - Physically contiguous pages
 * @first: The first page
 * @pages: How many
 */
struct floor_run {
	struct page *first;
	unsigned long pages;
};

static DEFINE_MUTEX(floor_lock);
static struct pci_dev *floor_pf;
static struct iommu_domain *floor_domain;

/* Runs of a buffer whose pages are known, folio by folio. */
static unsigned long floor_runs(struct page **pages, unsigned long count, struct floor_run *runs)
{
	unsigned long at = 0, found = 0, step;

	while (at < count) {
		struct folio *folio = page_folio(pages[at]);

		step = min(folio_nr_pages(folio) - folio_page_idx(folio, pages[at]), count - at);
		if (page_to_pfn(pages[at + step - 1]) != page_to_pfn(pages[at]) + step - 1)
			step = 1;
		if (found && page_to_pfn(runs[found - 1].first) + runs[found - 1].pages ==
				     page_to_pfn(pages[at]))
			runs[found - 1].pages += step;
		else
			runs[found++] = (struct floor_run){ pages[at], step };
		at += step;
	}
	return found;
}

static int floor_map(struct floor_run *runs, unsigned long count, u64 iova)
{
	u64 at = iova;
	int ret;

	for (unsigned long i = 0; i < count; i++) {
		ret = iommu_map(floor_domain, at, page_to_phys(runs[i].first),
				runs[i].pages << PAGE_SHIFT,
				IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE, GFP_KERNEL);
		if (ret) {
			if (at != iova)
				iommu_unmap(floor_domain, iova, at - iova);
			return ret;
		}
		at += runs[i].pages << PAGE_SHIFT;
	}
	return 0;
}

static int floor_round(struct floor_round *round, struct page **pages, struct floor_run *runs)
{
	unsigned long count = round->length >> PAGE_SHIFT;
	u64 start, pinned, mapped, unmapped, unpinned;
	unsigned long done = 0;
	long got;
	int ret = 0;

	start = get_cycles();
	while (done < count) {
		got = pin_user_pages_fast(round->va + (done << PAGE_SHIFT),
					  min(count - done, INT_MAX / 2UL),
					  FOLL_WRITE | FOLL_LONGTERM, pages + done);
		if (got <= 0) {
			unpin_user_pages(pages, done);
			return got ?: -EFAULT;
		}
		done += got;
	}
	pinned = get_cycles();
	round->runs = floor_runs(pages, count, runs);
	ret = floor_map(runs, round->runs, round->iova);
	if (ret) {
		unpin_user_pages(pages, count);
		return ret;
	}
	mapped = get_cycles();
	if (iommu_unmap(floor_domain, round->iova, round->length) != round->length)
		/* The device may still reach them: they are never given back. */
		return -EIO;
	unmapped = get_cycles();
	for (unsigned long i = 0; i < round->runs; i++)
		unpin_user_page_range_dirty_lock(runs[i].first, runs[i].pages, true);
	unpinned = get_cycles();

	round->pin = pinned - start;
	round->map = mapped - pinned;
	round->unmap = unmapped - mapped;
	round->unpin = unpinned - unmapped;
	return 0;
}

static long floor_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	void __user *user = (void __user *)argument;
	struct floor_round round;
	struct floor_run *runs;
	struct page **pages;
	int ret;

	if (command == FLOOR_NOTHING)
		return 0;
	if (command != FLOOR_ROUND)
		return -ENOTTY;
	if (copy_from_user(&round, user, sizeof(round)))
		return -EFAULT;
	if (!round.length || (round.va | round.length | round.iova) & ~PAGE_MASK)
		return -EINVAL;
	pages = vmalloc_array(round.length >> PAGE_SHIFT, sizeof(*pages));
	runs = vmalloc_array(round.length >> PAGE_SHIFT, sizeof(*runs));
	if (pages && runs) {
		mutex_lock(&floor_lock);
		ret = floor_round(&round, pages, runs);
		mutex_unlock(&floor_lock);
	} else {
		ret = -ENOMEM;
	}
	vfree(runs);
	vfree(pages);
	if (!ret && copy_to_user(user, &round, sizeof(round)))
		ret = -EFAULT;
	return ret;
}

static const struct file_operations floor_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = floor_ioctl,
};

static struct miscdevice floor_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "qat_floor",
	.fops = &floor_fops,
	.mode = 0600,
};

static struct pci_dev *floor_find(void)
{
	unsigned int domain, bus, slot, function;

	if (!device || sscanf(device, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
		return NULL;
	return pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, function));
}

static int __init floor_init(void)
{
	struct device *dev;
	int ret;

	floor_pf = floor_find();
	if (!floor_pf) {
		pr_err("qat_floor: device=%s: there is none\n", device ?: "");
		return -ENODEV;
	}
	dev = &floor_pf->dev;
	ret = iommu_device_claim_dma_owner(dev, &floor_pf);
	if (ret)
		goto put;
	floor_domain = iommu_paging_domain_alloc(dev);
	if (IS_ERR(floor_domain)) {
		ret = PTR_ERR(floor_domain);
		goto release;
	}
	ret = iommu_attach_device(floor_domain, dev);
	if (ret)
		goto free;
	ret = misc_register(&floor_misc);
	if (ret)
		goto detach;
	return 0;

detach:
	iommu_detach_device(floor_domain, dev);
free:
	iommu_domain_free(floor_domain);
release:
	iommu_device_release_dma_owner(dev);
put:
	pci_dev_put(floor_pf);
	return ret;
}

static void __exit floor_exit(void)
{
	misc_deregister(&floor_misc);
	iommu_detach_device(floor_domain, &floor_pf->dev);
	iommu_domain_free(floor_domain);
	iommu_device_release_dma_owner(&floor_pf->dev);
	pci_dev_put(floor_pf);
}

module_init(floor_init);
module_exit(floor_exit);

MODULE_DESCRIPTION("What pinning and mapping cost at the least");
MODULE_LICENSE("GPL");
