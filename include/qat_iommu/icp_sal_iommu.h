/* SPDX-License-Identifier: GPL-2.0 OR LGPL-2.1-or-later OR BSD-3-Clause */
/*
 * The three classic calls: which memory the QuickAssist (QAT) Physical Functions
 * (PFs) of this host may reach by DMA.
 *
 * The same functions exist for programs (libqat_iommu) and for kernel modules
 * (exported by qat_iommu.ko). Kernel modules are GPL-2.0; programs may choose
 * either of the other licences.
 */
#ifndef ICP_SAL_IOMMU_H
#define ICP_SAL_IOMMU_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stddef.h>
#include <stdint.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/**
 * DOC: Using a buffer on a PF
 *
 * With an IOMMU on, a PF reaches only memory that has been mapped for it; any
 * other access is refused and logged as a DMA fault. To use a buffer:
 *
 *  1. Get the size that a mapping of it covers.
 *  2. Allocate that much, page aligned. Plain malloc() is not page aligned, and
 *     the map refuses its buffers (EINVAL).
 *  3. Get the physical address. The buffer must be physically contiguous, and
 *     stay where it is (in a program: a locked huge page, for instance).
 *  4. Map it, IOVA equal to physical address (1:1).
 *  5. Use it: hand the IOVA to the device.
 *  6. Unmap it, before it is freed.
 *  7. Free it.
 *
 * In a kernel module::
 *
 *	size_t size = icp_sal_iommu_get_remap_size(data_size);
 *	void *buff = (void *)__get_free_pages(GFP_KERNEL, get_order(size));
 *	uint64_t phys = virt_to_phys(buff);
 *
 *	if (icp_sal_iommu_map(phys, phys, size) != 0)
 *		goto fail;
 *	... the device reads and writes the buffer at phys ...
 *	icp_sal_iommu_unmap(phys, size);
 *	free_pages((unsigned long)buff, get_order(size));
 *
 * In a program the steps are the same, with ``aligned_alloc(4096, size)``, or a
 * huge page from ``mmap()`` for more than one page, and the physical address from
 * /proc/self/pagemap.
 */

/**
 * DOC: Context
 *
 * All three functions may sleep: call them from process context, with no spinlock
 * held. They may be called from any number of threads at once.
 *
 * A mapping holds for every PF of the host that this module serves, and reaches
 * every such PF or none. It belongs to the process that made it, and goes when
 * the process ends; one made by a kernel module lasts until it is unmapped. After
 * fork() the child's calls neither use nor remove the parent's mappings.
 */

/**
 * DOC: Results
 *
 * The results are those of Intel's cpa.h, whose types need not be there:
 * CPA_STATUS_SUCCESS is 0, CPA_STATUS_FAIL is -1. A call that fails has changed
 * nothing. In a program errno says why (it is left alone by success), and the
 * environment variable QAT_IOMMU_DEBUG=1 has each reason printed to stderr in one
 * line; in the kernel the log says why at debug level.
 *
 * Programs need access to /dev/qat_iommu, and CAP_SYS_RAWIO to map. Where several
 * PFs are bound to their own drivers, the environment variable QAT_IOMMU_PF names
 * the one (domain:bus:device.function, as 0000:6b:00.0) whose page size is the
 * unit of mapping; map and unmap are for all of them.
 */

/**
 * DOC: In a virtual machine
 *
 * There the functions do nothing: map and unmap succeed, whatever their arguments,
 * and the remap size is the size rounded up to pages. That holds for programs
 * whether or not the module is loaded; where it is, the program must be able to
 * open its device node, for the module may have been told that this is a host.
 */

/**
 * icp_sal_iommu_get_remap_size() - What a mapping of some size really covers
 * @size: Bytes, from 1 up.
 *
 * Round up to the unit of mapping: the smallest page of the IOMMU, and no less
 * than the kernel's page. A size that is a multiple of it stays as it is.
 *
 * Keep the result in a size_t: an int is too small from 2 GiB up.
 *
 * Context: Process context, may sleep, thread-safe.
 *
 * Return: The size in bytes, or 0 if @size is 0 (errno EINVAL in a program) or
 * cannot be rounded up without overflow (EOVERFLOW).
 */
size_t icp_sal_iommu_get_remap_size(size_t size);

/**
 * icp_sal_iommu_map() - Let the PFs reach a physical range
 * @phaddr: Physical address in bytes, a multiple of the page size.
 * @iova: Address by which the device will use it, a multiple of the page size.
 *	Where the PFs are not translated (no IOMMU, or iommu=pt) only @phaddr
 *	itself can be honoured.
 * @size: Bytes, from 1 up; rounded up as icp_sal_iommu_get_remap_size() does.
 *
 * Add the range, for reading and writing, to what every PF of the host may reach.
 * No page of it may be mapped already.
 *
 * errno in a program is one of
 *
 *  - EACCES: @phaddr is not memory that programs may map (by default only system
 *    RAM; module parameter phys=), or this user may not open /dev/qat_iommu.
 *  - EADDRINUSE: the kernel's DMA API uses that IOVA of a PF that is bound to its
 *    own driver.
 *  - EADDRNOTAVAIL: the IOVA cannot be honoured. It is reserved (the MSI window,
 *    for one), or kept from a PF that is bound to its own driver (by default
 *    below 4 GiB; module parameter shared_fixed=), or differs from @phaddr where
 *    nothing is translated.
 *  - EEXIST: a mapping touches the range, by a page or more.
 *  - EINVAL: an address is not page aligned, or @size is 0.
 *  - ENODEV: no usable PF, or the module is not loaded.
 *  - ENOMEM: no memory for the mapping.
 *  - EOPNOTSUPP: the IOMMU cannot do it for a PF bound to its own driver
 *    (virtio-iommu).
 *  - EOVERFLOW: the range wraps at 2^64.
 *  - EPERM: CAP_SYS_RAWIO is missing, or the kernel is locked down.
 *  - ERANGE: the range ends beyond the IOVAs that the PFs have, or beyond the
 *    processor's physical addresses.
 *
 * Context: Process context, may sleep, thread-safe.
 *
 * Return: 0 (CPA_STATUS_SUCCESS), or -1 (CPA_STATUS_FAIL) with nothing changed.
 */
int32_t icp_sal_iommu_map(uint64_t phaddr, uint64_t iova, size_t size);

/**
 * icp_sal_iommu_unmap() - Take a range back from the PFs
 * @iova: The IOVA that was given to the map.
 * @size: The size that was given to the map, or its remap size.
 *
 * Remove exactly one mapping that this process (or kernel code) made. When this
 * returns no PF reaches the memory any more. The memory itself is not looked at;
 * but to free it earlier is to let the device write to whoever gets it next.
 *
 * errno in a program is one of
 *
 *  - EINVAL: @iova is not page aligned, or @size is 0.
 *  - EIO: the IOMMU did not remove what it should. Do not use the memory again.
 *  - ENODEV: no usable PF, and nothing mapped there; or the module is not loaded.
 *  - ENOENT: no mapping of this process has exactly that range. Part of one,
 *    several, and another process's are refused.
 *  - EOVERFLOW: the range wraps at 2^64.
 *
 * Context: Process context, may sleep, thread-safe.
 *
 * Return: 0 (CPA_STATUS_SUCCESS), or -1 (CPA_STATUS_FAIL) with nothing changed.
 */
int32_t icp_sal_iommu_unmap(uint64_t iova, size_t size);

#ifdef __cplusplus
}
#endif

#endif
