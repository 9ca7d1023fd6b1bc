/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ioctl interface of /dev/qat_iommu: which addresses the QuickAssist (QAT)
 * Physical Functions of this host may reach by DMA.
 *
 * This header is the one source of the interface; the kernel module and the
 * user-space library both generate their types from it.
 */
#ifndef _UAPI_LINUX_QAT_IOMMU_H
#define _UAPI_LINUX_QAT_IOMMU_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * DOC: General ioctl format
 *
 * Every command takes a pointer to a structure that begins with its own size in
 * bytes. A structure may grow at its end in a later version of the interface:
 *
 *  - A size below that of the structure's first version is refused (EINVAL).
 *  - A size beyond what this kernel knows is accepted as long as the unknown
 *    tail is zero (else E2BIG). A size above one page is refused (E2BIG).
 *  - Bits of a flags field that this kernel does not know are refused
 *    (EOPNOTSUPP). Reserved fields and padding must be zero (EINVAL).
 *  - The kernel reads each byte of the input once, and writes no more than
 *    size bytes back.
 *
 * The layout is the same for 32-bit and 64-bit callers. Addresses and lengths
 * are in bytes, ranges in answers are inclusive (first, last).
 */

/**
 * DOC: Results
 *
 * A command returns 0, or -1 with errno set. A command that fails has changed
 * nothing.
 *
 *  EACCES        The physical range is not one that the module parameter phys=
 *                lets user space map, or phys=off.
 *  EADDRINUSE    The kernel's DMA API uses that IOVA range of a shared PF.
 *  EADDRNOTAVAIL The IOVA range cannot be honoured: it touches a reserved range
 *                (the MSI window, firmware's ranges, the page at 0); or the PF is
 *                not translated and iova differs from the physical address; or
 *                the parameter shared_fixed= keeps it from a shared PF.
 *  E2BIG         The structure has a non-zero tail that this kernel does not know.
 *  EBUSY         The context still has mappings in the space it would leave.
 *  EEXIST        The IOVA range touches a live mapping, by a page or more.
 *  EFAULT        A pointer cannot be read or written.
 *  EINVAL        An address is not page aligned, a length is 0, neither read nor
 *                write is asked for, the structure is too short, or a reserved
 *                field is not zero.
 *  EINTR         A signal ended the command.
 *  EIO           The IOMMU did not remove exactly what was asked. The range stays
 *                out of use for as long as the module is loaded; the kernel log
 *                has the details.
 *  ENODEV        No usable QAT PF, or the one this context was attached to is gone.
 *  ENOENT        No mapping of this context has exactly this range.
 *  ENOMEM        No memory for the mapping, its record, or the IOMMU's page tables;
 *                or the buffer exceeds the caller's RLIMIT_MEMLOCK; or a large page
 *                of it is mapped so often that the kernel could not count it.
 *  ENOSPC        No free range of IOVAs is large enough.
 *  ENOTTY        No such command.
 *  EOPNOTSUPP    A flag is unknown, or the IOMMU cannot do this (read-only pages,
 *                fixed ranges of a shared PF behind virtio-iommu, a scattered
 *                buffer where nothing translates).
 *  EOVERFLOW     The range, or its size rounded up to pages, wraps at 2^64.
 *  EPERM         The caller lacks CAP_SYS_RAWIO, or the kernel is locked down.
 *  ERANGE        The range ends beyond the aperture, or beyond the physical
 *                addresses of this processor.
 */
#define QAT_IOMMU_ABI_VERSION	1

#define QAT_IOMMU_TYPE		'q'

enum {
	QAT_IOMMU_CMD_BASE = 0x80,
	QAT_IOMMU_CMD_INFO = QAT_IOMMU_CMD_BASE,
	QAT_IOMMU_CMD_ATTACH = 0x81,
	QAT_IOMMU_CMD_MAP_PHYS = 0x82,
	QAT_IOMMU_CMD_UNMAP = 0x83,
	QAT_IOMMU_CMD_MAP_USER = 0x84,
	QAT_IOMMU_CMD_UNMAP_USER = 0x85,
	QAT_IOMMU_CMD_QUERY = 0x86,
	QAT_IOMMU_CMD_MAP_USER_BATCH = 0x87,
	QAT_IOMMU_CMD_UNMAP_BATCH = 0x88,
};

