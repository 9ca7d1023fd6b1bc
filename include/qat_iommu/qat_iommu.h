/* SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause */
/*
 * Zero-copy: let the QuickAssist (QAT) devices of this host work on a program's own
 * buffers. The native calls of libqat_iommu, and those with which Intel's libusdm
 * does the same (declared as there; qae_mem.h may be included as well).
 */
#ifndef QAT_IOMMU_H
#define QAT_IOMMU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * DOC: Using a buffer
 *
 * ::
 *
 *	uint64_t iova;
 *
 *	if (qat_iommu_map_user(buf, size, QAT_IOMMU_READ | QAT_IOMMU_WRITE, 0, &iova))
 *		err(1, "map");
 *	... the device reads and writes the buffer at iova ...
 *	if (qat_iommu_unmap_user(buf, size))
 *		err(1, "unmap");
 *	free(buf);
 *
 * The pages are pinned: the device keeps seeing the same ones whatever becomes of the
 * address range, until the buffer is unmapped or the process ends. Unmap before you
 * free: the memory that comes back to the address later is not what the device sees.
 *
 * The device reaches the whole pages that a buffer lies in. An IOVA is good for the
 * PFs of this process's space only: those bound to the module's driver, or else the
 * one PF bound to its own (QAT_IOMMU_PF=domain:bus:device.function chooses among
 * several).
 */

/**
 * DOC: Results
 *
 * A call that fails has changed nothing. errno says why; success leaves it alone. With
 * the environment variable QAT_IOMMU_DEBUG=1 each reason is printed to stderr in one
 * line. Maps can fail with
 *
 *  - E2BIG: more than 2 GiB in the USDM-compatible call, or more than 65,536 buffers
 *    in a batch.
 *  - EACCES: this user may not open /dev/qat_iommu.
 *  - EADDRINUSE, EADDRNOTAVAIL, EEXIST, ERANGE: a fixed IOVA is in use by the kernel's
 *    DMA API, reserved, mapped already, or beyond what the PFs have. EEXIST in the
 *    USDM-compatible call: part of the buffer is mapped already.
 *  - EFAULT: part of the buffer is not mapped, not accessible (writable, where the
 *    device may write), a device's, or of a file that is mapped writable.
 *  - EINTR: a signal came while a native call pinned pages. Call again.
 *  - EINVAL: an address, size or alignment is wrong, or a pointer is null.
 *  - ENODEV: no usable PF, or the module is not loaded.
 *  - ENOMEM: beyond RLIMIT_MEMLOCK (ulimit -l), or no memory left.
 *  - ENOSPC: no free range of IOVAs is large enough, or, in a VFIO container, as many
 *    buffers are mapped as VFIO allows.
 *  - EOPNOTSUPP: an unknown flag; a read-only mapping where the IOMMU has none; a
 *    buffer that is not physically contiguous where nothing translates.
 *  - EOVERFLOW: the buffer wraps around.
 *  - EPERM: CAP_SYS_RAWIO is missing for a fixed IOVA, or where nothing translates.
 *
 * and unmaps with
 *
 *  - EINVAL: as above.
 *  - EIO: the IOMMU did not remove what it should. Do not use the memory again.
 *  - ENODEV: the mapping went with its PF.
 *  - ENOENT: this process has no such mapping. A wrong size, an interior address, and
 *    what has been unmapped already are refused.
 */

/**
 * DOC: Context
 *
 * All functions may be called from any number of threads at once. After fork() the
 * child starts with nothing mapped: its calls neither find nor undo what its parent has
 * mapped, which lasts until the parent unmaps it or ends.
 *
 * The look-ups take no lock and make no system call.
 */

/** QAT_IOMMU_READ - The device may read the buffer */
#define QAT_IOMMU_READ	0x1u
/** QAT_IOMMU_WRITE - The device may write the buffer; some IOMMUs then let it read */
#define QAT_IOMMU_WRITE	0x2u
/** QAT_IOMMU_FIXED - The caller chooses the IOVA. Needs CAP_SYS_RAWIO */
#define QAT_IOMMU_FIXED	0x4u

/**
 * struct qat_iommu_buffer - One buffer of a batch
 * @virt: Where it begins.
 * @length: Bytes.
 * @iova: The IOVA of its first byte, as a batch map finds it and a batch unmap wants it.
 */
struct qat_iommu_buffer {
	void *virt;
	size_t length;
	uint64_t iova;
};

/**
 * qat_iommu_map_user() - Map a buffer for the PFs
 * @virt: Where it begins; any address.
 * @length: Bytes, from 1 up.
 * @flags: QAT_IOMMU_READ, QAT_IOMMU_WRITE or both, and perhaps QAT_IOMMU_FIXED.
 * @alignment: What the IOVA of the buffer's first page is to be a multiple of: a power
 *	of two, a page or more. 0 for as much as lets the IOMMU use its largest pages.
 *	Must be 0 with QAT_IOMMU_FIXED.
 * @iova: Output: the IOVA of the buffer's first byte. Input with QAT_IOMMU_FIXED, with
 *	the same offset within its page as @virt.
 *
 * The buffer is contiguous for the device, whatever it is in physical memory, and takes
 * no more IOVAs than its pages. It may be mapped more than once; each mapping is its
 * own.
 *
 * Return: 0, or -1 with errno set.
 */
