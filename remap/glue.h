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
u32 qat_iommu_phys_bits(void);
u64 qat_iommu_table_pages(void);
void qat_iommu_flush_domain(struct iommu_domain *domain);
void qat_iommu_gather_init(struct iommu_iotlb_gather *gather);
void qat_iommu_gather_sync(struct iommu_domain *domain,
			   struct iommu_iotlb_gather *gather);
bool qat_iommu_pause(void);
bool qat_iommu_signal_pending(void);
int qat_iommu_charge(struct mm_struct *mm, u64 pages);
void qat_iommu_uncharge(struct mm_struct *mm, u64 pages);
u64 qat_iommu_page_pfn(struct page *page);
u64 qat_iommu_ram_end(void);
u32 qat_iommu_pci_segment(struct pci_dev *pdev);
bool qat_iommu_page_get(u64 pfn);
void qat_iommu_page_put(u64 pfn);
void qat_iommu_module_get(void);
void qat_iommu_module_put(void);
void qat_iommu_log_refusal(const char *call, u64 phys, u64 iova, u64 size,
			   int err, const char *why, int why_length);

/* pf_driver.c */
int qat_iommu_pf_driver_register(void);
void qat_iommu_pf_driver_unregister(void);
int qat_iommu_pf_watch_start(void);
void qat_iommu_pf_watch_stop(void);

/* Rust, remap/events.rs; all of them are called with the device lock held. */
int qat_iommu_pf_probe(struct pci_dev *pdev);
void qat_iommu_pf_remove(struct pci_dev *pdev);
void qat_iommu_pf_bound(struct pci_dev *pdev);
void qat_iommu_pf_unbinding(struct pci_dev *pdev);

#endif
