# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Steps of set-up: each shows one line when it starts and one when it ends, writes its
# output to a log of its own, and when it fails names itself, the log and the remedy.

LOGS=$CACHE/logs

# progress STEP TEXT: one line with the seconds since the script started.
progress() {
	printf '[%4d s] %s: %s\n' "$SECONDS" "$1" "$2" >&2
}

# step NAME REMEDY FUNCTION [ARG...]: runs FUNCTION in a subshell with its output in a log;
# a failure ends the script. Never call it in a condition: bash ignores errexit there.
step() {
	local name=$1 remedy=$2 started=$SECONDS log status=0
	shift 2
	log=$LOGS/${name// /-}.log
	mkdir -p "$LOGS"
	progress "$name" started
	set +e
	(set -e; "$@") >"$log" 2>&1 </dev/null
	status=$?
	set -e
	if [[ $status -ne 0 ]]; then
		{
			progress "$name" "FAILED. The end of $log:"
			tail -n 15 "$log" | sed 's/^/    /'
			echo "    What to do: $remedy"
		} >&2
		exit 1
	fi
	progress "$name" "done in $((SECONDS - started)) s"
}
