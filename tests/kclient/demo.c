// SPDX-License-Identifier: GPL-2.0
/*
 * The documented way to give a QAT PF some memory, in seven steps, as a kernel
 * client writes it. What the PF then does with the memory is done here by the
 * DMA engine of the emulated PF.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include <asm/cpufeature.h>

#include "icp_sal_iommu.h"
#include "kclient.h"
#include "qat_pf.h"

#define DEMO_BYTES	6000
#define DEMO_PATTERN	0x5aa55aa5c33cc33cULL

/**
 * struct demo - The PF and the memory of one run
 * @pdev: The PF; NULL in a virtual machine that has none
 * @bar: Its BAR0
 * @buf: The memory
 * @iova: Where the PF sees it; the same as its physical address
 * @size: Bytes of it; the PF reads the first half and writes the second
 */
struct demo {
	struct pci_dev *pdev;
	void __iomem *bar;
	u8 *buf;
	u64 iova;
	size_t size;
};

/* The first PF that answers and may do DMA, whichever driver holds it. */
static struct pci_dev *demo_find_pf(void)
{
	const u16 wanted = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	struct pci_dev *pdev = NULL;
	u16 command;

	while ((pdev = pci_get_device(QAT_PF_VENDOR, QAT_PF_DEVICE, pdev))) {
		pci_read_config_word(pdev, PCI_COMMAND, &command);
		if ((command & wanted) == wanted)
			return pdev;
	}
	return NULL;
}

/* Whether an IOMMU stands between this PF and memory. */
static bool demo_translated(struct pci_dev *pdev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(&pdev->dev);

	return domain && (domain->type & __IOMMU_DOMAIN_PAGING);
}

/*
 * In a virtual machine the calls do nothing, unless qat_iommu was told to act as
 * on a host and so keeps the PF in a domain of its own.
 */
static bool demo_in_vm(struct pci_dev *pdev)
{
	struct iommu_domain *domain;

	if (!boot_cpu_has(X86_FEATURE_HYPERVISOR))
		return false;
	domain = pdev ? iommu_get_domain_for_dev(&pdev->dev) : NULL;
	return !domain || domain->type != IOMMU_DOMAIN_UNMANAGED;
}

/* Run one command of the PF, which must succeed. */
static int demo_run(struct demo *demo, const char *what, u64 cmd, u64 src,
		    u64 dst)
{
	u64 status;
	int ret;

	ret = qat_pf_run(demo->bar, cmd, src, dst, demo->size / 2, &status);
	if (ret) {
		pr_err("demo: failed: the PF did not finish to %s\n", what);
		return ret;
	}
	if (status != QAT_PF_STATUS_DONE) {
		pr_err("demo: failed: the PF could not %s: status %llu at IOVA %#llx\n",
		       what, status, readq(demo->bar + QAT_PF_REG_FAULT));
		return -EFAULT;
	}
	return 0;
}

/* The PF reads the memory and writes it, and both sides see the same. */
static int demo_use(struct demo *demo)
{
	const size_t half = demo->size / 2;
	u8 *second = demo->buf + half;
	const u64 pattern = DEMO_PATTERN;
	u64 sum;
	size_t i;
	int ret;

	for (i = 0; i < half; i++) {
		demo->buf[i] = i * 7 + (i >> 8);
		second[i] = ~demo->buf[i];
	}

	ret = demo_run(demo, "read the memory", QAT_PF_CMD_SUM, demo->iova, 0);
	if (ret)
		return ret;
	sum = readq(demo->bar + QAT_PF_REG_SUM);
	if (sum != qat_pf_sum(demo->buf, half)) {
		pr_err("demo: failed: the PF read something else: checksum %#llx instead of %#llx\n",
		       sum, qat_pf_sum(demo->buf, half));
		return -EIO;
	}
	pr_info("demo: 5. PF %s read %zu bytes at IOVA %#llx: checksum %#llx, as computed here\n",
		pci_name(demo->pdev), half, demo->iova, sum);

	ret = demo_run(demo, "copy the memory", QAT_PF_CMD_COPY, demo->iova,
		       demo->iova + half);
	if (ret)
		return ret;
	if (memcmp(demo->buf, second, half)) {
		pr_err("demo: failed: the copy differs\n");
		return -EIO;
	}
	pr_info("demo:    it copied them to IOVA %#llx: the same bytes arrived\n",
		demo->iova + half);

	writeq(pattern, demo->bar + QAT_PF_REG_FILL);
	ret = demo_run(demo, "fill the memory", QAT_PF_CMD_FILL, 0, demo->iova);
	if (ret)
		return ret;
	for (i = 0; i < half; i += sizeof(pattern)) {
		if (!memcmp(demo->buf + i, &pattern, sizeof(pattern)))
			continue;
		pr_err("demo: failed: byte %zu was not filled\n", i);
		return -EIO;
	}
	pr_info("demo:    it filled IOVA %#llx with %#llx: seen here as well\n",
		demo->iova, pattern);
	return 0;
}

