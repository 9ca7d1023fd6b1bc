/* SPDX-License-Identifier: GPL-2.0 */
/*
 * As much of QEMU's plugin interface, version 7, as bench-plugin.c uses: QEMU exports
 * these functions, and Debian ships no header for them.
 */
#ifndef BENCH_PLUGIN_H
#define BENCH_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
struct qemu_plugin_tb;
struct qemu_plugin_insn;
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *into, size_t size);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*call)(struct qemu_plugin_tb *tb, void *user),
					   void *user);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*call)(unsigned int cpu, void *user),
					  int registers, void *user);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
					    void (*call)(unsigned int cpu, void *user), int registers, void *user);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*call)(void), void *user);
EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

#endif