/**
 * enum qat_iommu_mode - How this host's PFs reach memory
 * @QAT_IOMMU_MODE_NONE: There is no usable PF.
 * @QAT_IOMMU_MODE_OWNED: The space of the PFs bound to this module's driver.
 * @QAT_IOMMU_MODE_SHARED: The space of a PF bound to its own driver.
 * @QAT_IOMMU_MODE_UNTRANSLATED: The PF's accesses are not translated (no IOMMU,
 *	or an identity domain): only iova == phys can be honoured, and needs
 *	nothing done.
 * @QAT_IOMMU_MODE_VM: The kernel runs in a virtual machine: every map and unmap
 *	succeeds and does nothing.
 */
enum qat_iommu_mode {
	QAT_IOMMU_MODE_NONE = 0,
	QAT_IOMMU_MODE_OWNED = 1,
	QAT_IOMMU_MODE_SHARED = 2,
	QAT_IOMMU_MODE_UNTRANSLATED = 3,
	QAT_IOMMU_MODE_VM = 4,
};

/**
 * enum qat_iommu_pf_flags - What is true of one PF
 * @QAT_IOMMU_PF_OWNED: Bound to this module's driver; else to its own.
 * @QAT_IOMMU_PF_TRANSLATED: Its accesses are translated by an IOMMU.
 * @QAT_IOMMU_PF_INCOMPLETE: It joined while classic mappings were live and could
 *	not take all of them; the kernel log says which and why.
 * @QAT_IOMMU_PF_NO_FIXED: Ranges at a fixed IOVA cannot be mapped for it
 *	(shared_fixed=off, or a shared PF behind virtio-iommu).
 * @QAT_IOMMU_PF_UNRESERVED: Ranges at a fixed IOVA are not reserved for it: its
 *	own driver's DMA goes through the same domain, and the kernel's DMA API,
 *	which cannot be told of them, may want such an address later. That
 *	driver's map then fails. (A shared PF that is translated and takes them.)
 */
enum qat_iommu_pf_flags {
	QAT_IOMMU_PF_OWNED = 1 << 0,
	QAT_IOMMU_PF_TRANSLATED = 1 << 1,
	QAT_IOMMU_PF_INCOMPLETE = 1 << 2,
	QAT_IOMMU_PF_NO_FIXED = 1 << 3,
	QAT_IOMMU_PF_UNRESERVED = 1 << 4,
};

/**
 * struct qat_iommu_pf - One usable PF, as INFO lists it
 * @segment: PCI domain
 * @bus: PCI bus
 * @device: PCI device (slot)
 * @function: PCI function
 * @reserved: 0
 * @vendor_id: PCI vendor id
 * @device_id: PCI device id
 * @flags: Combination of enum qat_iommu_pf_flags
 * @space: The space it belongs to; PFs with equal numbers share one IOVA space.
 *	A number is never used again while the module is loaded.
 */
struct qat_iommu_pf {
	__u32 segment;
	__u8 bus;
	__u8 device;
	__u8 function;
	__u8 reserved;
	__u16 vendor_id;
	__u16 device_id;
	__u32 flags;
	__aligned_u64 space;
};

/**
 * struct qat_iommu_range - An inclusive range of IOVAs
 * @first: First byte
 * @last: Last byte
 */
struct qat_iommu_range {
	__aligned_u64 first;
	__aligned_u64 last;
};

/**
 * struct qat_iommu_info - ioctl(QAT_IOMMU_INFO)
 * @size: sizeof(struct qat_iommu_info)
 * @flags: Must be 0
 * @abi_version: Output: QAT_IOMMU_ABI_VERSION of the module
 * @mode: Output: enum qat_iommu_mode of this context's space
 * @aperture_first: Output: first IOVA of the space
 * @aperture_last: Output: last IOVA of the space
 * @page_sizes: Output: bitmap of the IOMMU page sizes of the space
 * @generation: Output: grows with every PF that comes or goes
 * @pfs: Input: user pointer to an array of struct qat_iommu_pf
 * @reserved_ranges: Input: user pointer to an array of struct qat_iommu_range
 * @num_pfs: Input: elements of @pfs; output: PFs that there are
 * @num_reserved_ranges: Input: elements of @reserved_ranges; output: ranges that
 *	there are
 * @iommu_pages: Output: pages in the page tables of all of this host's IOMMUs
 * @space: Output: number of this context's space, 0 if it has none
 *
 * The space is the one that ATTACH chose, else the one that it would choose by
 * default. Where there is none, the outputs that describe it are 0. In a VM the
 * aperture is everything and the only page size is the kernel's.
 *
 * No more elements are written than there is room for; a caller that finds the
 * counts larger than it gave calls again with more room.
 *
 * Every mapping in a space can be reached by whoever programs a PF of the space,
 * whichever context made it.
 */
