// SPDX-License-Identifier: GPL-2.0
/*
 * A C program that makes the classic calls as standard input says, a line each,
 * and answers each line with the result and the name of errno. Written against
 * icp_sal_iommu.h and linked with -lqat_iommu like anyone's program.
 *
 *   size N              -> N
 *   map PHYS IOVA SIZE  -> result errno
 *   unmap IOVA SIZE     -> result errno
 *   child LINE          -> the answer to LINE of a child that fork() made, once
 *                          that has ended
 */
#define _GNU_SOURCE
#include <errno.h>
#include <icp_sal_iommu.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_NUMBERS 3

/* How many numbers follow a word; none may be cut short on the way. */
static int numbers(const char *text, uint64_t *number)
{
	char *end;
	int count;

	for (count = 0; count < MAX_NUMBERS; count++) {
		number[count] = strtoull(text, &end, 0);
		if (end == text)
			break;
		text = end;
	}
	return count;
}

static void answer(int32_t result)
{
	printf("%" PRId32 " %s", result, result ? strerrorname_np(errno) : "-");
}

static int in_child(char *line);

static int run(char *line)
{
	char *rest = strchr(line, ' ');
	uint64_t n[MAX_NUMBERS];
	int count;

	if (!rest)
		return -1;
	*rest++ = '\0';
	if (!strcmp(line, "child"))
		return in_child(rest);
	count = numbers(rest, n);
	errno = 0;
	if (!strcmp(line, "size") && count == 1)
		printf("%zu", icp_sal_iommu_get_remap_size(n[0]));
	else if (!strcmp(line, "map") && count == 3)
		answer(icp_sal_iommu_map(n[0], n[1], n[2]));
	else if (!strcmp(line, "unmap") && count == 2)
		answer(icp_sal_iommu_unmap(n[0], n[1]));
	else
		return -1;
	return 0;
}

static int in_child(char *line)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		status = run(line);
		fflush(stdout);
		_exit(status ? 1 : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status ? -1 : 0;
}

int main(void)
{
	char line[256];

	while (fgets(line, sizeof(line), stdin)) {
		if (run(line)) {
			fprintf(stderr, "classic: cannot do: %s\n", line);
			return 1;
		}
		putchar('\n');
		fflush(stdout);
	}
	return 0;
}
