// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU that counts the guest's instructions between the marks of
 * user/bench (clock.rs): NOPs whose displacement is 0x71a70001 (a map begins),
 * 0x71a70002 (an unmap), 0x71a70003 (something else) or 0x71a70000 (it ends).
 *
 * It also follows the locks that modules take: enter=ADDRESS and leave=ADDRESS name
 * functions of the kernel that take and give back the lock in their first argument,
 * pin=ADDRESS one during which none should be held.
 *
 * At the end it writes to the file of its argument out= how often each mark was
 * passed, and a line for each block of instructions that was executed after it: mark,
 * address, instructions, entries; a line "lock" for each place in a module that took
 * one: mark, address, how often, instructions while it was held; and a line "pins":
 * mark, how often, how many locks were held.
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

/* Where modules are when addresses are not randomised. */
#define MODULES 0xffffffffa0000000u
#define MODULES_END 0xffffffffff000000u

enum function { ENTER, LEAVE, PIN, FUNCTIONS };

#define NAMES 16
static uint64_t functions[FUNCTIONS][NAMES];

/* A place that takes a lock. */
struct place {
	struct place *next;
	uint64_t caller;
	uint64_t often[KINDS];
	uint64_t held[KINDS];
};

static struct place *places;

#define DEPTH 16
/* The locks that are held: the innermost is the last. */
static struct {
	uint64_t lock;
	uint64_t since;
	struct place *place;
} held[DEPTH];
static unsigned int depth;
static uint64_t pins[KINDS], pins_with_locks[KINDS];
/* Instructions since the first mark. */
static uint64_t clock_now;

/* A register by its name, at a call back that may read them. */
static uint64_t reg(const char *name)
{
	static struct array *all, *value;
	const struct qemu_plugin_reg_descriptor *one;
	uint64_t number = 0;

	if (!all) {
		all = qemu_plugin_get_registers();
		value = g_byte_array_new();
	}
	one = (const struct qemu_plugin_reg_descriptor *)all->data;
	for (unsigned int i = 0; i < all->length; i++) {
		if (!one[i].name || strcmp(one[i].name, name))
			continue;
		g_byte_array_set_size(value, 0);
		qemu_plugin_read_register(one[i].handle, value);
		if (value->length >= sizeof(number))
			memcpy(&number, value->data, sizeof(number));
		break;
	}
	return number;
}

/* The innermost function of a module that has called: it has left its address on the stack. */
static uint64_t caller(void)
{
	static struct array *stack;
	uint64_t word;

	if (!stack)
		stack = g_byte_array_new();
	g_byte_array_set_size(stack, 0);
	if (!qemu_plugin_read_memory_vaddr(reg("rsp"), stack, 12 * sizeof(word)))
		return 0;
	for (unsigned int i = 0; i + sizeof(word) <= stack->length; i += sizeof(word)) {
		memcpy(&word, stack->data + i, sizeof(word));
		if (word >= MODULES && word < MODULES_END)
			return word;
	}
	return 0;
}

static struct place *place_of(uint64_t address)
{
	struct place *place;

	for (place = places; place; place = place->next)
		if (place->caller == address)
			return place;
	place = calloc(1, sizeof(*place));
	if (!place)
		abort();
	place->caller = address;
	place->next = places;
	places = place;
	return place;
}

static void entering(unsigned int cpu, void *user)
{
	uint64_t address;

	(void)cpu;
	(void)user;
	if (!kind || depth == DEPTH)
		return;
	address = caller();
	if (!address)
		return;
	held[depth].lock = reg("rdi");
	held[depth].since = clock_now;
	held[depth].place = place_of(address);
	held[depth].place->often[kind]++;
	depth++;
}

static void leaving(unsigned int cpu, void *user)
{
	uint64_t lock;

	(void)cpu;
	(void)user;
	if (!depth)
		return;
	lock = reg("rdi");
	for (unsigned int i = depth; i-- > 0;) {
		if (held[i].lock != lock)
			continue;
		held[i].place->held[kind] += clock_now - held[i].since;
		memmove(&held[i], &held[i + 1], (--depth - i) * sizeof(held[0]));
		return;
	}
}

static void pinning(unsigned int cpu, void *user)
{
	(void)cpu;
	(void)user;
	pins[kind]++;
	pins_with_locks[kind] += depth > 0;
}

static void follow(struct qemu_plugin_insn *insn)
{
	static void (*const calls[FUNCTIONS])(unsigned int cpu, void *user) = { entering, leaving, pinning };
	uint64_t address = qemu_plugin_insn_vaddr(insn);

	for (unsigned int i = 0; i < FUNCTIONS; i++)
		for (unsigned int j = 0; j < NAMES && functions[i][j]; j++)
			if (functions[i][j] == address)
				qemu_plugin_register_vcpu_insn_exec_cb(insn, calls[i], 1, NULL);
}

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
	clock_now += block->instructions;
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
		follow(insn);
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
	for (const struct place *place = places; place; place = place->next)
		for (unsigned int i = 1; i < KINDS; i++)
			if (place->often[i])
				fprintf(file, "lock %u %" PRIx64 " %" PRIu64 " %" PRIu64 "\n", i, place->caller,
					place->often[i], place->held[i]);
	for (unsigned int i = 1; i < KINDS; i++)
		fprintf(file, "pins %u %" PRIu64 " %" PRIu64 "\n", i, pins[i], pins_with_locks[i]);
	fclose(file);
}

/* add WHICH ADDRESS: one more function to follow. */
static void add(enum function which, const char *address)
{
	for (unsigned int i = 0; i < NAMES; i++) {
		if (!functions[which][i]) {
			functions[which][i] = strtoull(address, NULL, 16);
			return;
		}
	}
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			out = argv[i] + 4;
		else if (!strncmp(argv[i], "enter=", 6))
			add(ENTER, argv[i] + 6);
		else if (!strncmp(argv[i], "leave=", 6))
			add(LEAVE, argv[i] + 6);
		else if (!strncmp(argv[i], "pin=", 4))
			add(PIN, argv[i] + 4);
	}
	if (!out) {
		fprintf(stderr, "the plugin needs out=FILE\n");
		return 1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated, NULL);
	qemu_plugin_register_atexit_cb(id, ended, NULL);
	return 0;
}
