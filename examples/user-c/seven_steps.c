// SPDX-License-Identifier: GPL-2.0
/*
 * The documented seven steps as a program takes them: give a buffer to the QAT
 * PFs of this host, use it, take it back. Step 5, what a PF does with the buffer,
 * is done here by the DMA engine of the emulated PF (pf.h); a real program hands
 * the IOVA to its QAT device.
 *
 *	seven_steps [IOVA_OFFSET]
 *
 * maps 1:1, or IOVA_OFFSET bytes above the physical address. As root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <icp_sal_iommu.h>

#include "pf.h"
#include "virt_to_phys.h"

#define DATA 3000

static int failed(const char *what)
{
	printf("   FAILED: %s: %s\n", what, strerror(errno));
	return 1;
}

/* Step 5: the PF reads and writes the buffer, and both sides see the same. */
static int use(struct pf *pf, uint8_t *buff, uint64_t iova)
{
	const uint64_t word = 0x0123456789abcdef;

	memset(buff, 0, DATA);
	strcpy((char *)buff, "written by the program");
	if (pf_sum(pf, iova, DATA) != PF_DONE)
		return failed("the PF could not read the buffer");
	printf("5. the PF read %d bytes at IOVA %#" PRIx64 "\n", DATA, iova);
	printf("   checksum %#" PRIx64 ", here %#" PRIx64 "\n", pf_result(pf), fnv1a(buff, DATA));
	if (pf_result(pf) != fnv1a(buff, DATA))
		return failed("the PF read something else");

	if (pf_fill(pf, iova, sizeof(word), word) != PF_DONE)
		return failed("the PF could not write the buffer");
	if (memcmp(buff, &word, sizeof(word)))
		return failed("the PF wrote something else");
	printf("   the PF wrote a word, and the program sees it: %#" PRIx64 "\n", word);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t offset = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
	uint64_t phys, iova;
	struct pf pf;
	size_t size;
	void *buff;

	if (pf_open(&pf))
		return failed("no PF with the emulated engine");
	printf("   PF %s\n", pf.name);

	size = icp_sal_iommu_get_remap_size(DATA);
	printf("1. %d bytes of data take a mapping of %zu bytes\n", DATA, size);

	buff = aligned_alloc(4096, size);
	if (!buff || mlock(buff, size))
		return failed("no memory");
	memset(buff, 0, size);
	printf("2. allocated a page-aligned buffer at %p\n", buff);

	if (virt_to_phys(buff, &phys))
		return failed("/proc/self/pagemap does not tell the physical address");
	iova = phys + offset;
	printf("3. it lies at physical address %#" PRIx64 "\n", phys);

	if (icp_sal_iommu_map(phys, iova, size))
		return failed("icp_sal_iommu_map");
	printf("4. mapped %zu bytes at IOVA %#" PRIx64 "%s\n", size, iova, offset ? "" : " (1:1)");

	if (use(&pf, buff, iova))
		return 1;

	if (icp_sal_iommu_unmap(iova, size))
		return failed("icp_sal_iommu_unmap");
	printf("6. unmapped it\n");
	if (pf_sum(&pf, iova, DATA) == PF_DONE)
		printf("   the PF still reaches it, as it reaches all of memory\n");
	else
		printf("   the PF is refused now: fault at IOVA %#" PRIx64 "\n", pf_fault(&pf));

	free(buff);
	printf("7. freed it\n");
	return 0;
}
