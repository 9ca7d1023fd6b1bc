# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The packaging root: a Debian tree with the compilers of the build root and Debian's packaging
# tools, made at the first `make deb`. Whoever only builds and tests needs none of it.

# deb_root_of FUNCTION [ARG...]: one of lib/root.sh's functions, for this root's package list.
deb_root_of() (
	root_packages() {
		sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$LIB_DIR/deb-packages" | paste -sd,
	}
	"$@"
)

# deb_root: prints where it is; makes it first if it is missing.
deb_root() {
	local root tmp
	root=$(deb_root_of root_dir)
	if [[ ! -e $root/.toolchain ]]; then
		(
			exec 9>"$CACHE/lock.deb"
			flock 9
			[[ ! -e $root/.toolchain ]] || exit 0
			check_rights
			check_space "$CACHE" 4
			find_mirrors
			tmp=$(mktemp -d "$CACHE/deb-tmp.XXXXXX")
			# shellcheck disable=SC2064 # this very directory
			trap "rm -rf --one-file-system '$tmp'" EXIT
			chmod 755 "$tmp"
			step 'packaging root' "check the network and the mirror ($MIRROR; another: QAT_IOMMU_MIRROR=URL), then run this again" \
				deb_root_of make_root "$tmp/r" "$root"
		)
	fi
	same_toolchain "$root"
	echo "$root"
}

# same_toolchain ROOT: its compilers are the ones that the cached kernel was prepared with.
same_toolchain() {
	local built
	built=$(root_dir)/.toolchain
	cmp -s "$1/.toolchain" "$built" && return 0
	diff "$built" "$1/.toolchain" >&2 || true
	die "the packaging root has other compilers than the build root ('<' build, '>' packaging): Debian has updated them in between. Remove $1 and $(root_dir), then run this again"
}
