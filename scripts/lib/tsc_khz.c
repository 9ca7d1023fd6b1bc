// SPDX-License-Identifier: GPL-2.0
/*
 * Prints how fast this processor's time-stamp counter runs, in kHz. Whatever else
 * the machine does: of many looks at both clocks, the quickest ones count.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct look {
	uint64_t ns;
	uint64_t tsc;
};

static uint64_t now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC_RAW, &at);
	return (uint64_t)at.tv_sec * 1000000000 + (uint64_t)at.tv_nsec;
}

static struct look look(void)
{
	struct look best = { 0 };
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 200; i++) {
		uint64_t before = now();
		uint64_t tsc = __rdtsc();
		uint64_t after = now();

		if (after - before < least) {
			least = after - before;
			best.ns = before + least / 2;
			best.tsc = tsc;
		}
	}
	return best;
}

int main(void)
{
	struct timespec pause = { .tv_nsec = 30 * 1000 * 1000 };
	struct look first = look();
	struct look last;

	nanosleep(&pause, NULL);
	last = look();
	printf("%llu\n", (unsigned long long)((last.tsc - first.tsc) * 1000000 /
					       (last.ns - first.ns)));
	return 0;
}
