# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The bad ends of a virtual machine: what is shown, and with which exit status.

console() {
	tr -d '\r' <"/proc/self/fd/$LOG_FD"
}

console_tail() {
	say "the end of the machine's console ($VM_LOG):"
	console | tail -n "${1:-12}" | sed 's/^/    /' >&2
}

# harness_failed TEXT: the machine is ended, 125.
harness_failed() {
	stop_qemu
	say "vm: $1"
	if [[ -s $TMP/qemu.log ]]; then
		sed 's/^/    qemu: /' "$TMP/qemu.log" >&2
	fi
	if [[ -s /proc/self/fd/$LOG_FD ]]; then
		console_tail
	fi
	exit 125
}

timed_out() {
	stop_qemu
	console_tail 40
	say "vm: ended after $VM_TIMEOUT seconds (--timeout)"
	exit 124
}

# kernel_reports: bugs that the kernel has found in itself outrank the command's status.
# A user program that crashes is its own affair ("traps:").
kernel_reports() {
	local found
	found=$(console | grep -n -E -f "$LIB_DIR/kernel-reports" | grep -v -E '\] traps: ' || true)
	[[ -n $found ]] || return 0
	say "vm: the kernel reported (all of it in $VM_LOG):"
	head -n 20 <<<"$found" | sed 's/^/    /' >&2
	exit 125
}
