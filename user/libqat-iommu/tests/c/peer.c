// SPDX-License-Identifier: GPL-2.0
/*
 * What the USDM-compatible calls do, as observations rather than as checks: the same
 * program on libusdm, on libusdm with libqat_iommu preloaded, and on libqat_iommu with
 * the module, each time with QEMU's edu device as the judge. The results are the table
 * of docs/migration.md, which also says how to run it.
 *
 *	peer vfio|pf PCI-ADDRESS
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vfio.h>
#include <qae_mem.h>

#define PAGE 4096
#define MIB ((size_t)1 << 20)

static volatile uint8_t *bar;
static int container = -1;
static uint64_t *scratch;
static uint64_t scratch_iova;

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

static void open_vfio(const char *address)
{
	struct vfio_region_info config = { .argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX };
	struct vfio_region_info region = { .argsz = sizeof(region), .index = 0 };
	char path[128], link[128];
	uint16_t command = 6;
	int group, device;
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	length = readlink(path, link, sizeof(link) - 1);
	if (length < 0)
		fail(path);
	link[length] = 0;
	snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);
	container = open("/dev/vfio/vfio", O_RDWR);
	group = open(path, O_RDWR);
	if (container < 0 || group < 0)
		fail(path);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) ||
	    ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		fail("VFIO_SET_IOMMU");
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	if (device < 0 || ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region) ||
	    ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config))
		fail("VFIO device");
	if (pwrite(device, &command, 2, config.offset + 4) != 2)
		fail("bus mastering");
	bar = mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, region.offset);
	if (bar == MAP_FAILED)
		fail("mmap");
	/* Twice, as with two devices: libusdm forgets reserved ranges the first time. */
	if (qaeRegisterDevice(container) || (getenv("PEER_TWICE") && qaeRegisterDevice(container)))
		fail("qaeRegisterDevice");
}

static void open_pf(const char *address)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource0", address);
	fd = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	if (fd < 0)
		fail(path);
	bar = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bar == MAP_FAILED)
		fail("mmap");
	close(fd);
}

static void edu(uint64_t from, uint64_t to, uint64_t command)
{
	volatile uint64_t *registers = (volatile uint64_t *)(bar + 0x80);

	registers[0] = from;
	registers[1] = to;
	registers[2] = 8;
	registers[3] = command;
	while (registers[3] & 1)
		;
}

/* The word that the device finds at an IOVA; 0 where it is refused. */
static uint64_t seen(uint64_t iova)
{
	*scratch = 0;
	edu(iova, 0x40000, 1);
	edu(0x40000, scratch_iova, 3);
	return *(volatile uint64_t *)scratch;
}

static uint64_t *buffer(size_t size, uint64_t mark)
{
	uint64_t *buf = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (buf == MAP_FAILED)
		fail("mmap");
	for (size_t at = 0; at < size; at += PAGE)
		buf[at / 8] = mark + at / PAGE;
	/* So that the next one is not its neighbour by chance. */
	munmap((uint8_t *)buf + size, PAGE);
	return buf;
}

#define AT(buf, offset) ((void *)((uint8_t *)(buf) + (offset)))
#define SAY(name, ...) (printf("%-44s ", name), printf(__VA_ARGS__), printf("\n"), fflush(stdout))
#define WHY (errno ? strerrorname_np(errno) : "-")

static const char *which(uint64_t word, uint64_t mark)
{
	return word >= mark && word < mark + 1024 ? "reached" : word ? "ANOTHER BUFFER" : "refused";
}

