#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Runs in a virtual machine with an owned PF: a kernel client maps a page, the PF reads it, the
# devices are suspended and resumed, the PF reads it again, and no more once it is unmapped.
#
# The shared directories do not live through that (9p has no suspend), so the second half runs
# from memory, speaks through the kernel log, and ends the machine by itself.

set -eu
here=$(dirname "${BASH_SOURCE[0]}")
insmod "$here/../build/module/$(uname -r)/qat_kclient.ko"
CONTROL=/sys/kernel/debug/qat_kclient/cmd

client() {
	echo "$*" >"$CONTROL"
	cat "$CONTROL"
}

pf=$(compgen -G '/sys/bus/pci/drivers/qat_iommu/0000:*' | head -n 1)
read -r BAR _ <"$pf/resource"
read -r id PHYS < <(client alloc 4096)
client fill "$id" 90 >/dev/null
SUM=$(client sum "$id")
client map "$PHYS" "$PHYS" 4096 >/dev/null

mkdir /run/memory
cp "$(command -v busybox)" /run/memory/busybox
cat >/run/memory/second_half <<'END'
register() {
	/run/memory/busybox devmem $((BAR + $1)) 64 $2
}

# What the PF, which sums a page up, makes of it.
look() {
	register 0x08 $PHYS
	register 0x18 4096
	register 0x20 3
	tries=0
	while [ $(($(register 0x28))) = 0 ] && [ $tries -lt 100 ]; do
		tries=$((tries + 1))
	done
	said="ended with status $(register 0x28)"
	if [ $(($(register 0x28))) = 2 ]; then
		said='is refused'
	elif [ $(($(register 0x28))) = 1 ] && [ $(($(register 0x40))) = $((SUM)) ]; then
		said='reads it'
	fi
	echo "suspend test: $1 the PF $said" >/dev/kmsg
}

look 'before,'
echo devices >/sys/power/pm_test
echo freeze >/sys/power/state && echo 'suspend test: suspended and resumed' >/dev/kmsg
look 'after,'
echo "unmap $PHYS 4096" >"$CONTROL"
look 'unmapped,'
echo b >/proc/sysrq-trigger
END
export BAR PHYS SUM CONTROL
exec /run/memory/busybox ash /run/memory/second_half
