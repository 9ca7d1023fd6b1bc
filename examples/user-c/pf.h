/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The DMA engine of the emulated PF (user/qat-pf/README.md), driven from a
 * program through the BAR that sysfs offers.
 */
#ifndef PF_H
#define PF_H

#include <fcntl.h>
#include <glob.h>
#include <libgen.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PF_MAGIC 0x414d444650544151ULL
#define PF_DONE 1

enum pf_register {
	PF_SOURCE = 0x08,
	PF_DESTINATION = 0x10,
	PF_LENGTH = 0x18,
	PF_COMMAND = 0x20,
	PF_STATUS = 0x28,
	PF_FAULT = 0x30,
	PF_PATTERN = 0x38,
	PF_CHECKSUM = 0x40,
};

struct pf {
	char name[32];
	volatile uint64_t *bar;
};

static inline uint64_t pf_read(struct pf *pf, enum pf_register reg)
{
	return pf->bar[reg / 8];
}

static inline void pf_write(struct pf *pf, enum pf_register reg, uint64_t value)
{
	pf->bar[reg / 8] = value;
}

/* The first function whose BAR0 shows the engine. */
static inline int pf_open(struct pf *pf)
{
	glob_t found;
	int ret = -1;

	if (glob("/sys/bus/pci/devices/*/resource0", 0, NULL, &found))
		return -1;
	for (size_t i = 0; i < found.gl_pathc && ret; i++) {
		int fd = open(found.gl_pathv[i], O_RDWR | O_SYNC | O_CLOEXEC);
		volatile uint64_t *bar;

		if (fd < 0)
			continue;
		bar = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
		if (bar == MAP_FAILED)
			continue;
		if (bar[0] == PF_MAGIC) {
			pf->bar = bar;
			snprintf(pf->name, sizeof(pf->name), "%s",
				 basename(dirname(found.gl_pathv[i])));
			ret = 0;
		}
	}
	globfree(&found);
	return ret;
}

/* Runs a command to its end; the status says how it went. */
static inline uint64_t pf_run(struct pf *pf, uint64_t command)
{
	uint64_t status;

	pf_write(pf, PF_COMMAND, command);
	do {
		status = pf_read(pf, PF_STATUS);
	} while (!status);
	return status;
}

static inline uint64_t pf_fill(struct pf *pf, uint64_t iova, uint64_t length, uint64_t pattern)
{
	pf_write(pf, PF_DESTINATION, iova);
	pf_write(pf, PF_LENGTH, length);
	pf_write(pf, PF_PATTERN, pattern);
	return pf_run(pf, 2);
}

static inline uint64_t pf_sum(struct pf *pf, uint64_t iova, uint64_t length)
{
	pf_write(pf, PF_SOURCE, iova);
	pf_write(pf, PF_LENGTH, length);
	return pf_run(pf, 3);
}

static inline uint64_t pf_result(struct pf *pf)
{
	return pf_read(pf, PF_CHECKSUM);
}

static inline uint64_t pf_fault(struct pf *pf)
{
	return pf_read(pf, PF_FAULT);
}

/* The checksum that the engine computes. */
static inline uint64_t fnv1a(const void *data, size_t length)
{
	const uint8_t *byte = data;
	uint64_t sum = 0xcbf29ce484222325ULL;

	while (length--)
		sum = (sum ^ *byte++) * 0x100000001b3ULL;
	return sum;
}

#endif
