// SPDX-License-Identifier: GPL-2.0
/*
 * A program's own buffers on a PF, through the USDM-compatible and the native calls:
 * map, DMA both ways, look up, unmap, refused. In a VM of scripts/vm, as root:
 *
 *	scripts/cc -pthread -I examples/user-c user/libqat-iommu/tests/c/zero_copy.c -lqat_iommu -o zero_copy
 *	scripts/vm -- ./zero_copy
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <icp_sal_iommu.h>
#include <qat_iommu.h>

#include "check.h"
#include "pf.h"

#define MIB ((size_t)1 << 20)
#define BOTH (QAT_IOMMU_READ | QAT_IOMMU_WRITE)

static struct pf pf;

static void *pages(size_t size)
{
	void *buf = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return buf == MAP_FAILED ? NULL : buf;
}

/* The device reads what the program wrote, and the program what the device wrote. */
static int dma(uint8_t *at, uint64_t iova, size_t length)
{
	const uint64_t word = 0x1122334455667788;

	for (size_t i = 0; i < length; i++)
		at[i] = (uint8_t)(i * 7 + 3);
	if (pf_sum(&pf, iova, length) != PF_DONE || pf_result(&pf) != fnv1a(at, length))
		return 0;
	if (length < sizeof(word))
		return 1;
	return pf_fill(&pf, iova, sizeof(word), word) == PF_DONE && !memcmp(at, &word, sizeof(word));
}

static int reached(uint64_t iova)
{
	return pf_sum(&pf, iova, 1) == PF_DONE;
}

static void compatible(size_t size)
{
	size_t whole = (size + 4095) / 4096 * 4096;
	uint8_t *buf = (uint8_t *)pages(whole + 8192) + 4096;
	uint64_t iova = qaeMemMapContiguousIova(buf, size);
	int good = iova != 0;

	CHECK(iova && iova % (2 * MIB) == 0, "compatible, %zu bytes: mapped at %#llx", size,
	      (unsigned long long)iova);
	for (size_t at = 0; at < whole; at += whole / 64 + 1)
		good &= qaeVirtToPhysNUMA(buf + at) == iova + at;
	good &= qaeVirtToPhysNUMA(buf + whole - 1) == iova + whole - 1;
	CHECK(good, "  look-ups across the range");
	CHECK(!qaeVirtToPhysNUMA(buf - 1) && !qaeVirtToPhysNUMA(buf + whole),
	      "  nothing one byte beyond each end");
	CHECK(dma(buf, iova, size < 4096 ? size : 4096), "  DMA at the start");
	CHECK(dma(buf + whole - 4096, iova + whole - 4096, 4096), "  DMA at the end");
	REFUSED(qaeMemMapContiguousIova(buf, size), 0, EEXIST, "  a second map is refused");
	REFUSED(qaeMemMapContiguousIova(buf + whole - 4096, 8192), 0, EEXIST,
		"  an overlapping map is refused");
	REFUSED(qaeMemUnmapContiguousIova(buf, whole + 4096), 1, ENOENT, "  too long an unmap is refused");
	if (whole > 4096) {
		REFUSED(qaeMemUnmapContiguousIova(buf, whole - 4096), 1, ENOENT,
			"  too short an unmap is refused");
		REFUSED(qaeMemUnmapContiguousIova(buf + 4096, whole - 4096), 1, ENOENT,
			"  an interior unmap is refused");
	}
	CHECK(dma(buf, iova, size < 4096 ? size : 4096), "  and all is as it was");
	CHECK(!qaeMemUnmapContiguousIova(buf, size), "  unmapped");
	CHECK(!qaeVirtToPhysNUMA(buf) && !qaeVirtToPhysNUMA(buf + whole - 1), "  not found any more");
	CHECK(!reached(iova) && !reached(iova + whole - 1), "  DMA is refused");
	REFUSED(qaeMemUnmapContiguousIova(buf, size), 1, ENOENT, "  a second unmap is refused");
	munmap(buf - 4096, whole + 8192);
}

