// SPDX-License-Identifier: GPL-2.0
/*
 * Usage: map SIZE
 *
 * Maps a buffer of its own for the PFs and takes it back; needs no right but the node's, and
 * memory lock limit enough for SIZE bytes. Exit status 1 and the reason if that fails.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qat_iommu.h>

int main(int argc, char **argv)
{
	size_t size = argc > 1 ? strtoul(argv[1], NULL, 0) : 4096;
	void *buffer = aligned_alloc(4096, size);
	uint64_t iova;

	if (!buffer)
		return 2;
	memset(buffer, 1, size);
	if (qat_iommu_map_user(buffer, size, QAT_IOMMU_READ | QAT_IOMMU_WRITE, 0, &iova)) {
		perror("map");
		return 1;
	}
	if (qat_iommu_unmap_user(buffer, size)) {
		perror("unmap");
		return 1;
	}
	puts("mapped and unmapped");
	free(buffer);
	return 0;
}
