# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Where things are, and how every script speaks to people. Sourced by all others.

set -euo pipefail

LIB_DIR=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SCRIPTS=$(dirname "$LIB_DIR")
PROJECT=$(dirname "$SCRIPTS")
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
CACHE=$(realpath -m "${QAT_IOMMU_CACHE:-$HOME/.cache/qat-iommu}")
SUITE_NAME=trixie

# say TEXT: one line for people, on stderr so that stdout stays a program's own.
say() {
	printf '%s\n' "$*" >&2
}

# die TEXT [EXIT]: what was wrong and what to do, then the end.
die() {
	say "${0##*/}: $1"
	exit "${2:-1}"
}

# need_value OPTION COUNT: refuses an option that lacks its value.
need_value() {
	[[ $2 -ge 2 ]] || die "$1 needs a value (see --help)" 2
}

# usage_of FILE: prints the comment block at the top of FILE as its help text.
usage_of() {
	sed -n '3,/^[^#]/{/^#/!d; s/^# \{0,1\}//; p}' "$1"
}