int qat_iommu_map_user(void *virt, size_t length, uint32_t flags, uint64_t alignment,
		       uint64_t *iova);

/**
 * qat_iommu_unmap_user() - Unmap a buffer
 * @virt: As given to the map.
 * @length: As given to the map.
 *
 * Where the buffer is mapped more than once, the newest mapping goes. No PF reaches the
 * memory through it any more when this returns.
 *
 * Return: 0, or -1 with errno set.
 */
int qat_iommu_unmap_user(void *virt, size_t length);

/**
 * qat_iommu_unmap_iova() - Unmap a buffer by its IOVA
 * @iova: As the map returned it.
 * @length: As given to the map.
 *
 * Return: 0, or -1 with errno set.
 */
int qat_iommu_unmap_iova(uint64_t iova, size_t length);

/**
 * qat_iommu_virt_to_iova() - Look up the IOVA of a byte
 * @virt: Address of any byte of a mapped buffer.
 * @iova: Output.
 *
 * Of several mappings of the byte, the newest counts, the USDM-compatible calls'
 * included.
 *
 * Return: 0, or -1 with errno ENOENT if no mapped buffer holds the byte.
 */
int qat_iommu_virt_to_iova(const void *virt, uint64_t *iova);

/**
 * qat_iommu_map_user_batch() - Map several buffers, or none
 * @buffers: The buffers; their IOVAs are written there.
 * @count: How many, at most 65,536.
 * @flags: QAT_IOMMU_READ, QAT_IOMMU_WRITE or both.
 * @alignment: As for qat_iommu_map_user(), for each of them.
 * @failed: Output: index of the buffer that is the reason of a failure, if one is. May
 *	be NULL.
 *
 * Each mapping is its own, as if mapped by qat_iommu_map_user(), for one system call.
 *
 * Return: 0, or -1 with errno set and nothing mapped.
 */
int qat_iommu_map_user_batch(struct qat_iommu_buffer *buffers, size_t count,
			     uint32_t flags, uint64_t alignment, size_t *failed);

/**
 * qat_iommu_unmap_batch() - Unmap several buffers by their IOVAs, or none
 * @buffers: The buffers; their IOVAs and lengths count.
 * @count: How many, at most 65,536.
 * @failed: As for qat_iommu_map_user_batch().
 *
 * Return: 0, or -1 with errno set and nothing unmapped.
 */
int qat_iommu_unmap_batch(const struct qat_iommu_buffer *buffers, size_t count,
			  size_t *failed);

/**
 * DOC: The USDM-compatible calls
 *
 * Drop-in for libusdm's, and right where those are wrong (docs/migration.md has the
 * list). Link libqat_iommu before libusdm, or preload it.
 *
 * They act on the VFIO container that the program (or qatlib, for its VFs) has
 * registered, while there is one, and else on the PFs. The environment variable
 * QAT_IOMMU_BACKEND=pf or =vfio overrides this.
 */

/**
 * qaeMemMapContiguousIova() - Map a buffer for reading and writing
 * @virt: Where it begins, page aligned.
 * @size: Bytes, from 1 byte to 2 GiB; rounded up to pages.
 *
 * The IOVA is a multiple of 2 MiB. A buffer of which any byte is mapped already is
 * refused.
 *
 * Return: The IOVA, or 0 with errno set.
 */
uint64_t qaeMemMapContiguousIova(void *virt, size_t size);

/**
 * qaeMemUnmapContiguousIova() - Unmap a buffer
 * @virt: As given to the map.
 * @size: As given to the map, or rounded up to pages.
 *
 * Return: 0, or 1 with errno set.
 */
int qaeMemUnmapContiguousIova(void *virt, size_t size);

/**
 * qaeVirtToPhysNUMA() - Look up what the device uses for a byte
 * @pVirtAddr: Address of any byte of a mapped buffer, or of memory from libusdm.
 *
 * What this library did not map is asked of the next library in link order that has
 * the function.
 *
 * Return: The IOVA (or libusdm's answer), or 0.
 */
uint64_t qaeVirtToPhysNUMA(void *pVirtAddr);

/**
 * qaeRegisterDevice() - Register a VFIO container
 * @fd: Its file descriptor, with the IOMMU set.
 *
 * Passed on to the next library in link order that has the function. To be called once
 * per device; other containers are refused meanwhile.
 *
 * Return: 0, or 1 with errno set (or what the next library returns).
 */
int qaeRegisterDevice(int fd);

/**
 * qaeUnregisterDevice() - Unregister a VFIO container
 * @fd: Its file descriptor.
 *
 * Passed on likewise. With the last device go the container's mappings that the
 * USDM-compatible call made.
 *
 * Return: 0, or 1 with errno set (or what the next library returns).
 */
int qaeUnregisterDevice(int fd);

#ifdef __cplusplus
}
#endif

#endif
