# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The clean root that the packages are tested in: a small Debian tree, and the archives of
# everything that the tests install beside our packages, so that they need no network.

# Installed from the start: what any machine that boots has, and what scripts/guest needs.
DEB_BASE_PACKAGES=(systemd udev kmod busybox-static apt-utils)

# deb_base_wanted RELEASE: what is only downloaded.
deb_base_wanted() {
	local series=${1%%-*}
	[[ $series =~ ^[0-9]+\.[0-9]+ ]]
	echo "linux-image-$1 initramfs-tools linux-headers-$1 linux-source-${BASH_REMATCH[0]}" \
		dkms bindgen clang rustc rust-src bc bison flex libelf-dev libssl-dev pahole python3-minimal gcc libc6-dev pkg-config openssl
}

# deb_base: prints where it is; makes it first if it is missing. For root alone: dpkg gives files
# to many owners.
deb_base() {
	local release version key base tmp
	release=$(<"$CACHE/stock/release") version=$(<"$CACHE/stock/version")
	key=$({
		echo "$SUITE_NAME $release $version"
		sed '/^[[:space:]]*#/d' "$LIB_DIR/deb-base.sh"
	} | sha256sum | cut -c1-12)
	base=$CACHE/deb-base-$key
	if [[ ! -d $base ]]; then
		check_space "$CACHE" 4
		find_mirrors
		tmp=$(mktemp -d "$CACHE/deb-tmp.XXXXXX")
		# shellcheck disable=SC2064 # this very directory
		trap "rm -rf --one-file-system '$tmp'" EXIT
		step 'root for package tests' "check the network and the mirror; if the kernel $version is no longer in the archive, run 'scripts/setup --update'" \
			make_deb_base "$tmp" "$base" "$release" "$version"
	fi
	echo "$base"
}

# make_deb_base TMP FINAL RELEASE VERSION
make_deb_base() {
	local tmp=$1 final=$2 options
	mapfile -t options < <(host_apt_options)
	root_sources >"$tmp/sources"
	chmod 755 "$tmp"
	# Backports kernels need the backported linux-base; nothing else is taken from there unasked.
	printf 'Package: linux-base\nPin: release n=%s-backports\nPin-Priority: 900\n' "$SUITE_NAME" >"$tmp/preferences"
	mmdebstrap --mode=root --format=directory --variant=minbase --components=main --keyring="$KEYRING" \
		--include="$(IFS=,; echo "${DEB_BASE_PACKAGES[*]}")" --dpkgopt=force-unsafe-io --skip=cleanup/apt \
		--setup-hook="cp $tmp/preferences \"\$1/etc/apt/preferences.d/linux-base\"" \
		--customize-hook="chroot \"\$1\" apt-get -y -q --no-install-recommends --download-only install $(deb_base_wanted "$3")" \
		--customize-hook="chroot \"\$1\" dpkg --compare-versions \"\$(chroot \"\$1\" apt-cache show linux-headers-$3 | sed -n 's/^Version: //p')\" eq $4" \
		"${options[@]}" "$SUITE_NAME" "$tmp/root" "$tmp/sources"
	mv "$tmp/root" "$final"
}