int main(int argc, char **argv)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	uint64_t *one, *other, iova, again;
	int result, status, mapped;
	pid_t child;

	if (argc != 3)
		return 2;
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	if (strcmp(argv[1], "pf"))
		open_vfio(argv[2]);
	else
		open_pf(argv[2]);
	scratch = buffer(PAGE, 0);
	scratch_iova = qaeMemMapContiguousIova(scratch, PAGE);
	if (!scratch_iova)
		fail("qaeMemMapContiguousIova");

	one = buffer(16 * PAGE, 0x1000);
	iova = qaeMemMapContiguousIova(one, 16 * PAGE);
	SAY("map 64 KiB", "%s", iova ? "mapped" : "failed");
	SAY("  device reads first and last page", "%s, %s", which(seen(iova), 0x1000),
	    which(seen(iova + 15 * PAGE), 0x1000));
	SAY("  look-up of +0x5678", "%s", qaeVirtToPhysNUMA(AT(one, 0x5678)) == iova + 0x5678 ? "right" : "wrong");
	result = qaeMemUnmapContiguousIova(one, 16 * PAGE);
	SAY("unmap", "%d", result);
	SAY("  look-up of +0 and +0x1000 afterwards", "%#llx, %#llx",
	    (unsigned long long)qaeVirtToPhysNUMA(one),
	    (unsigned long long)qaeVirtToPhysNUMA(AT(one, 0x1000)));
	SAY("  device", "%s", which(seen(iova), 0x1000));
	errno = 0;
	result = qaeMemUnmapContiguousIova(one, 16 * PAGE);
	SAY("unmap once more", "%d %s", result, WHY);
	errno = 0;
	result = qaeMemUnmapContiguousIova(AT(one, 0x1000), PAGE);
	SAY("unmap of a page within what is unmapped", "%d %s", result, WHY);

	iova = qaeMemMapContiguousIova(one, 16 * PAGE);
	errno = 0;
	again = qaeMemMapContiguousIova(one, 16 * PAGE);
	SAY("map the same buffer again", "%s %s", again ? "mapped" : "0", WHY);
	qaeMemUnmapContiguousIova(one, 16 * PAGE);
	SAY("  after one unmap the device", "%s, %s", which(seen(iova), 0x1000),
	    again ? which(seen(again), 0x1000) : "-");
	if (again)
		qaeMemUnmapContiguousIova(one, 16 * PAGE);

	one = buffer(4 * MIB, 0x1000);
	iova = qaeMemMapContiguousIova(one, 4 * MIB);
	errno = 0;
	result = qaeMemUnmapContiguousIova(one, 2 * MIB);
	SAY("short unmap (2 of 4 MiB)", "%d %s", result, WHY);
	SAY("  device at the start and beyond 2 MiB", "%s, %s", which(seen(iova), 0x1000),
	    which(seen(iova + 2 * MIB), 0x1000));
	SAY("  look-up of the start", "%s", qaeVirtToPhysNUMA(one) == iova ? "right" : "0");
	other = buffer(2 * MIB, 0x8000);
	again = qaeMemMapContiguousIova(other, 2 * MIB);
	SAY("  then another 2 MiB are mapped: the device", "%s", which(seen(again), 0x8000));
	errno = 0;
	result = qaeMemUnmapContiguousIova(one, 4 * MIB);
	SAY("  right unmap of the first", "%d %s", result, WHY);
	qaeMemUnmapContiguousIova(other, 2 * MIB);

	one = buffer(4 * MIB, 0x1000);
	iova = qaeMemMapContiguousIova(one, 4 * MIB);
	errno = 0;
	result = qaeMemUnmapContiguousIova(AT(one, 2 * MIB), 2 * MIB);
	SAY("interior unmap", "%d %s", result, WHY);
	SAY("  device there", "%s", which(seen(iova + 2 * MIB), 0x1000));
	SAY("  look-up there", "%s", qaeVirtToPhysNUMA(AT(one, 2 * MIB)) ? "found" : "0");
	errno = 0;
	result = qaeMemUnmapContiguousIova(one, 4 * MIB);
	SAY("  right unmap", "%d %s", result, WHY);

	one = buffer(2 * PAGE, 0x1000);
	errno = 0;
	iova = qaeMemMapContiguousIova(one, 5000);
	SAY("map 5000 bytes", "%s %s", iova ? "mapped" : "0", WHY);
	if (iova)
		qaeMemUnmapContiguousIova(one, 5000);
	errno = 0;
	iova = qaeMemMapContiguousIova(AT(one, 16), PAGE);
	SAY("map at an odd address", "%s %s", iova ? "mapped" : "0", WHY);
	errno = 0;
	iova = qaeMemMapContiguousIova(one, 2048 * MIB + PAGE);
	SAY("map more than 2 GiB", "%s %s", iova ? "mapped" : "0", WHY);
	munmap(AT(one, PAGE), PAGE);
	errno = 0;
	iova = qaeMemMapContiguousIova(one, 2 * PAGE);
	SAY("map a half-unmapped buffer", "%s %s", iova ? "mapped" : "0", WHY);

	one = buffer(PAGE, 0x1000);
	iova = qaeMemMapContiguousIova(one, PAGE);
	child = fork();
	if (!child)
		_exit((qaeVirtToPhysNUMA(one) != 0) | (qaeMemUnmapContiguousIova(one, PAGE) == 0) << 1);
	waitpid(child, &status, 0);
	SAY("a child: look-up, unmap", "%s, %s", WEXITSTATUS(status) & 1 ? "found" : "0",
	    WEXITSTATUS(status) & 2 ? "0 (success)" : "1");
	SAY("  the parent's device afterwards", "%s", which(seen(iova), 0x1000));
	qaeMemUnmapContiguousIova(one, PAGE);

	one = buffer(2500 * PAGE, 0x1000);
	for (mapped = 0, errno = 0; mapped < 2500; mapped++)
		if (!qaeMemMapContiguousIova(AT(one, mapped * PAGE), PAGE))
			break;
	SAY("2,500 maps of a page", "%d mapped %s", mapped, mapped < 2500 ? WHY : "");
	while (mapped--)
		qaeMemUnmapContiguousIova(AT(one, mapped * PAGE), PAGE);

	if (container >= 0) {
		one = buffer(PAGE, 0x1000);
		iova = qaeMemMapContiguousIova(one, PAGE);
		if (getenv("PEER_TWICE"))
			qaeUnregisterDevice(container);
		result = qaeUnregisterDevice(container);
		SAY("unregister", "%d", result);
		SAY("  look-up of what was mapped", "%s", qaeVirtToPhysNUMA(one) ? "found" : "0");
	}
	return 0;
}
