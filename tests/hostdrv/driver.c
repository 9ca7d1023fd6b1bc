// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI driver that stands in for a PF's own: it holds the emulated PF, or QEMU's
 * edu device, and uses the DMA API for it. This file binds and unbinds.
 *
 * BAR0 is mapped but never requested: a kernel with IO_STRICT_DEVMEM would keep
 * user space from mapping a region that a driver has requested.
 */
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/pci.h>

#include "hostdrv.h"
#include "qat_pf.h"

#define HOSTDRV_DMA_BITS	48

static struct dentry *hostdrv_root;

static int hostdrv_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct hostdrv *host;
	int ret;

	host = devm_kzalloc(&pdev->dev, sizeof(*host), GFP_KERNEL);
	if (!host)
		return -ENOMEM;
	host->dev = &pdev->dev;
	host->engine = (const struct engine *)id->driver_data;

	ret = pci_enable_device(pdev);
	if (ret)
		return ret;
	ret = dma_set_mask_and_coherent(&pdev->dev,
					DMA_BIT_MASK(HOSTDRV_DMA_BITS));
	if (ret)
		goto disable;
	host->bar = pci_iomap(pdev, 0, 0);
	if (!host->bar) {
		ret = -ENOMEM;
		goto disable;
	}
	if (host->engine == &engine_pf && !qat_pf_has_engine(host->bar)) {
		pci_err(pdev, "not the emulated PF: left alone\n");
		ret = -ENODEV;
		goto unmap;
	}
	host->scratch = dma_alloc_coherent(&pdev->dev, PAGE_SIZE,
					   &host->scratch_dma, GFP_KERNEL);
	if (!host->scratch) {
		ret = -ENOMEM;
		goto unmap;
	}
	pci_set_master(pdev);
	pci_set_drvdata(pdev, host);
	mutex_init(&host->engine_lock);
	hostdrv_commands_create(host, hostdrv_root);
	return 0;

unmap:
	pci_iounmap(pdev, host->bar);
disable:
	pci_disable_device(pdev);
	return ret;
}

static void hostdrv_remove(struct pci_dev *pdev)
{
	struct hostdrv *host = pci_get_drvdata(pdev);

	pci_disable_sriov(pdev);
	hostdrv_commands_remove(host);
	pci_clear_master(pdev);
	/* What is still on its way must not land in memory that others get. */
	pci_wait_for_pending_transaction(pdev);
	dma_free_coherent(&pdev->dev, PAGE_SIZE, host->scratch,
			  host->scratch_dma);
	pci_iounmap(pdev, host->bar);
	pci_disable_device(pdev);
}

static const struct pci_device_id hostdrv_ids[] = {
	{
		PCI_DEVICE(QAT_PF_VENDOR, QAT_PF_DEVICE),
		.driver_data = (kernel_ulong_t)&engine_pf,
	},
	{
		PCI_DEVICE(QAT_PF_VENDOR, QAT_PF_DEVICE_401XX),
		.driver_data = (kernel_ulong_t)&engine_pf,
	},
	{
		PCI_DEVICE(0x1234, 0x11e8),
		.driver_data = (kernel_ulong_t)&engine_edu,
	},
	{ }
};
MODULE_DEVICE_TABLE(pci, hostdrv_ids);

static struct pci_driver hostdrv_driver = {
	.name = "qat_hostdrv",
	.id_table = hostdrv_ids,
	.probe = hostdrv_probe,
	.remove = hostdrv_remove,
	.sriov_configure = pci_sriov_configure_simple,
};

static int __init hostdrv_init(void)
{
	int ret;

	hostdrv_root = debugfs_create_dir("qat_hostdrv", NULL);
	ret = pci_register_driver(&hostdrv_driver);
	if (ret)
		debugfs_remove(hostdrv_root);
	return ret;
}
module_init(hostdrv_init);

static void __exit hostdrv_exit(void)
{
	pci_unregister_driver(&hostdrv_driver);
	debugfs_remove(hostdrv_root);
}
module_exit(hostdrv_exit);

MODULE_DESCRIPTION("Test driver for the emulated QAT PF and for edu, on the DMA API");
MODULE_AUTHOR("The qat-iommu developers");
MODULE_LICENSE("GPL");
