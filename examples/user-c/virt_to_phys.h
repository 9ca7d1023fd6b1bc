/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The physical address behind a pointer, as the kernel tells root. It holds for
 * as long as the page stays where it is: lock it.
 */
#ifndef VIRT_TO_PHYS_H
#define VIRT_TO_PHYS_H

#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

static inline int virt_to_phys(const void *virt, uint64_t *phys)
{
	const uint64_t present = 1ULL << 63, frame = (1ULL << 55) - 1;
	uint64_t page = (uintptr_t)virt / 4096, entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -1;
	got = pread(fd, &entry, sizeof(entry), page * sizeof(entry));
	close(fd);
	if (got != sizeof(entry) || !(entry & present) || !(entry & frame))
		return -1;
	*phys = (entry & frame) * 4096 + (uintptr_t)virt % 4096;
	return 0;
}

#endif
