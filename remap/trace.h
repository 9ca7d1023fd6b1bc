/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The tracepoints: what is mapped, unmapped, pinned and unpinned, and which PFs
 * come and go. Lengths are in bytes; a mapping of a kernel client has context 0.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM qat_iommu

#if !defined(QAT_IOMMU_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define QAT_IOMMU_TRACE_H

#include <linux/tracepoint.h>
#include <linux/types.h>

/* A mapping was made in the domain of a space. */
TRACE_EVENT(map,
	TP_PROTO(u64 space, u64 context, u64 iova, u64 length, u64 backing,
		 bool user),
	TP_ARGS(space, context, iova, length, backing, user),
	TP_STRUCT__entry(
		__field(u64, space)
		__field(u64, context)
		__field(u64, iova)
		__field(u64, length)
		__field(u64, backing)
		__field(bool, user)
	),
	TP_fast_assign(
		__entry->space = space;
		__entry->context = context;
		__entry->iova = iova;
		__entry->length = length;
		__entry->backing = backing;
		__entry->user = user;
	),
	TP_printk("space=%llu context=%llu iova=%#llx length=%#llx backing=%#llx kind=%s",
		  __entry->space, __entry->context, __entry->iova,
		  __entry->length, __entry->backing,
		  __entry->user ? "user" : "phys")
);

/* It is gone, and no PF reaches the memory any more. */
TRACE_EVENT(unmap,
	TP_PROTO(u64 space, u64 context, u64 iova, u64 length, u64 backing,
		 bool user, const char *why),
	TP_ARGS(space, context, iova, length, backing, user, why),
	TP_STRUCT__entry(
		__field(u64, space)
		__field(u64, context)
		__field(u64, iova)
		__field(u64, length)
		__field(u64, backing)
		__field(bool, user)
		__string(why, why)
	),
	TP_fast_assign(
		__entry->space = space;
		__entry->context = context;
		__entry->iova = iova;
		__entry->length = length;
		__entry->backing = backing;
		__entry->user = user;
		__assign_str(why);
	),
	TP_printk("space=%llu context=%llu iova=%#llx length=%#llx backing=%#llx kind=%s why=%s",
		  __entry->space, __entry->context, __entry->iova,
		  __entry->length, __entry->backing,
		  __entry->user ? "user" : "phys", __get_str(why))
);

DECLARE_EVENT_CLASS(pages,
	TP_PROTO(u64 context, int pid, u64 va, u64 pages),
	TP_ARGS(context, pid, va, pages),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(int, pid)
		__field(u64, va)
		__field(u64, pages)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->pid = pid;
		__entry->va = va;
		__entry->pages = pages;
	),
	TP_printk("context=%llu pid=%d va=%#llx pages=%llu",
		  __entry->context, __entry->pid, __entry->va, __entry->pages)
);

/* All pages of a buffer were pinned; the process is the context's opener. */
DEFINE_EVENT(pages, pin,
	TP_PROTO(u64 context, int pid, u64 va, u64 pages),
	TP_ARGS(context, pid, va, pages)
);

/* They were given back. */
DEFINE_EVENT(pages, unpin,
	TP_PROTO(u64 context, int pid, u64 va, u64 pages),
	TP_ARGS(context, pid, va, pages)
);

DECLARE_EVENT_CLASS(pf,
	TP_PROTO(u32 segment, u8 bus, u8 device, u8 function, u64 space,
		 bool owned),
	TP_ARGS(segment, bus, device, function, space, owned),
	TP_STRUCT__entry(
		__field(u32, segment)
		__field(u8, bus)
		__field(u8, device)
		__field(u8, function)
		__field(u64, space)
		__field(bool, owned)
	),
	TP_fast_assign(
		__entry->segment = segment;
		__entry->bus = bus;
		__entry->device = device;
		__entry->function = function;
		__entry->space = space;
		__entry->owned = owned;
	),
	TP_printk("pf=%04x:%02x:%02x.%x space=%llu kind=%s",
		  __entry->segment, __entry->bus, __entry->device,
		  __entry->function, __entry->space,
		  __entry->owned ? "owned" : "shared")
);

/* A PF came to a space: it reaches what is mapped there. */
DEFINE_EVENT(pf, attach,
	TP_PROTO(u32 segment, u8 bus, u8 device, u8 function, u64 space,
		 bool owned),
	TP_ARGS(segment, bus, device, function, space, owned)
);

/* A PF left a space: it reaches none of it. */
DEFINE_EVENT(pf, detach,
	TP_PROTO(u32 segment, u8 bus, u8 device, u8 function, u64 space,
		 bool owned),
	TP_ARGS(segment, bus, device, function, space, owned)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace

#include <trace/define_trace.h>
