/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The ioctl interface of /dev/qat_floor. user/bench has the same structure.
 */
#ifndef QAT_FLOOR_H
#define QAT_FLOOR_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct floor_round - One round: pin, map, unmap, unpin
 * @va: The buffer, page aligned
 * @length: Bytes, whole pages
 * @iova: Where to map it
 * @runs: Output: physically contiguous runs that it is made of
 * @pin: Output: cycles of the time-stamp counter
 * @map: Output: the same; finding the runs counts here
 * @unmap: Output: the same; what the IOMMU is told counts here
 * @unpin: Output: the same
 */
struct floor_round {
	__u64 va;
	__u64 length;
	__u64 iova;
	__u64 runs;
	__u64 pin;
	__u64 map;
	__u64 unmap;
	__u64 unpin;
};

#define FLOOR_ROUND _IO('f', 1)
/* Does nothing: what entering the kernel and leaving it costs. */
#define FLOOR_NOTHING _IO('f', 2)

#endif