struct qat_iommu_info {
	__u32 size;
	__u32 flags;
	__u32 abi_version;
	__u32 mode;
	__aligned_u64 aperture_first;
	__aligned_u64 aperture_last;
	__aligned_u64 page_sizes;
	__aligned_u64 generation;
	__aligned_u64 pfs;
	__aligned_u64 reserved_ranges;
	__u32 num_pfs;
	__u32 num_reserved_ranges;
	__aligned_u64 iommu_pages;
	__aligned_u64 space;
};

#define QAT_IOMMU_INFO _IO(QAT_IOMMU_TYPE, QAT_IOMMU_CMD_INFO)

/**
 * enum qat_iommu_attach_flags - How ATTACH finds the space
 * @QAT_IOMMU_ATTACH_DEFAULT: Ignore the address; take the owned space, else the
 *	space of the only shared PF, else fail with ENODEV.
 */
enum qat_iommu_attach_flags {
	QAT_IOMMU_ATTACH_DEFAULT = 1 << 0,
};

/**
 * struct qat_iommu_attach - ioctl(QAT_IOMMU_ATTACH)
 * @size: sizeof(struct qat_iommu_attach)
 * @flags: Combination of enum qat_iommu_attach_flags
 * @segment: PCI domain of a PF in the wanted space
 * @bus: its PCI bus
 * @device: its PCI device (slot)
 * @function: its PCI function
 * @reserved: Must be 0
 * @space: Output: number of the space, as in struct qat_iommu_pf
 *
 * Choose the one space that INFO describes for this context and that its buffers
 * are mapped in. MAP_PHYS is not bound by the choice: it reaches every space. While
 * buffers are mapped in another space the choice cannot change (EBUSY).
 */
struct qat_iommu_attach {
	__u32 size;
	__u32 flags;
	__u32 segment;
	__u8 bus;
	__u8 device;
	__u8 function;
	__u8 reserved;
	__aligned_u64 space;
};

#define QAT_IOMMU_ATTACH _IO(QAT_IOMMU_TYPE, QAT_IOMMU_CMD_ATTACH)

/**
 * enum qat_iommu_map_flags - What the PFs may do with a mapping
 * @QAT_IOMMU_MAP_READ: Read it
 * @QAT_IOMMU_MAP_WRITE: Write it. Some IOMMUs allow reading as well.
 * @QAT_IOMMU_MAP_FIXED: MAP_USER only: the caller chooses the IOVA. Needs
 *	CAP_SYS_RAWIO.
 */
enum qat_iommu_map_flags {
	QAT_IOMMU_MAP_READ = 1 << 0,
	QAT_IOMMU_MAP_WRITE = 1 << 1,
	QAT_IOMMU_MAP_FIXED = 1 << 2,
};

/**
 * struct qat_iommu_map_phys - ioctl(QAT_IOMMU_MAP_PHYS)
 * @size: sizeof(struct qat_iommu_map_phys)
 * @flags: Combination of enum qat_iommu_map_flags, at least one
 * @phys: Physical address, page aligned
 * @iova: IOVA to map it at, page aligned
 * @length: Bytes; rounded up to the remap size
 * @mapped: Output: bytes really mapped
 *
 * Map a physical range at an IOVA in every space, or in none: the owned space
 * and that of each shared PF. Needs CAP_SYS_RAWIO and a kernel that is not
 * locked down. The pages are referenced until the mapping goes where the kernel
 * allows that, so that memory freed meanwhile is not given to someone else;
 * memory of the slab allocator and of devices cannot be referenced.
 *
 * The mapping belongs to this context and goes with its last reference.
 */
struct qat_iommu_map_phys {
	__u32 size;
	__u32 flags;
	__aligned_u64 phys;
	__aligned_u64 iova;
	__aligned_u64 length;
	__aligned_u64 mapped;
};

#define QAT_IOMMU_MAP_PHYS _IO(QAT_IOMMU_TYPE, QAT_IOMMU_CMD_MAP_PHYS)

