// SPDX-License-Identifier: GPL-2.0
/*
 * The PCI driver that owns PFs, and the watch over PFs that their own driver
 * holds. In C because the Rust abstraction of PCI drivers has neither
 * driver_managed_dma nor a hook for SR-IOV, suspend and shutdown. With
 * driver_managed_dma the PF's group is blocked, not passed through or handed to
 * the DMA API, whenever our domain is not attached to it.
 *
 * A reset through sysfs needs no hook: the PCI core saves and restores what was
 * set up here, and the domain stays attached meanwhile.
 *
 * Everything that is decided is decided in remap/host.rs, by way of
 * remap/events.rs.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/device.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/pm.h>

#include "glue.h"

/* Matches nothing: a PF comes here by driver_override only. */
static const struct pci_device_id qat_iommu_no_ids[] = {
	{ }
};

static int probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return qat_iommu_pf_probe(pdev);
}

/*
 * The IOMMU drivers stop translating late in a suspend, and when the machine is
 * shut down: a PF that still did DMA would reach raw physical memory then. What
 * is mapped stays so, in the domain as in the records.
 */
static int suspend(struct device *dev)
{
	pci_clear_master(to_pci_dev(dev));
	return 0;
}

static int resume(struct device *dev)
{
	pci_set_master(to_pci_dev(dev));
	return 0;
}

static DEFINE_SIMPLE_DEV_PM_OPS(qat_iommu_pf_pm_ops, suspend, resume);

static void shutdown(struct pci_dev *pdev)
{
	pci_clear_master(pdev);
}

static struct pci_driver qat_iommu_pf_driver = {
	.name = KBUILD_MODNAME,
	.id_table = qat_iommu_no_ids,
	.probe = probe,
	.remove = qat_iommu_pf_remove,
	.shutdown = shutdown,
	/* VFs are devices, and groups, of their own: never PFs of this module. */
	.sriov_configure = pci_sriov_configure_simple,
	.driver.pm = pm_sleep_ptr(&qat_iommu_pf_pm_ops),
	.driver_managed_dma = true,
};

int qat_iommu_pf_driver_register(void)
{
	return pci_register_driver(&qat_iommu_pf_driver);
}

void qat_iommu_pf_driver_unregister(void)
{
	pci_unregister_driver(&qat_iommu_pf_driver);
}

/*
 * A driver that manages DMA itself (vfio-pci, pci-stub) does not leave the
 * device in its default domain.
 */
static bool uses_dma_api(const struct pci_dev *pdev)
{
	return pdev->driver && !pdev->driver->driver_managed_dma;
}

static int bus_event(struct notifier_block *nb, unsigned long event, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);

	if (event == BUS_NOTIFY_ADD_DEVICE)
		qat_iommu_pf_added(pdev);
	else if (event == BUS_NOTIFY_BOUND_DRIVER && uses_dma_api(pdev))
		qat_iommu_pf_bound(pdev);
	else if (event == BUS_NOTIFY_UNBIND_DRIVER && uses_dma_api(pdev))
		qat_iommu_pf_unbinding(pdev);
	return NOTIFY_DONE;
}

static struct notifier_block watch = {
	.notifier_call = bus_event,
};

/* PFs bound before the watch began are reported by this function itself. */
int qat_iommu_pf_watch_start(void)
{
	struct pci_dev *pdev = NULL;
	int ret;

	ret = bus_register_notifier(&pci_bus_type, &watch);
	if (ret)
		return ret;

	for_each_pci_dev(pdev) {
		device_lock(&pdev->dev);
		/* The driver is set before probe, so ask the driver core. */
		if (device_is_bound(&pdev->dev) && uses_dma_api(pdev))
			qat_iommu_pf_bound(pdev);
		device_unlock(&pdev->dev);
	}
	return 0;
}

void qat_iommu_pf_watch_stop(void)
{
	bus_unregister_notifier(&pci_bus_type, &watch);
}
