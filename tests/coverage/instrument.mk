# SPDX-License-Identifier: GPL-2.0
# For the Kbuild file of the module, where scripts/coverage builds it: every basic block tells
# where it is, as with KCOV, but to collector.c in the module itself, which hears of whatever
# thread the kernel runs it in.

qat_iommu-y += tests/coverage/collector.o

ccflags-y += -g -fsanitize-coverage=trace-pc
ifdef CONFIG_CC_IS_CLANG
ccflags-y += -mllvm -sanitizer-coverage-prune-blocks=0
endif
CFLAGS_REMOVE_tests/coverage/collector.o := -fsanitize-coverage=trace-pc
KASAN_SANITIZE_tests/coverage/collector.o := n

rustflags-y += -Cdebuginfo=2 -Cpasses=sancov-module
rustflags-y += -Cllvm-args=-sanitizer-coverage-level=3
rustflags-y += -Cllvm-args=-sanitizer-coverage-trace-pc
rustflags-y += -Cllvm-args=-sanitizer-coverage-prune-blocks=0