/**
 * enum qat_iommu_unmap_flags - Whose mapping UNMAP removes
 * @QAT_IOMMU_UNMAP_FORCE: That of a kernel client which has left it behind; not
 *	one of this context. Needs CAP_SYS_RAWIO (EPERM). Whether the client still
 *	uses it cannot be told: what it maps and unmaps later is not affected, but
 *	its own unmap of this mapping fails. ENOENT if there is none.
 */
enum qat_iommu_unmap_flags {
	QAT_IOMMU_UNMAP_FORCE = 1 << 0,
};

/**
 * struct qat_iommu_unmap - ioctl(QAT_IOMMU_UNMAP)
 * @size: sizeof(struct qat_iommu_unmap)
 * @flags: Combination of enum qat_iommu_unmap_flags
 * @iova: First IOVA of a mapping of this context
 * @length: Bytes, as given to the map (or the remap size)
 *
 * Remove exactly one mapping of this context from every space that holds it. No
 * PF reaches the memory any more when this returns. The memory is not looked
 * at: it may have been freed before.
 *
 * The IOVA of a mapping that MAP_USER made may be the one that it returned, with
 * its offset within the page, and the length the one that was given to it.
 */
struct qat_iommu_unmap {
	__u32 size;
	__u32 flags;
	__aligned_u64 iova;
	__aligned_u64 length;
};

#define QAT_IOMMU_UNMAP _IO(QAT_IOMMU_TYPE, QAT_IOMMU_CMD_UNMAP)

/**
 * struct qat_iommu_map_user - ioctl(QAT_IOMMU_MAP_USER)
 * @size: sizeof(struct qat_iommu_map_user)
 * @flags: Combination of enum qat_iommu_map_flags, read or write at least
 * @va: Where the caller's buffer begins; any address
 * @length: Bytes
 * @alignment: What the IOVA of the buffer's first page is to be a multiple of: a
 *	power of two, a page or more. 0 leaves the choice to the kernel: the
 *	smallest alignment with which the IOMMU can use its largest pages for this
 *	buffer. Must be 0 with QAT_IOMMU_MAP_FIXED.
 * @iova: Output: the IOVA of the byte at @va. Input with QAT_IOMMU_MAP_FIXED,
 *	with the same offset within the page as @va.
 *
 * Pin the pages of a buffer of the caller and map them at one contiguous range of
 * IOVAs in the context's space: the one that ATTACH chose, else the default one,
 * which is then kept. The pages stay pinned, and the device keeps seeing them,
 * whatever the caller does with its address range, until the mapping goes: by
 * UNMAP or UNMAP_USER, with the context's last reference, or with a shared PF.
 *
 * The pages are charged to RLIMIT_MEMLOCK of the calling process (ENOMEM beyond
 * it, unless the caller has CAP_IPC_LOCK). Opening the node is all the privilege
 * that it takes. A signal ends the call between two steps (EINTR), with nothing
 * mapped.
 *
 * Without translation (mode UNTRANSLATED or VM) a physically contiguous buffer
 * gets its physical address as IOVA, for callers with CAP_SYS_RAWIO (else EPERM);
 * another one cannot be mapped (EOPNOTSUPP).
 *
 * Memory that cannot be pinned for long gives the errno of the kernel's page
 * pinning: EFAULT for what is not mapped, not accessible or a device's, and for
 * writable file mappings on most file systems.
 */
struct qat_iommu_map_user {
	__u32 size;
	__u32 flags;
	__aligned_u64 va;
	__aligned_u64 length;
	__aligned_u64 alignment;
	__aligned_u64 iova;
};

#define QAT_IOMMU_MAP_USER _IO(QAT_IOMMU_TYPE, QAT_IOMMU_CMD_MAP_USER)

/**
 * struct qat_iommu_unmap_user - ioctl(QAT_IOMMU_UNMAP_USER)
 * @size: sizeof(struct qat_iommu_unmap_user)
 * @flags: Must be 0
 * @va: As given to MAP_USER
 * @length: As given to MAP_USER
 *
 * Remove the mapping that this context made of exactly this buffer with MAP_USER,
 * and unpin it. Where the buffer was mapped more than once, the newest goes.
 */
struct qat_iommu_unmap_user {
	__u32 size;
	__u32 flags;
	__aligned_u64 va;
	__aligned_u64 length;
};