/* After the unmap: the PF must not reach the memory, and says so itself. */
static int demo_refused(struct demo *demo)
{
	const size_t half = demo->size / 2;
	u64 before = qat_pf_sum(demo->buf, demo->size);
	u64 status;
	u64 fault;
	int ret;

	ret = qat_pf_run(demo->bar, QAT_PF_CMD_SUM, demo->iova, 0, half,
			 &status);
	if (ret)
		return ret;
	fault = readq(demo->bar + QAT_PF_REG_FAULT);
	if (status != QAT_PF_STATUS_SRC_FAULT || fault != demo->iova) {
		pr_err("demo: failed: the PF still reads: status %llu, fault at %#llx\n",
		       status, fault);
		return -EIO;
	}
	pr_info("demo:    the PF tried to read IOVA %#llx: refused (status %llu, fault at IOVA %#llx)\n",
		demo->iova, status, fault);

	writeq(~DEMO_PATTERN, demo->bar + QAT_PF_REG_FILL);
	ret = qat_pf_run(demo->bar, QAT_PF_CMD_FILL, 0, demo->iova, half,
			 &status);
	if (ret)
		return ret;
	fault = readq(demo->bar + QAT_PF_REG_FAULT);
	if (status != QAT_PF_STATUS_DST_FAULT || fault != demo->iova ||
	    qat_pf_sum(demo->buf, demo->size) != before) {
		pr_err("demo: failed: the PF still writes: status %llu, fault at %#llx\n",
		       status, fault);
		return -EIO;
	}
	pr_info("demo:    the PF tried to write it: refused (status %llu, fault at IOVA %#llx), the memory is unchanged\n",
		status, fault);
	return 0;
}

/* Steps 1 to 7. */
static int demo_steps(struct demo *demo, bool in_vm)
{
	u64 phys;
	int used = 0;
	int ret = 0;

	demo->size = icp_sal_iommu_get_remap_size(DEMO_BYTES);
	if (!demo->size) {
		pr_err("demo: failed: there is no remap size for %d bytes\n",
		       DEMO_BYTES);
		return -EINVAL;
	}
	pr_info("demo: 1. icp_sal_iommu_get_remap_size: a mapping of %d bytes covers %zu\n",
		DEMO_BYTES, demo->size);

	/* A whole number of pages: the memory begins on one. */
	demo->buf = kmalloc(demo->size, GFP_KERNEL);
	if (!demo->buf)
		return -ENOMEM;
	pr_info("demo: 2. kmalloc: %zu bytes\n", demo->size);

	phys = virt_to_phys(demo->buf);
	demo->iova = phys;
	pr_info("demo: 3. virt_to_phys: they are at physical address %#llx\n",
		phys);

	if (icp_sal_iommu_map(phys, demo->iova, demo->size) !=
	    KCLIENT_SUCCESS) {
		pr_err("demo: failed: icp_sal_iommu_map refused IOVA %#llx (reason: qat_iommu's debug messages)\n",
		       demo->iova);
		ret = -EIO;
		goto free;
	}
	pr_info("demo: 4. icp_sal_iommu_map: IOVA %#llx to %#llx, 1:1: success\n",
		demo->iova, demo->iova + demo->size - 1);

	if (in_vm)
		pr_info("demo: 5. (this is a virtual machine: the calls do nothing here, the PF is not used)\n");
	else
		used = demo_use(demo);

	if (icp_sal_iommu_unmap(demo->iova, demo->size) != KCLIENT_SUCCESS) {
		/* The PF may still reach the memory, so it is not freed. */
		pr_err("demo: failed: icp_sal_iommu_unmap refused IOVA %#llx\n",
		       demo->iova);
		return -EIO;
	}
	pr_info("demo: 6. icp_sal_iommu_unmap: success\n");
	if (!in_vm && !used) {
		if (demo_translated(demo->pdev))
			ret = demo_refused(demo);
		else
			pr_info("demo:    (no IOMMU translates for this PF, so nothing stops it from here on)\n");
	}

free:
	kfree(demo->buf);
	pr_info("demo: 7. kfree\n");
	return ret ?: used;
}

static int demo_map_bar(struct demo *demo)
{
	demo->bar = pci_iomap(demo->pdev, 0, 0);
	if (!demo->bar)
		return -ENOMEM;
	if (qat_pf_has_engine(demo->bar))
		return 0;
	pr_err("demo: PF %s is not the emulated one, which this demonstration needs\n",
	       pci_name(demo->pdev));
	pci_iounmap(demo->pdev, demo->bar);
	return -ENODEV;
}

/* Returns 0 if all went as it should; the log says what happened. */
int kclient_demo(void)
{
	struct demo demo = { .pdev = demo_find_pf() };
	bool in_vm = demo_in_vm(demo.pdev);
	int ret;

	if (!in_vm) {
		ret = -ENODEV;
		if (!demo.pdev)
			pr_err("demo: no PF %04x:%04x that may do DMA: bind one to a driver first\n",
			       QAT_PF_VENDOR, QAT_PF_DEVICE);
		else
			ret = demo_map_bar(&demo);
		if (ret)
			goto put;
	}
	ret = demo_steps(&demo, in_vm);
	if (!ret)
		pr_info("demo: ok\n");
	if (demo.bar)
		pci_iounmap(demo.pdev, demo.bar);
put:
	pci_dev_put(demo.pdev);
	return ret;
}
