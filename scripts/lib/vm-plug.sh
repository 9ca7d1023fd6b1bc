# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Hot-plug at the guest's request: a process of its own that reads lines from the port "plug",
# has QEMU do it by QMP, and answers. A request is "TOKEN WORD N", its answer "TOKEN ok" or
# "TOKEN WHY-NOT". Both ends of each pipe are open here, so that no end of file ever comes.

# Seconds for what needs the guest: its driver may have much to undo.
PLUG_PATIENCE=100

declare -A PLUGGED=()

# start_plug DIR: QEMU has been started with the pipes in DIR.
start_plug() {
	local n id
	exec {PLUG}<>"$1/plug.out" {PLUG_IN}<>"$1/plug.in" {QMP}<>"$1/qmp.out" {QMP_IN}<>"$1/qmp.in"
	$VM_HOTPLUG || return 0
	for ((n = 0; n < VM_PFS; n++)); do
		for id in $(plug_ids "$n"); do
			PLUGGED[$id]=1
		done
	done
	plug_loop "$1" &
	PLUG_PID=$!
}

stop_plug() {
	[[ -z $PLUG_PID ]] || kill "$PLUG_PID" 2>/dev/null || true
}

# plug_ids N: QEMU's names of the PF and its VFs, the PF last: with it the guest is told.
plug_ids() {
	local vf
	for ((vf = VM_VFS - 1; vf >= 0; vf--)); do
		echo "pf$1.vf$vf"
	done
	echo "pf$1"
}

plug_loop() {
	local token word n why
	trap - EXIT
	qmp '"qmp_capabilities"' || true
	while read -r -u "$PLUG" token word n; do
		if why=$(plug_number "$n") && plug_do "$1" "$word" "$((10#$n))"; then
			why=ok
		fi
		echo "$token $why" >&"$PLUG_IN"
	done
}

plug_number() {
	if [[ ! $1 =~ ^[0-9]{1,2}$ ]] || ((10#$1 >= VM_PFS)); then
		echo "there is no PF $1"
		return 1
	fi
}

# plug_do DIR WORD N: 0, or why not in the variable why.
plug_do() {
	local id
	case $2 in
	unplug)
		# The attention button; the guest's own driver does the rest. All functions go together.
		qmp '"device_del"' "\"id\":\"pf$3\"" && plug_gone "$3"
		;;
	gone) plug_gone "$3" ;;
	plug)
		for id in $(plug_ids "$3"); do
			qmp '"device_add"' "$(vm_function "$1" "$id")" || return 1
			PLUGGED[$id]=1
		done
		;;
	*)
		why="unknown request $2"
		return 1
		;;
	esac
}

# plug_gone N: waits until QEMU has let go of all functions of PF N.
plug_gone() {
	local id end=$((SECONDS + PLUG_PATIENCE))
	for id in $(plug_ids "$1"); do
		while [[ -n ${PLUGGED[$id]:-} ]]; do
			if [[ $SECONDS -ge $end ]]; then
				why="the guest still holds $id after $PLUG_PATIENCE seconds"
				return 1
			fi
			qmp_line || true
		done
	done
}

# qmp_line: takes one line from QEMU, if one comes soon, into QMP_LINE.
qmp_line() {
	QMP_LINE=
	read -r -t 1 -u "$QMP" QMP_LINE || return 1
	if [[ $QMP_LINE =~ \"DEVICE_DELETED\".*\"device\":\ *\"([^\"]*)\" ]]; then
		unset "PLUGGED[${BASH_REMATCH[1]}]"
	fi
}

# qmp COMMAND [ARGUMENTS]: 0, or QEMU's reason in the variable why.
qmp() {
	local end=$((SECONDS + 30))
	# What is still there from before is no answer to this.
	while read -r -t 0 -u "$QMP"; do
		qmp_line || break
	done
	echo "{\"execute\":$1${2:+,\"arguments\":{$2\}}}" >&"$QMP_IN"
	while [[ $SECONDS -lt $end ]]; do
		qmp_line || continue
		case $QMP_LINE in
		*'"return"'*) return 0 ;;
		*'"error"'*)
			[[ $QMP_LINE =~ \"desc\":\ *\"([^\"]*)\" ]] || true
			why=${BASH_REMATCH[1]:-$QMP_LINE}
			return 1
			;;
		esac
	done
	why="QEMU does not answer"
	return 1
}

PLUG_PID=
QMP_LINE=
