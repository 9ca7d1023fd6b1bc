# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Whether something built is as new as what it is made from.

# fresh STAMP PATH...: STAMP exists and nothing in the PATHs is newer. Directories count
# too: they change when a file in them is added or removed.
fresh() {
	local stamp=$1
	shift
	[[ -e $stamp ]] && [[ -z $(find "$@" -name target -prune -o -newer "$stamp" -print -quit) ]]
}

# alone FILE: waits until no other process has FILE locked, then keeps it locked.
alone() {
	mkdir -p "$(dirname "$1")"
	exec 8>"$1"
	flock 8
}