#define QAT_IOMMU_UNMAP_USER _IO(QAT_IOMMU_TYPE, QAT_IOMMU_CMD_UNMAP_USER)

/**
 * enum qat_iommu_query_kind - What backs a mapping
 * @QAT_IOMMU_QUERY_PHYS: A physical range, by MAP_PHYS
 * @QAT_IOMMU_QUERY_USER: A pinned buffer, by MAP_USER
 */
enum qat_iommu_query_kind {
	QAT_IOMMU_QUERY_PHYS = 0,
	QAT_IOMMU_QUERY_USER = 1,
};

/**
 * struct qat_iommu_query - ioctl(QAT_IOMMU_QUERY)
 * @size: sizeof(struct qat_iommu_query)
 * @flags: Must be 0
 * @iova: Input: where to look from. Output: first IOVA of the mapping.
 * @length: Output: bytes that it covers
 * @backing: Output: its physical address, or the address of the buffer's first
 *	page in the process that mapped it
 * @kind: Output: enum qat_iommu_query_kind
 * @map_flags: Output: QAT_IOMMU_MAP_READ and QAT_IOMMU_MAP_WRITE, as it was mapped
 *
 * Find the mapping of this context, in its space, that holds the IOVA or else the
 * next one above it; ENOENT if there is none. To list them all, go on at iova +
 * length.
 */
struct qat_iommu_query {
	__u32 size;
	__u32 flags;
	__aligned_u64 iova;
	__aligned_u64 length;
	__aligned_u64 backing;
	__u32 kind;
	__u32 map_flags;
};

#define QAT_IOMMU_QUERY _IO(QAT_IOMMU_TYPE, QAT_IOMMU_CMD_QUERY)

/* The most elements that a batch command takes (E2BIG above). */
#define QAT_IOMMU_BATCH_MAX	65536

/**
 * struct qat_iommu_user_buffer - One buffer of a batch
 * @va: Where it begins
 * @length: Bytes
 * @iova: Output: the IOVA of its first byte
 */
struct qat_iommu_user_buffer {
	__aligned_u64 va;
	__aligned_u64 length;
	__aligned_u64 iova;
};

/**
 * struct qat_iommu_map_user_batch - ioctl(QAT_IOMMU_MAP_USER_BATCH)
 * @size: sizeof(struct qat_iommu_map_user_batch)
 * @flags: QAT_IOMMU_MAP_READ, QAT_IOMMU_MAP_WRITE or both
 * @buffers: User pointer to an array of struct qat_iommu_user_buffer
 * @alignment: As for MAP_USER, for each of them
 * @count: Elements of the array, at most QAT_IOMMU_BATCH_MAX
 * @failed: Output, if the command fails because of a buffer: which one (from 0)
 *
 * MAP_USER for each buffer, or for none: each mapping is its own.
 */
struct qat_iommu_map_user_batch {
	__u32 size;
	__u32 flags;
	__aligned_u64 buffers;
	__aligned_u64 alignment;
	__u32 count;
	__u32 failed;
};

#define QAT_IOMMU_MAP_USER_BATCH \
	_IO(QAT_IOMMU_TYPE, QAT_IOMMU_CMD_MAP_USER_BATCH)

/**
 * struct qat_iommu_unmap_range - One range of a batch
 * @iova: As for UNMAP
 * @length: As for UNMAP
 */
struct qat_iommu_unmap_range {
	__aligned_u64 iova;
	__aligned_u64 length;
};

/**
 * struct qat_iommu_unmap_batch - ioctl(QAT_IOMMU_UNMAP_BATCH)
 * @size: sizeof(struct qat_iommu_unmap_batch)
 * @flags: Must be 0
 * @ranges: User pointer to an array of struct qat_iommu_unmap_range
 * @count: Elements of the array, at most QAT_IOMMU_BATCH_MAX
 * @failed: Output, if the command fails because of a range: which one (from 0)
 *
 * UNMAP for each range, all of them made by MAP_USER, or for none.
 */
struct qat_iommu_unmap_batch {
	__u32 size;
	__u32 flags;
	__aligned_u64 ranges;
	__u32 count;
	__u32 failed;
};

#define QAT_IOMMU_UNMAP_BATCH _IO(QAT_IOMMU_TYPE, QAT_IOMMU_CMD_UNMAP_BATCH)

#endif