static void refusals(void)
{
	uint8_t *buf = pages(8192);
	struct rlimit limit = { 1 * MIB, 1 * MIB };
	uint64_t iova = 0;
	pid_t child;
	int status;

	REFUSED(qaeMemMapContiguousIova(NULL, 4096), 0, EINVAL, "NULL");
	REFUSED(qaeMemMapContiguousIova(buf + 16, 4096), 0, EINVAL, "not page aligned");
	REFUSED(qaeMemMapContiguousIova(buf, 0), 0, EINVAL, "no bytes");
	REFUSED(qaeMemMapContiguousIova(buf, 2048 * MIB + 1), 0, E2BIG, "above 2 GiB");
	munmap(buf + 4096, 4096);
	REFUSED(qaeMemMapContiguousIova(buf, 8192), 0, EFAULT, "half of it unmapped");
	REFUSED(qat_iommu_map_user(buf, 8192, BOTH, 0, &iova), -1, EFAULT, "native likewise");
	REFUSED(qat_iommu_map_user(buf, 4096, 0, 0, &iova), -1, EINVAL, "neither read nor write");
	REFUSED(qat_iommu_map_user(buf, 4096, 64, 0, &iova), -1, EOPNOTSUPP, "an unknown flag");
	REFUSED(qat_iommu_map_user(buf, 4096, BOTH, 4097, &iova), -1, EINVAL, "an odd alignment");
	mprotect(buf, 4096, PROT_READ);
	REFUSED(qat_iommu_map_user(buf, 4096, BOTH, 0, &iova), -1, EFAULT,
		"read-only memory for the device to write");
	munmap(buf, 4096);

	fflush(stdout);
	child = fork();
	if (!child) {
		buf = pages(8 * MIB);
		setrlimit(RLIMIT_MEMLOCK, &limit);
		if (setresuid(65534, 65534, 65534))
			_exit(3);
		/* The context was opened before: by now this user may not. */
		_exit(qaeMemMapContiguousIova(buf, 8 * MIB) == 0 ? errno : 1);
	}
	waitpid(child, &status, 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == EACCES, "a user who may not open the node");

	fflush(stdout);
	child = fork();
	if (!child) {
		void *first = pages(4096);

		buf = pages(8 * MIB);
		if (!qaeMemMapContiguousIova(first, 4096))
			_exit(2);
		setrlimit(RLIMIT_MEMLOCK, &limit);
		if (setresuid(65534, 65534, 65534))
			_exit(3);
		if (qaeMemMapContiguousIova(buf, 8 * MIB))
			_exit(1);
		status = errno;
		_exit(qaeMemMapContiguousIova(buf, MIB / 2) ? status : 4);
	}
	waitpid(child, &status, 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == ENOMEM, "beyond RLIMIT_MEMLOCK");
}

