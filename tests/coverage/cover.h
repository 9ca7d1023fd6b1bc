/* SPDX-License-Identifier: GPL-2.0 */
/* What the module under test, built for coverage, tells qat_cover. */
#ifndef QAT_COVER_H
#define QAT_COVER_H

#include <linux/types.h>

/* What each basic block calls at its beginning. */
void __sanitizer_cov_trace_pc(void);

/* A place in the module's code, or in that of its init, from where that begins. */
void qat_cover_reached(bool init, unsigned long offset);

#endif
