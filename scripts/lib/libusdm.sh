# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Intel's libusdm, the peer that programs use: from Debian unstable, kept under build/peer.

LIBUSDM=$PROJECT/build/peer

# The library and its header; its signature is checked, the age of the archive's index is not.
fetch_libusdm() {
	local apt deb
	[[ ! -e $LIBUSDM/.complete ]] || return 0
	mkdir -p "$LIBUSDM"
	apt=$(mktemp -d)
	mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/etc"
	: >"$apt/status"
	find_mirrors
	echo "deb [signed-by=$KEYRING] $MIRROR sid main" >"$apt/etc/sources.list"
	cat >"$apt/apt.conf" <<-END
		Dir::State "$apt/state";
		Dir::State::status "$apt/status";
		Dir::Cache "$apt/cache";
		Dir::Etc "$apt/etc";
		Dir::Etc::sourceparts "-";
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		Acquire::Languages "none";
		Acquire::Check-Valid-Until "false";
	END
	(
		cd "$apt"
		APT_CONFIG=$apt/apt.conf apt-get -qq update && APT_CONFIG=$apt/apt.conf apt-get -qq download libusdm0 libusdm-dev
	) || die "libusdm could not be fetched from Debian unstable"
	for deb in "$apt"/*.deb; do
		dpkg-deb -x "$deb" "$LIBUSDM"
	done
	rm -rf "$apt"
	touch "$LIBUSDM/.complete"
}

# libusdm_dir: where the shared object is.
libusdm_dir() {
	dirname "$(find "$LIBUSDM/usr/lib" -name 'libusdm.so.0' | head -n 1)"
}