static void native(void)
{
	uint8_t *heap = malloc(100000), *buf = pages(4 * MIB);
	struct qat_iommu_buffer batch[64];
	uint64_t iova, other, found;
	size_t failed = 99;
	int good = 1;

	CHECK(!qat_iommu_map_user(heap + 5, 99990, BOTH, 0, &iova), "native: any address and size");
	CHECK(iova % 4096 == (uintptr_t)(heap + 5) % 4096, "  the offset within the page is kept");
	CHECK(dma(heap + 5, iova, 99990), "  DMA");
	CHECK(!qat_iommu_virt_to_iova(heap + 99994, &found) && found == iova + 99989, "  look-up");
	REFUSED(qat_iommu_virt_to_iova(heap + 99995, &found), -1, ENOENT, "  nothing beyond the end");
	REFUSED(qat_iommu_unmap_user(heap + 5, 99989), -1, ENOENT, "  a wrong size is refused");
	CHECK(!qat_iommu_unmap_user(heap + 5, 99990) && !reached(iova), "  unmapped, DMA is refused");

	CHECK(!qat_iommu_map_user(buf, 4096, QAT_IOMMU_READ, 0, &iova), "read-only");
	CHECK(reached(iova) && pf_fill(&pf, iova, 8, 0) != PF_DONE, "  the device cannot write");
	CHECK(!qat_iommu_map_user(buf, 4096, BOTH, 0, &other) && other != iova, "mapped once more");
	CHECK(qaeVirtToPhysNUMA(buf) == other, "  the newest is found");
	CHECK(!qat_iommu_unmap_iova(iova, 4096) && qaeVirtToPhysNUMA(buf) == other,
	      "  the older one goes, by its IOVA");
	CHECK(!reached(iova) && dma(buf, other, 4096), "  only that one");
	CHECK(!qat_iommu_unmap_user(buf, 4096) && !reached(other), "  and the other");

	iova = 0x7654321000;
	CHECK(!qat_iommu_map_user(buf, 8192, BOTH | QAT_IOMMU_FIXED, 0, &iova) && iova == 0x7654321000,
	      "fixed");
	CHECK(dma(buf, 0x7654321000, 8192), "  DMA");
	REFUSED(qat_iommu_map_user(buf, 8192, BOTH | QAT_IOMMU_FIXED, 0, &iova), -1, EEXIST,
		"  not twice");
	CHECK(!qat_iommu_unmap_user(buf, 8192), "  unmapped");
	CHECK(!qat_iommu_map_user(buf, 4096, BOTH, 64 * MIB, &iova) && iova % (64 * MIB) == 0,
	      "aligned to 64 MiB");
	CHECK(!qat_iommu_unmap_user(buf, 4096), "  unmapped");

	CHECK(!qat_iommu_map_user(buf + 7, 4096, BOTH, 0, &iova), "mapped, and unmapped as a classic range");
	CHECK(!icp_sal_iommu_unmap(iova - iova % 4096, 8192) && !reached(iova), "  DMA is refused");
	REFUSED(qat_iommu_virt_to_iova(buf + 7, &found), -1, ENOENT, "  and it is not found");
	REFUSED(qat_iommu_unmap_user(buf + 7, 4096), -1, ENOENT, "  nor unmapped again");

	for (int i = 0; i < 64; i++) {
		batch[i].virt = buf + i * 5000;
		batch[i].length = 5000;
		batch[i].iova = 0;
	}
	CHECK(!qat_iommu_map_user_batch(batch, 64, BOTH, 0, NULL), "64 at once");
	for (int i = 0; i < 64; i++) {
		good &= dma(batch[i].virt, batch[i].iova, 5000);
		good &= !qat_iommu_virt_to_iova(buf + i * 5000 + 4999, &found) &&
			found == batch[i].iova + 4999;
	}
	CHECK(good, "  DMA and look-up of each");
	batch[40].length = 4999;
	REFUSED(qat_iommu_unmap_batch(batch, 64, &failed), -1, ENOENT, "  a wrong one among them");
	CHECK(failed == 40 && reached(batch[0].iova) && qaeVirtToPhysNUMA(buf) == batch[0].iova,
	      "  is named, and nothing is unmapped");
	batch[40].length = 5000;
	CHECK(!qat_iommu_unmap_batch(batch, 64, &failed), "  all at once");
	CHECK(!reached(batch[0].iova) && !reached(batch[63].iova) && !qaeVirtToPhysNUMA(buf + 5000),
	      "  and they are gone");
	batch[7].virt = NULL;
	REFUSED(qat_iommu_map_user_batch(batch, 64, BOTH, 0, &failed), -1, EFAULT, "  a bad one");
	CHECK(failed == 7 && !qaeVirtToPhysNUMA(buf), "  is named, and nothing is mapped");
	munmap(buf, 4 * MIB);
	free(heap);
}

static void forked(void)
{
	uint8_t *buf = pages(8192);
	uint64_t iova = qaeMemMapContiguousIova(buf, 8192);
	uint64_t own;
	int status;
	pid_t child;

	strcpy((char *)buf, "the parent's");
	fflush(stdout);
	child = fork();
	if (!child) {
		if (qaeVirtToPhysNUMA(buf))
			_exit(1);
		if (!qaeMemUnmapContiguousIova(buf, 8192) || errno != ENOENT)
			_exit(2);
		strcpy((char *)buf, "the child's");
		own = qaeMemMapContiguousIova(buf, 8192);
		if (!own || own == iova || qaeVirtToPhysNUMA(buf + 5) != own + 5)
			_exit(3);
		if (pf_sum(&pf, own, 12) != PF_DONE || pf_result(&pf) != fnv1a("the child's", 12))
			_exit(4);
		if (pf_sum(&pf, iova, 13) != PF_DONE || pf_result(&pf) != fnv1a("the parent's", 13))
			_exit(5);
		if (qaeMemUnmapContiguousIova(buf, 8192))
			_exit(6);
		_exit(0);
	}
	waitpid(child, &status, 0);
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status), "a child has a table of its own (%d)",
	      WEXITSTATUS(status));
	CHECK(qaeVirtToPhysNUMA(buf) == iova && dma(buf, iova, 8192), "  the parent's is as it was");
	CHECK(!qaeMemUnmapContiguousIova(buf, 8192), "  and is unmapped");
	munmap(buf, 8192);
}

