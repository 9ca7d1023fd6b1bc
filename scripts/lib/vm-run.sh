#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The inside half of scripts/vm: runs in the build root with the same arguments, starts the
# PFs and QEMU, follows the machine to its end and passes on the command's exit status.

# shellcheck source=/dev/null
for part in common root vm-options initramfs vm-clock vm-qemu vm-job vm-pfs vm-plug vm-report; do . "$(dirname "$0")/$part.sh"; done

vm_options "$@"
KERNEL=/kernel/$VM_KERNEL
REL=$(<"$KERNEL/release")
TMP=$(mktemp -d /run/vm.XXXXXX 2>/dev/null || mktemp -d)
STATUS=
QEMU_PID=
RELAYS=()

clean_up() {
	trap - EXIT INT TERM HUP
	stop_plug
	stop_qemu
	end_pfs
	[[ ${#RELAYS[@]} -eq 0 ]] || kill "${RELAYS[@]}" 2>/dev/null || true
	rm -rf "$TMP"
}

alive() {
	kill -0 "$1" 2>/dev/null
}

stop_qemu() {
	if [[ -n $QEMU_PID ]] && alive "$QEMU_PID"; then
		kill -KILL "$QEMU_PID" 2>/dev/null || true
		wait "$QEMU_PID" 2>/dev/null || true
	fi
}

# within SECONDS CONDITION...: waits until CONDITION holds; fails when it did not in time.
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[[ $SECONDS -le $end ]] || return 1
		sleep 0.05
	done
}

gone() {
	! alive "$1"
}

start_qemu() {
	local token=$1
	mkfifo "$TMP"/{ctl,plug,qmp}.{in,out} "$TMP/out" "$TMP/err"
	perl "$LIB_DIR/relay.pl" "$token" <"$TMP/out" &
	RELAYS+=($!)
	perl "$LIB_DIR/relay.pl" "$token" <"$TMP/err" >&2 &
	RELAYS+=($!)
	exec {CTL}<>"$TMP/ctl.out" {CTL_IN}<>"$TMP/ctl.in"
	vm_machine
	vm_clock
	vm_iommu
	vm_shares "${QAT_IOMMU_ROOT:-$(root_dir)}" "$KERNEL/modules/lib/modules/$REL"
	vm_ports "$TMP" "/proc/self/fd/$LOG_FD"
	vm_pfs "$TMP"
	vm_kernel "$KERNEL/vmlinuz" "$TMP/initrd"
	if $VM_SHELL; then
		"${QEMU[@]}" <&0 2>"$TMP/qemu.log" &
	else
		"${QEMU[@]}" </dev/null >"$TMP/qemu.log" 2>&1 &
	fi
	QEMU_PID=$!
	start_plug "$TMP"
}

# follow: talks with guest/session until QEMU has ended; sets STATUS if the command ended.
follow() {
	local part line='' word rest
	while :; do
		# A read that times out has still taken what there was of the line.
		part=
		if IFS= read -r -t 0.25 -u "$CTL" part; then
			read -r word rest <<<"$line$part"
			line=
			case $word in
			ready)
				signal_pfs USR1
				echo go >&"$CTL_IN"
				;;
			exit)
				signal_pfs USR2
				STATUS=$rest
				finish
				return
				;;
			fail) harness_failed "$rest" ;;
			esac
			continue
		fi
		line+=$part
		if ! alive "$QEMU_PID"; then
			return
		elif ! $VM_SHELL && [[ $SECONDS -ge $VM_TIMEOUT ]]; then
			timed_out
		elif ! alive "${RELAYS[0]}" && ! wait "${RELAYS[0]}"; then
			# Whoever reads our output has gone, as with `| head`: end like any program would.
			STATUS=141
			return
		elif pf_died; then
			harness_failed "$PF_DIED"
		fi
	done
}

# finish: lets the machine power off once all of the command's output has been passed on.
finish() {
	local relay
	for relay in "${RELAYS[@]}"; do
		within "$((VM_TIMEOUT > SECONDS ? VM_TIMEOUT - SECONDS : 1))" gone "$relay" || timed_out
	done
	echo off >&"$CTL_IN"
	within 20 gone "$QEMU_PID" || harness_failed "the machine did not power off"
}

main() {
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP

	rm -f "$VM_LOG"
	exec {LOG_FD}<>"$VM_LOG"
	TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
	vm_find_shares
	vm_job "$TMP" "$REL" "$TOKEN"
	mkdir "$TMP/cpio"
	mv "$TMP/job" "$TMP/cpio/job"
	{
		cat "$(initramfs "$KERNEL")"
		pack "$TMP/cpio"
	} >"$TMP/initrd"
	start_pfs "$TMP"
	start_qemu "$TOKEN"
	follow
	stop_qemu
	end_pfs
	merge_records
	kernel_reports
	[[ -n $STATUS ]] || harness_failed "the machine ended before the command did"
	exit "$STATUS"
}

# In one piece: bash reads a script as it goes, and this file may be changed meanwhile.
main; exit
