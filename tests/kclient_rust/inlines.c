// SPDX-License-Identifier: GPL-2.0
/* This test uses the example's module of the calls (remap.rs), and so what that needs. */
#include "../../examples/kernel-rust/inlines.c"