static void closed(void)
{
	uint8_t *buf = pages(4 * 4096);
	uint64_t iova = qaeMemMapContiguousIova(buf, 4096);

	qaeMemMapContiguousIova(buf + 4096, 4096);
	CHECK(iova && reached(iova), "mapped, and then every descriptor closed");
	close_range(3, 1000, 0);
	CHECK(!reached(iova), "  the mappings went with theirs");
	REFUSED(qaeMemUnmapContiguousIova(buf, 4096), 1, ENOENT, "  an unmap says so");
	CHECK(!qaeVirtToPhysNUMA(buf) && !qaeVirtToPhysNUMA(buf + 4096), "  and nothing is found");
	iova = qaeMemMapContiguousIova(buf, 4096);
	CHECK(iova && dma(buf, iova, 4096), "  a new map works");
	close_range(3, 1000, 0);
	CHECK(qaeMemMapContiguousIova(buf + 8192, 4096) != 0, "  so does one that finds it out itself");
	CHECK(!qaeVirtToPhysNUMA(buf), "  and what was lost is not found");
	CHECK(!qaeMemUnmapContiguousIova(buf + 8192, 4096), "  unmapped");
	munmap(buf, 4 * 4096);
}

#define THREADS 4
#define ROUNDS 300

static void *busy(void *number)
{
	uint8_t *buf = pages(16 * 4096);
	size_t wrong = 0;

	for (int round = 0; round < ROUNDS; round++) {
		size_t size = 4096 * (1 + (round + (size_t)number) % 16);
		uint64_t iova = qaeMemMapContiguousIova(buf, size), second;

		wrong += !iova || qaeVirtToPhysNUMA(buf + size - 1) != iova + size - 1;
		wrong += qat_iommu_map_user(buf + 1, 10, BOTH, 0, &second) != 0;
		wrong += qaeVirtToPhysNUMA(buf + 2) != second + 1 || qaeVirtToPhysNUMA(buf) != iova;
		wrong += qat_iommu_unmap_user(buf + 1, 10) != 0;
		wrong += qaeMemUnmapContiguousIova(buf, size) != 0 || qaeVirtToPhysNUMA(buf);
	}
	munmap(buf, 16 * 4096);
	return (void *)wrong;
}

static void threads(void)
{
	pthread_t thread[THREADS];
	size_t wrong = 0;

	for (size_t i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, busy, (void *)i);
	for (size_t i = 0; i < THREADS; i++) {
		void *result;

		pthread_join(thread[i], &result);
		wrong += (size_t)result;
	}
	CHECK(!wrong, "%d threads, %d rounds each: %zu wrong", THREADS, ROUNDS, wrong);
}

static long locked(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[128];
	long kib = -1;

	while (fgets(line, sizeof(line), status))
		if (sscanf(line, "VmPin: %ld", &kib) == 1 || sscanf(line, "VmLck: %ld", &kib) == 1)
			if (kib)
				break;
	fclose(status);
	return kib;
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (pf_open(&pf)) {
		printf("no emulated PF\n");
		return 2;
	}
	compatible(1);
	compatible(4096);
	compatible(65536);
	compatible(2 * MIB);
	compatible(2 * MIB + 4096);
	compatible(64 * MIB);
	refusals();
	native();
	forked();
	closed();
	threads();
	CHECK(locked() == 0, "nothing stays pinned (%ld KiB)", locked());
	printf("%d failed\n", checks_failed);
	return checks_failed != 0;
}
