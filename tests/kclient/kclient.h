/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KCLIENT_H
#define KCLIENT_H

#include <linux/types.h>

/* What the three calls return: CPA_STATUS_SUCCESS, else CPA_STATUS_FAIL. */
#define KCLIENT_SUCCESS		0

int kclient_demo(void);
int kclient_stress(u64 threads, u64 rounds, char *out, size_t room);
void kclient_debugfs_create(void);
void kclient_debugfs_remove(void);

#endif
