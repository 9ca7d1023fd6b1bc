// SPDX-License-Identifier: GPL-2.0
/*
 * Part of the module where it is built for scripts/coverage: what its basic blocks call, each at
 * its beginning. Takes the place of KCOV's function, which knows of one thread at a time only.
 * What was reached is kept by qat_cover, which outlives the module; without that nothing is.
 */
#include <linux/module.h>

#include "cover.h"

/* The module can be loaded without qat_cover. */
#pragma weak qat_cover_reached

notrace void __sanitizer_cov_trace_pc(void)
{
	unsigned long pc = _RET_IP_;
	bool init = within_module_init(pc, THIS_MODULE);
	enum mod_mem_type part = init ? MOD_INIT_TEXT : MOD_TEXT;

	if (qat_cover_reached)
		qat_cover_reached(init, pc - (unsigned long)THIS_MODULE->mem[part].base);
}
