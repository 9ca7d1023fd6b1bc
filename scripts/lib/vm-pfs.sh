# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The emulated PFs: one qat-pf process each, their marks and their records.

PF_PIDS=()
PF_DIED=

start_pfs() {
	local n id program=$PROJECT/build/bin/qat-pf options=()
	[[ $VM_DEVICE == pf && $VM_PFS -gt 0 ]] || return 0
	[[ -x $program ]] || harness_failed "there is no $program: run make user"
	# First-stage translation: QEMU tells of some mappings, and not when they go.
	[[ $VM_IOMMU != intel-fs ]] || options+=(--messages)
	options+=(--vfs "$VM_VFS" --stay)
	# QEMU aborts when a vfio-user device that has MSI-X is unplugged: it frees a part of it twice.
	! $VM_HOTPLUG || options+=(--no-msix)
	for ((n = 0; n < VM_PFS; n++)); do
		id=8086:${VM_PF_IDS[n < ${#VM_PF_IDS[@]} ? n : -1]}
		"$program" --socket "$TMP/pf$n.sock" --record "$TMP/pf$n.json" --name "pf$n" --id "$id" "${options[@]}" \
			>"$TMP/pf$n.log" 2>&1 </dev/null &
		PF_PIDS+=($!)
	done
	for ((n = 0; n < VM_PFS; n++)); do
		within 10 test -S "$TMP/pf$n.sock" || harness_failed "PF $n does not listen: $(tail -n 3 "$TMP/pf$n.log")"
	done
}

# pf_died: a PF ended while the machine still runs.
pf_died() {
	local n
	for n in "${!PF_PIDS[@]}"; do
		if ! alive "${PF_PIDS[$n]}" && alive "$QEMU_PID"; then
			PF_DIED="the emulated PF $n ended: $(tail -n 3 "$TMP/pf$n.log")"
			return 0
		fi
	done
	return 1
}

# signal_pfs SIGNAL: USR1 marks the end of boot in the records, USR2 the end of the command.
# The guest is idle meanwhile.
signal_pfs() {
	[[ ${#PF_PIDS[@]} -eq 0 ]] || kill "-$1" "${PF_PIDS[@]}" 2>/dev/null || true
}

# end_pfs: QEMU is gone; the PFs write their records and end.
end_pfs() {
	local pid
	signal_pfs TERM
	for pid in "${PF_PIDS[@]}"; do
		within 10 gone "$pid" || kill -KILL "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null || true
	done
	PF_PIDS=()
}

# merge_records: one JSON array of all records, in the order of the PFs.
merge_records() {
	local n separator=
	[[ -n $VM_PF_RECORD ]] || return 0
	{
		printf '['
		if [[ $VM_DEVICE == pf ]]; then
			for ((n = 0; n < VM_PFS; n++)); do
				[[ -s $TMP/pf$n.json ]] || harness_failed "PF $n wrote no record: $(tail -n 3 "$TMP/pf$n.log")"
				printf '%s\n' "$separator"
				cat "$TMP/pf$n.json"
				separator=,
			done
		fi
		printf ']\n'
	} >"$TMP/record.json"
	cp "$TMP/record.json" "$VM_PF_RECORD"
}
