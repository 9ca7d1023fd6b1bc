# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The build root: a Debian tree with the toolchain and QEMU, made once per recipe.

# root_packages: the list, commas between.
root_packages() {
	sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$LIB_DIR/packages" | paste -sd,
}

# root_dir: where the root of the present recipe is, whether or not it exists yet.
root_dir() {
	local key
	key=$({ echo "$SUITE_NAME"; root_packages; sed '/^[[:space:]]*#/d' "$LIB_DIR/root.sh"; } | sha256sum | cut -c1-12)
	echo "$CACHE/root-$key"
}

# mmdebstrap_options: what is the same in every mode. QEMU alone comes from backports.
mmdebstrap_options() {
	# shellcheck disable=SC2016 # for the hook's own shell
	printf '%s\n' --variant=minbase --components=main \
		--keyring="$KEYRING" --include="$(root_packages)" \
		--dpkgopt=force-unsafe-io --dpkgopt=path-exclude=/usr/share/man/* \
		--dpkgopt=path-exclude=/usr/share/doc/* --dpkgopt=path-exclude=/usr/share/locale/* \
		'--setup-hook=printf "Package: src:qemu src:seabios\nPin: release n=*-backports\nPin-Priority: 900\n" >"$1/etc/apt/preferences"'
	host_apt_options
}

# note_toolchain ROOT: keeps the versions that decide whether a prepared kernel still fits.
note_toolchain() {
	sandbox "$1" / sh -ec 'rustc --version; bindgen --version; x86_64-linux-gnu-gcc-14 --version | head -n 1' >"$1.toolchain"
	mv "$1.toolchain" "$1/.toolchain"
}

# make_root TMP FINAL: makes the root in TMP and renames it into place.
make_root() {
	local tmp=$1 final=$2 options
	mapfile -t options < <(mmdebstrap_options)
	mkdir -p "$tmp"
	root_sources >"$tmp/sources"
	if [[ $EUID -eq 0 ]]; then
		mmdebstrap --mode=root --format=directory "${options[@]}" "$SUITE_NAME" "$tmp/root" "$tmp/sources"
	else
		# Through a tar so that every file is the user's own: no sub-uids, no root, to remove it.
		mkdir "$tmp/root"
		if can_unshare_root; then
			mmdebstrap --mode=unshare --format=tar "${options[@]}" "$SUITE_NAME" - - <"$tmp/sources"
		else
			as_root mmdebstrap --mode=root --format=tar "${options[@]}" "$SUITE_NAME" - - <"$tmp/sources"
		fi | tar -x -C "$tmp/root" --no-same-owner --exclude='./dev/*'
		chmod -R u+rwX "$tmp/root"
	fi
	note_toolchain "$tmp/root"
	mv "$tmp/root" "$final"
}
