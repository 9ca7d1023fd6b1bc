/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the C files and the Rust half of qat_iommu offer each other. The Rust
 * side of these prototypes is remap/ffi.rs.
 */
#ifndef QAT_IOMMU_GLUE_H
#define QAT_IOMMU_GLUE_H

#include <linux/types.h>

struct iommu_domain;
struct iommu_iotlb_gather;
struct mm_struct;
struct page;
struct pci_dev;
struct seq_file;

/* params.c */
struct qat_iommu_params {
	const char *ids;
	const char *shared_fixed;
	const char *phys;
	const char *virt;
};

void qat_iommu_get_params(struct qat_iommu_params *params);

/* inlines.c: what the kernel offers only as macros and inline functions */
bool qat_iommu_hypervisor(void);
/* Page frames that follow each other. */
struct qat_iommu_frames {
	u64 first;
	u64 count;
};

/* What one call mapped, or tried to map. */
struct qat_iommu_mapped {
	u64 runs;
	u64 bytes;
};

u32 qat_iommu_phys_bits(void);
u64 qat_iommu_table_pages(void);
void qat_iommu_flush_domain(struct iommu_domain *domain);
void qat_iommu_gather_init(struct iommu_iotlb_gather *gather);
void qat_iommu_gather_sync(struct iommu_domain *domain,
			   struct iommu_iotlb_gather *gather);
bool qat_iommu_pause(void);
u64 qat_iommu_random(void);
void *qat_iommu_alloc(size_t size);
bool qat_iommu_signal_pending(void);
struct mm_struct *qat_iommu_charge(u64 pages);
void qat_iommu_uncharge(struct mm_struct *mm, u64 pages);
long qat_iommu_pin_rest(struct page *page, unsigned long va,
			unsigned long limit, bool write);
void qat_iommu_unpin(u64 pfn, u64 pages, bool dirty);
ssize_t qat_iommu_map_runs(struct iommu_domain *domain, unsigned long iova,
			   const struct qat_iommu_frames *runs,
			   unsigned long count, u64 is_long, int prot,
			   struct qat_iommu_mapped *mapped);
bool qat_iommu_read_words(u64 *to, const u64 __user *from, unsigned long words);
bool qat_iommu_read_three(u64 *to, const u64 __user *from);
bool qat_iommu_read_five(u64 *to, const u64 __user *from);
bool qat_iommu_write_word(u64 value, u64 __user *to);
size_t qat_iommu_unmap_now(struct iommu_domain *domain, unsigned long iova,
			   size_t size);
unsigned long qat_iommu_add_frames(struct page *const *pages,
				   unsigned long count,
				   struct qat_iommu_frames *last,
				   struct qat_iommu_frames *room,
				   unsigned long *runs);
u64 qat_iommu_page_pfn(struct page *page);
u64 qat_iommu_ram_end(void);
u64 qat_iommu_ram_bytes(u64 first, u64 last);
bool qat_iommu_is_ram_page(u64 pfn);
u32 qat_iommu_pci_segment(struct pci_dev *pdev);
bool qat_iommu_page_get(u64 pfn);
bool qat_iommu_ram_page_get(u64 pfn, bool *taken);
void qat_iommu_page_put(u64 pfn);
void qat_iommu_module_get(void);
void qat_iommu_module_put(void);
u64 qat_iommu_clock(void);
int qat_iommu_caller(char *comm);
void qat_iommu_log_refusal(const char *call, u64 phys, u64 iova, u64 size,
			   int err, const char *why, int why_length);

/* debugfs.c */
void qat_iommu_debugfs_create(void);
void qat_iommu_debugfs_remove(void);
void qat_iommu_write_symbol(struct seq_file *m, unsigned long address);

/* trace.c */
void qat_iommu_trace_map(u64 space, u64 context, u64 iova, u64 length,
			 u64 backing, bool user);
void qat_iommu_trace_unmap(u64 space, u64 context, u64 iova, u64 length,
			   u64 backing, bool user, const char *why);
void qat_iommu_trace_pin(u64 context, int pid, u64 va, u64 pages);
void qat_iommu_trace_unpin(u64 context, int pid, u64 va, u64 pages);
void qat_iommu_trace_attach(u32 segment, u8 bus, u8 device, u8 function,
			    u64 space, bool owned);
void qat_iommu_trace_detach(u32 segment, u8 bus, u8 device, u8 function,
			    u64 space, bool owned);

/* pf_driver.c */
int qat_iommu_pf_driver_register(void);
void qat_iommu_pf_driver_unregister(void);
int qat_iommu_pf_watch_start(void);
void qat_iommu_pf_watch_stop(void);

/*
 * Rust, remap/events.rs; all of them are called with the device lock held, but for
 * qat_iommu_pf_added(), which is told of every new device before it has a driver.
 */
void qat_iommu_pf_added(struct pci_dev *pdev);
int qat_iommu_pf_probe(struct pci_dev *pdev);
void qat_iommu_pf_remove(struct pci_dev *pdev);
void qat_iommu_pf_bound(struct pci_dev *pdev);
void qat_iommu_pf_unbinding(struct pci_dev *pdev);

/*
 * Rust, remap/exports.rs: the classic calls, with the address that they are called
 * from. Process context.
 */
size_t qat_iommu_kernel_remap_size(size_t size);
s32 qat_iommu_kernel_map(u64 phaddr, u64 iova, size_t size,
			 unsigned long caller);
s32 qat_iommu_kernel_unmap(u64 iova, size_t size, unsigned long caller);

/**
 * struct qat_iommu_place - Where in a listing a reader is
 * @number: Of a space, a context or an unmap; 0 at the beginning
 * @iova: In that space
 */
struct qat_iommu_place {
	u64 number;
	u64 iova;
};

/*
 * Rust, remap/watch.rs: each writes the first record at or after the place and
 * moves it behind that; false if there is none. May sleep.
 */
bool qat_iommu_list_spaces(struct seq_file *m, struct qat_iommu_place *place);
bool qat_iommu_list_contexts(struct seq_file *m, struct qat_iommu_place *place);
bool qat_iommu_list_mappings(struct seq_file *m, struct qat_iommu_place *place);
bool qat_iommu_list_history(struct seq_file *m, struct qat_iommu_place *place);

#endif
