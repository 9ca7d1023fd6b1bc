// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoints, for the Rust half, which cannot call them itself out of tree;
 * whether someone traces it asks before.
 */
#include "glue.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

void qat_iommu_trace_map(u64 space, u64 context, u64 iova, u64 length,
			 u64 backing, bool user)
{
	trace_map(space, context, iova, length, backing, user);
}

void qat_iommu_trace_unmap(u64 space, u64 context, u64 iova, u64 length,
			   u64 backing, bool user, const char *why)
{
	trace_unmap(space, context, iova, length, backing, user, why);
}

void qat_iommu_trace_pin(u64 context, int pid, u64 va, u64 pages)
{
	trace_pin(context, pid, va, pages);
}

void qat_iommu_trace_unpin(u64 context, int pid, u64 va, u64 pages)
{
	trace_unpin(context, pid, va, pages);
}

void qat_iommu_trace_attach(u32 segment, u8 bus, u8 device, u8 function,
			    u64 space, bool owned)
{
	trace_attach(segment, bus, device, function, space, owned);
}

void qat_iommu_trace_detach(u32 segment, u8 bus, u8 device, u8 function,
			    u64 space, bool owned)
{
	trace_detach(segment, bus, device, function, space, owned);
}
