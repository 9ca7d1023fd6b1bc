// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU that counts the guest's instructions between the marks of
 * user/bench (clock.rs): NOPs whose displacement is 0x71a70001 (a map begins),
 * 0x71a70002 (an unmap), 0x71a70003 (something else) or 0x71a70000 (it ends).
 *
 * At the end it writes to the file of its argument out= how often each mark was
 * passed, and a line for each block of instructions that was executed after it: mark,
 * address, instructions, entries.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench-plugin.h"

EXPORT int qemu_plugin_version = 7;

#define KINDS 4
#define MARK 0x71a70000u

/* A block as it was translated; the same address may be translated often. */
struct block {
	struct block *next;
	uint64_t address;
	uint64_t instructions;
	uint64_t entries[KINDS];
};

static struct block *blocks;
static const char *out;
/* Which mark was passed last; one processor. */
static unsigned int kind;
static uint64_t passes[KINDS];

static void passed(unsigned int cpu, void *user)
{
	(void)cpu;
	kind = (unsigned int)(uintptr_t)user;
	passes[kind]++;
}

static void entered(unsigned int cpu, void *user)
{
	struct block *block = user;

	(void)cpu;
	block->entries[kind]++;
}

static bool is_mark(const struct qemu_plugin_insn *insn, unsigned int *which)
{
	static const uint8_t nop[] = { 0x0f, 0x1f, 0x84, 0x00 };
	uint8_t data[8];
	uint32_t number;

	if (qemu_plugin_insn_size(insn) != sizeof(data) ||
	    qemu_plugin_insn_data(insn, data, sizeof(data)) != sizeof(data) ||
	    memcmp(data, nop, sizeof(nop)))
		return false;
	memcpy(&number, data + sizeof(nop), sizeof(number));
	*which = number - MARK;
	return *which < KINDS;
}

static void translated(struct qemu_plugin_tb *tb, void *user)
{
	struct block *block = calloc(1, sizeof(*block));
	unsigned int which;

	(void)user;
	if (!block)
		abort();
	block->address = qemu_plugin_tb_vaddr(tb);
	block->instructions = qemu_plugin_tb_n_insns(tb);
	block->next = blocks;
	blocks = block;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, entered, 0, block);
	for (size_t i = 0; i < block->instructions; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		if (is_mark(insn, &which))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, passed, 0, (void *)(uintptr_t)which);
	}
}

static void ended(void)
{
	FILE *file = fopen(out, "w");

	if (!file) {
		perror(out);
		return;
	}
	for (unsigned int i = 1; i < KINDS; i++)
		fprintf(file, "passes %u %" PRIu64 "\n", i, passes[i]);
	for (const struct block *block = blocks; block; block = block->next)
		for (unsigned int i = 1; i < KINDS; i++)
			if (block->entries[i])
				fprintf(file, "%u %" PRIx64 " %" PRIu64 " %" PRIu64 "\n", i, block->address,
					block->instructions, block->entries[i]);
	fclose(file);
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++)
		if (!strncmp(argv[i], "out=", 4))
			out = argv[i] + 4;
	if (!out) {
		fprintf(stderr, "the plugin needs out=FILE\n");
		return 1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated, NULL);
	qemu_plugin_register_atexit_cb(id, ended, NULL);
	return 0;
}
