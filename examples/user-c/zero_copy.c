// SPDX-License-Identifier: GPL-2.0
/*
 * Zero-copy: a program's own memory, as it came from the allocator, is mapped for
 * the PFs at one contiguous range of IOVAs, used, and taken back. No huge page,
 * no physical address, no privilege besides opening /dev/qat_iommu.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qat_iommu.h>

#include "pf.h"

#define SIZE (1 << 20)

static int failed(const char *what)
{
	printf("   FAILED: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(void)
{
	uint8_t *buff = aligned_alloc(4096, SIZE);
	uint8_t *middle = buff + SIZE / 2;
	uint64_t iova;
	struct pf pf;

	if (!buff || pf_open(&pf))
		return failed("no memory, or no PF with the emulated engine");
	for (size_t i = 0; i < SIZE; i++)
		buff[i] = i * 31 + i / 4096;
	printf("1. %d bytes at %p, scattered over physical memory\n", SIZE, (void *)buff);

	iova = qaeMemMapContiguousIova(buff, SIZE);
	if (!iova)
		return failed("qaeMemMapContiguousIova");
	printf("2. pinned, and mapped at IOVA %#" PRIx64 " to %#" PRIx64 "\n", iova,
	       iova + SIZE - 1);

	if (qaeVirtToPhysNUMA(middle) != iova + SIZE / 2)
		return failed("qaeVirtToPhysNUMA");
	printf("3. its middle, %p, is at IOVA %#" PRIx64 "\n", (void *)middle,
	       qaeVirtToPhysNUMA(middle));

	if (pf_sum(&pf, iova, SIZE) != PF_DONE || pf_result(&pf) != fnv1a(buff, SIZE))
		return failed("the PF read something else");
	printf("4. PF %s read all of it: checksum %#" PRIx64 ", as computed here\n", pf.name,
	       pf_result(&pf));
	if (pf_fill(&pf, iova + SIZE / 2, SIZE / 2, 0) != PF_DONE ||
	    middle[0] || buff[SIZE - 1])
		return failed("the PF wrote something else");
	printf("   and cleared its second half\n");

	if (qaeMemUnmapContiguousIova(buff, SIZE))
		return failed("qaeMemUnmapContiguousIova");
	if (qaeVirtToPhysNUMA(buff))
		return failed("a stale translation");
	if (pf_sum(&pf, iova, SIZE) == PF_DONE)
		return failed("the PF still reaches it");
	printf("5. unmapped and unpinned: the PF is refused at IOVA %#" PRIx64 "\n", pf_fault(&pf));
	free(buff);
	return 0;
}
