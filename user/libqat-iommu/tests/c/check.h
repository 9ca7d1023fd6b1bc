/* SPDX-License-Identifier: GPL-2.0 */
/* One line for each thing that is checked, and the number of those that failed. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int checks_failed;

#define CHECK(what, ...)							\
	do {									\
		int good_ = (what);						\
		printf("%s  ", good_ ? "ok    " : "FAILED");			\
		printf(__VA_ARGS__);						\
		if (!good_) {							\
			printf("  [%s, errno %d: %s]", #what, errno, strerror(errno));	\
			checks_failed++;					\
		}								\
		printf("\n");							\
	} while (0)

/* A call that is refused for this reason. */
#define REFUSED(call, failure, reason, ...)					\
	do {									\
		errno = 0;							\
		CHECK((call) == (failure) && errno == (reason), __VA_ARGS__);	\
	} while (0)

#endif
