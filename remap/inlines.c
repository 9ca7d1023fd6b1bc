// SPDX-License-Identifier: GPL-2.0
/*
 * Functions for the Rust half that the kernel offers only as macros or inline
 * functions, and a debug message under dynamic debug's control. No state.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/fault-inject-usercopy.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/ioport.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/random.h>
#include <linux/scatterlist.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/sched/clock.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/unroll.h>
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

u64 qat_iommu_random(void)
{
	return get_random_u64();
}

/* Memory that kfree() takes back, charged to the caller. May sleep. */
void *qat_iommu_alloc(size_t size)
{
	return kmalloc(size, GFP_KERNEL_ACCOUNT);
}

bool qat_iommu_signal_pending(void)
{
	return signal_pending(current);
}

/*
 * Charges pinned pages to the calling process, against its limit. What it has
 * locked otherwise counts as well. Returns whom to uncharge, with a reference, or
 * NULL beyond the limit.
 */
struct mm_struct *qat_iommu_charge(u64 pages)
{
	struct mm_struct *mm = current->mm;
	u64 limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	u64 locked, pinned;

	/* Kernel threads have no descriptors. */
	if (unlikely(!mm))
		return NULL;
	locked = READ_ONCE(mm->locked_vm);
	pinned = atomic64_add_return(pages, &mm->pinned_vm);
	if (pinned + locked > limit && !capable(CAP_IPC_LOCK)) {
		atomic64_sub(pages, &mm->pinned_vm);
		return NULL;
	}
	mmgrab(mm);
	return mm;
}

/* Takes a charge back, and gives back the reference. */
void qat_iommu_uncharge(struct mm_struct *mm, u64 pages)
{
	atomic64_sub(pages, &mm->pinned_vm);
	mmdrop(mm);
}

/* The pages from va on, in its page included, that one entry of the page table maps. */
static unsigned long mapped_at_once(struct page *page, unsigned long va,
				    bool write)
{
	unsigned long pages = 0, flags;
	pgd_t *pgdp, pgd;
	p4d_t *p4dp, p4d;
	pud_t *pudp, pud;
	pmd_t *pmdp, pmd;

	/* As the kernel's own fast walk: no table goes while interrupts are off. */
	local_irq_save(flags);
	pgdp = pgd_offset(current->mm, va);
	pgd = pgdp_get(pgdp);
	if (pgd_none(pgd) || unlikely(pgd_bad(pgd)))
		goto out;
	p4dp = p4d_offset_lockless(pgdp, pgd, va);
	p4d = p4dp_get(p4dp);
	if (!p4d_present(p4d) || unlikely(p4d_bad(p4d)))
		goto out;
	pudp = pud_offset_lockless(p4dp, p4d, va);
	pud = pudp_get(pudp);
	if (!pud_present(pud))
		goto out;
	if (pud_leaf(pud)) {
		unsigned long at = (va & ~PUD_MASK) >> PAGE_SHIFT;

		if ((!write || pud_write(pud)) && pud_page(pud) + at == page)
			pages = PTRS_PER_PMD * PTRS_PER_PTE - at;
		goto out;
	}
	pmdp = pmd_offset_lockless(pudp, pud, va);
	pmd = pmdp_get_lockless(pmdp);
	if (pmd_present(pmd) && pmd_leaf(pmd)) {
		unsigned long at = (va & ~PMD_MASK) >> PAGE_SHIFT;

		if ((!write || pmd_write(pmd)) && pmd_page(pmd) + at == page)
			pages = PTRS_PER_PTE - at;
	}
out:
	local_irq_restore(flags);
	return pages;
}

/*
 * The caller has a pin on the page that is mapped at va. Takes one on each page
 * that comes after it, limit of them at most, as far as one entry of the caller's
 * page table maps them together: they are of the same folio then, and there in the
 * order of their addresses. Returns how many these are, or an error if the folio
 * has so many references already that their number could run over.
 *
 * What the first pin has checked holds for all: the zone and the file belong to
 * the folio; whether the page may be written is the entry's, and whether it is the
 * process's alone is kept with the page at the entry's beginning. From then on the
 * folio counts as pinned, so a fork copies its pages and nothing splits or moves
 * it.
 */
long qat_iommu_pin_rest(struct page *page, unsigned long va,
			unsigned long limit, bool write)
{
	struct folio *folio = page_folio(page);
	unsigned long pages, in_folio;

	if (!folio_test_large(folio) || !folio_has_pincount(folio))
		return 0;
	in_folio = folio_nr_pages(folio) - folio_page_idx(folio, page);
	pages = min(mapped_at_once(page, va, write), in_folio);
	if (pages < 2)
		return 0;
	/* As much again is left for callers who come at the same time. */
	if (folio_ref_count(folio) > INT_MAX / 2)
		return -ENOMEM;
	pages = min(pages - 1, limit);
	/* What pinning each of them does to a large folio. */
	folio_ref_add(folio, pages);
	atomic_add(pages, &folio->_pincount);
	mod_node_page_state(folio_pgdat(folio), NR_FOLL_PIN_ACQUIRED, pages);
	return pages;
}

/* Gives back pins on pages that follow each other. */
void qat_iommu_unpin(u64 pfn, u64 pages, bool dirty)
{
	struct page *page = pfn_to_page(pfn);
	struct folio *folio = page_folio(page);

	/* The same for one page that is dirty already, or need not be. */
	if (pages == 1 && (!dirty || folio_test_dirty(folio)))
		unpin_folio(folio);
	else
		unpin_user_page_range_dirty_lock(page, pages, dirty);
}

/* How many runs are mapped with one call; their list is on the stack. */
#define RUNS_AT_ONCE 32

