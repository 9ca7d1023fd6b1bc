# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The guest's time-stamp counter is this machine's own. A guest that measures how fast it runs, on
# a busy machine, can be wrong by a factor of ten, and all its time-outs with it: so it is told.

# tsc_khz: prints the frequency, or nothing where it cannot be found out.
tsc_khz() {
	local source=$LIB_DIR/tsc_khz.c program made
	program=$CACHE/tsc-khz-$(sha256sum <"$source" | cut -c1-12)
	if [[ ! -e $program ]]; then
		made=$(mktemp "$program.XXXXXX")
		if ! cc -O2 "$source" -o "$made" 2>/dev/null; then
			rm -f "$made"
			return 0
		fi
		chmod 755 "$made"
		mv "$made" "$program"
	fi
	"$program" || true
}
