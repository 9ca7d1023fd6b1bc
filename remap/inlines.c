// SPDX-License-Identifier: GPL-2.0
/*
 * Functions for the Rust half that the kernel offers only as macros or inline
 * functions, and a debug message under dynamic debug's control. No state.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/vmstat.h>
#include <asm/cpufeature.h>

#include "glue.h"

bool qat_iommu_hypervisor(void)
{
	return boot_cpu_has(X86_FEATURE_HYPERVISOR);
}

u32 qat_iommu_phys_bits(void)
{
	return boot_cpu_data.x86_phys_bits;
}

u64 qat_iommu_table_pages(void)
{
	return global_node_page_state(NR_IOMMU_PAGES);
}

void qat_iommu_flush_domain(struct iommu_domain *domain)
{
	iommu_flush_iotlb_all(domain);
}

void qat_iommu_gather_init(struct iommu_iotlb_gather *gather)
{
	iommu_iotlb_gather_init(gather);
}

void qat_iommu_gather_sync(struct iommu_domain *domain,
			   struct iommu_iotlb_gather *gather)
{
	iommu_iotlb_sync(domain, gather);
}

/* Lets others run; true if the caller is being killed. May sleep. */
bool qat_iommu_pause(void)
{
	cond_resched();
	return fatal_signal_pending(current);
}

bool qat_iommu_signal_pending(void)
{
	return signal_pending(current);
}

/*
 * Charges pinned pages to a process, against the limit of the caller. What the
 * process has locked otherwise counts as well.
 */
int qat_iommu_charge(struct mm_struct *mm, u64 pages)
{
	u64 limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	u64 locked = READ_ONCE(mm->locked_vm);
	u64 pinned = atomic64_add_return(pages, &mm->pinned_vm);

	if (pinned + locked > limit && !capable(CAP_IPC_LOCK)) {
		atomic64_sub(pages, &mm->pinned_vm);
		return -ENOMEM;
	}
	return 0;
}

void qat_iommu_uncharge(struct mm_struct *mm, u64 pages)
{
	atomic64_sub(pages, &mm->pinned_vm);
}

u64 qat_iommu_page_pfn(struct page *page)
{
	return page_to_pfn(page);
}

/* The end of the RAM that the kernel knows, hot-plugged memory included. */
u64 qat_iommu_ram_end(void)
{
	return virt_to_phys(high_memory - 1) + 1;
}

u32 qat_iommu_pci_segment(struct pci_dev *pdev)
{
	return pci_domain_nr(pdev->bus);
}

/*
 * Takes a reference on a page of RAM, unless it is free, frozen (as the slab
 * allocator's pages are) or offline.
 */
bool qat_iommu_page_get(u64 pfn)
{
	struct page *page = pfn_to_online_page(pfn);
	struct folio *folio;

	if (!page)
		return false;

	for (;;) {
		folio = page_folio(page);
		if (!folio_try_get(folio))
			return false;
		/* Without the reference the page could have changed folios. */
		if (likely(page_folio(page) == folio))
			return true;
		folio_put(folio);
	}
}

void qat_iommu_page_put(u64 pfn)
{
	put_page(pfn_to_page(pfn));
}

/*
 * Only for a caller that keeps the module alive already, as a kernel client
 * does by using its symbols.
 */
void qat_iommu_module_get(void)
{
	__module_get(THIS_MODULE);
}

void qat_iommu_module_put(void)
{
	module_put(THIS_MODULE);
}

/* The time, by the clock that stamps the kernel log, in nanoseconds. */
u64 qat_iommu_now(void)
{
	return local_clock();
}

/* The number of the calling process; its name goes to comm. */
int qat_iommu_caller(char *comm)
{
	strscpy_pad(comm, current->group_leader->comm, TASK_COMM_LEN);
	return current->tgid;
}

void qat_iommu_log_refusal(const char *call, u64 phys, u64 iova, u64 size,
			   int err, const char *why, int why_length)
{
	pr_debug("%s(phys %#llx, iova %#llx, size %#llx): %.*s (%d)\n", call,
		 phys, iova, size, why_length, why, err);
}