/* Not cleared by the compiler first: what is used of it is written as a whole. */
#if __has_attribute(__uninitialized__)
#define SCRATCH __attribute__((__uninitialized__))
#else
#define SCRATCH
#endif

/*
 * Maps the first runs of RAM of these at consecutive addresses, or nothing: those
 * before one of as many pages as is long, at least one. Says how many runs and
 * bytes these are. May return fewer bytes than that, or an error after which nothing
 * of it is mapped.
 */
ssize_t qat_iommu_map_runs(struct iommu_domain *domain, unsigned long iova,
			   const struct qat_iommu_frames *runs,
			   unsigned long count, u64 is_long, int prot,
			   struct qat_iommu_mapped *mapped)
{
	struct scatterlist list[RUNS_AT_ONCE] SCRATCH;
	unsigned long i, bytes = 0;

	for (i = 0; i < min(count, RUNS_AT_ONCE); i++) {
		struct scatterlist run = {};

		if (runs[i].count >= is_long)
			break;
		sg_set_page(&run, pfn_to_page(runs[i].first),
			    runs[i].count << PAGE_SHIFT, 0);
		bytes += run.length;
		list[i] = run;
	}
	if (!i)
		return -EINVAL;
	sg_mark_end(&list[i - 1]);
	mapped->runs = i;
	mapped->bytes = bytes;
	return iommu_map_sg(domain, iova, list, i, prot, GFP_KERNEL_ACCOUNT);
}

static __always_inline bool read_words(u64 *to, const u64 __user *from,
				       unsigned long words)
{
	unsigned long i;

	if (should_fail_usercopy())
		return false;
	if (!user_read_access_begin(from, words * sizeof(*from)))
		return false;
	unrolled_count(5)
	for (i = 0; i < words; i++)
		unsafe_get_user(to[i], from + i, fault);
	user_read_access_end();
	return true;
fault:
	user_read_access_end();
	return false;
}

/* Copies 64-bit words from user space, each once. */
bool qat_iommu_read_words(u64 *to, const u64 __user *from, unsigned long words)
{
	return read_words(to, from, words);
}

/* The same for the structures of an unmap and of a map: no loop. */
bool qat_iommu_read_three(u64 *to, const u64 __user *from)
{
	return read_words(to, from, 3);
}

bool qat_iommu_read_five(u64 *to, const u64 __user *from)
{
	return read_words(to, from, 5);
}

bool qat_iommu_write_word(u64 value, u64 __user *to)
{
	return !should_fail_usercopy() && put_user(value, to) == 0;
}

/* Unmaps a range and flushes the IOTLB; returns how many bytes were removed. */
size_t qat_iommu_unmap_now(struct iommu_domain *domain, unsigned long iova,
			   size_t size)
{
	struct iommu_iotlb_gather gather;
	size_t removed;

	iommu_iotlb_gather_init(&gather);
	removed = iommu_unmap_fast(domain, iova, size, &gather);
	iommu_iotlb_sync(domain, &gather);
	return removed;
}

/*
 * Adds the frames of pages to the run that is being made; what does not follow it
 * begins the next one, and the run before goes into room, for so many of which there
 * is room. Says how many did; returns how many pages were added until room was full.
 */
unsigned long qat_iommu_add_frames(struct page *const *pages,
				   unsigned long count,
				   struct qat_iommu_frames *last,
				   struct qat_iommu_frames *room,
				   unsigned long *runs)
{
	struct qat_iommu_frames run = *last, *at = room, *end = room + *runs;
	unsigned long i;

	for (i = 0; i < count; i++) {
		u64 pfn = page_to_pfn(pages[i]);

		if (pfn != run.first + run.count) {
			if (run.count) {
				if (at == end)
					break;
				*at++ = run;
			}
			run.first = pfn;
			run.count = 0;
		}
		run.count++;
	}
	*last = run;
	*runs = at - room;
	return i;
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

static int add_size(struct resource *ram, void *sum)
{
	*(u64 *)sum += resource_size(ram);
	return 0;
}

/*
 * How many bytes of a physical range are RAM. (region_intersects() takes no note
 * of what no resource is made of.)
 */
u64 qat_iommu_ram_bytes(u64 first, u64 last)
{
	u64 sum = 0;

	walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_SYSTEM_RAM, first, last,
			    &sum, add_size);
	return sum;
}

/*
 * The page with this number if it is RAM for certain, without a look at the
 * resources. What is online is a page of a memory block that the kernel uses, never
 * one of a device. Of these all are reserved that were not given to the page
 * allocator: so are the holes in a memory block, whatever lies there. What was given
 * to it is in a resource of System RAM.
 */
static struct page *ram_page(u64 pfn)
{
	struct page *page = pfn_to_online_page(pfn);

	return page && !PageReserved(page) ? page : NULL;
}

bool qat_iommu_is_ram_page(u64 pfn)
{
	return ram_page(pfn);
}

u32 qat_iommu_pci_segment(struct pci_dev *pdev)
{
	return pci_domain_nr(pdev->bus);
}

/* Takes a reference on an online page, unless it is free or frozen. */
static bool try_get(struct page *page)
{
	struct folio *folio;

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

/*
 * Takes a reference on a page of RAM, unless it is free, frozen (as the slab
 * allocator's pages are) or offline.
 */
bool qat_iommu_page_get(u64 pfn)
{
	struct page *page = pfn_to_online_page(pfn);

	return page && try_get(page);
}

/*
 * Takes a reference like that if the page is RAM for certain; says whether it is.
 */
bool qat_iommu_ram_page_get(u64 pfn, bool *taken)
{
	struct page *page = ram_page(pfn);

	*taken = page && try_get(page);
	return page;
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
u64 qat_iommu_clock(void)
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
