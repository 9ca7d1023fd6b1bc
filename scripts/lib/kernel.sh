# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The stock kernel: its image and modules as shipped, and its source prepared so that a
# Rust module built against it loads into it.
#
# A kernel directory holds: release, version, config, vmlinuz, modules/ (lib/modules
# beneath), src/ and build/ (prepared). Inside the build root it is /kernel/stock, always,
# because a prepared kernel keeps absolute paths.

OLDEST_KERNEL=7.2

# What Debian strips from the configs it ships; olddefconfig adds them again.
STRIPPED='BUILD_SALT|MODULE_SIG_ALL|MODULE_SIG_KEY|SYSTEM_TRUSTED_KEYS'

# kernel_recipe ROOT: what a prepared kernel depends on besides its own version.
kernel_recipe() {
	{
		cat "$1/.toolchain"
		sed '/^[[:space:]]*#/d' "$LIB_DIR/kernel.sh"
	} | sha256sum | cut -c1-12
}

# fetch_kernel TMP: resolves, downloads and unpacks into TMP/kernel.
fetch_kernel() {
	local apt=$1/apt x=$1/x k=$1/kernel found rel version packages
	fetch_lists "$apt"
	found=$(newest_kernel "$apt" "$OLDEST_KERNEL")
	read -r rel version <<<"$found"
	echo "resolved: $rel, package version $version"
	mapfile -t packages < <(kernel_packages "$apt" "$rel" "$version")
	[[ $rel =~ ^[0-9]+\.[0-9]+ ]]
	download "$apt" "$x" "$version" "${packages[@]}" "linux-headers-$rel" "linux-source-${BASH_REMATCH[0]}"
	mkdir -p "$k/modules/usr/lib/modules" "$k/build" "$k/src"
	ln -s usr/lib "$k/modules/lib"
	echo "$rel" >"$k/release"
	echo "$version" >"$k/version"
	take_image "$x" "$k" "$rel"
	tar -C "$k/src" --strip-components=1 -xf "$x/usr/src/linux-source-${BASH_REMATCH[0]}.tar.xz"
	rm -rf "$x" "$apt"
}

# take_image X KERNEL REL: sorts the unpacked packages into the kernel directory.
take_image() {
	local x=$1 k=$2 rel=$3 modules=$1/usr/lib/modules/$3 headers=$1/usr/src/linux-headers-$3
	[[ -d $modules ]] || modules=$x/lib/modules/$rel
	rm -f "$modules/build" "$modules/source"
	first_of "$k/vmlinuz" "$modules/vmlinuz" "$x/boot/vmlinuz-$rel"
	first_of "$k/config" "$modules/config" "$x/boot/config-$rel" "$headers/.config"
	first_of "$k/build/Module.symvers.stock" "$headers/Module.symvers"
	mv "$modules" "$k/modules/usr/lib/modules/"
}

# first_of TARGET FILE...: copies the first FILE that exists.
first_of() {
	local target=$1 file
	shift
	for file in "$@"; do
		if [[ -f $file ]]; then
			cp "$file" "$target"
			return 0
		fi
	done
	echo "the kernel packages hold none of: $*" >&2
	return 1
}

# same_config SHIPPED MADE: the two say the same but for what Debian strips.
same_config() {
	local differing
	differing=$(diff <(grep -E '^(# )?CONFIG_' "$1" | sort) <(grep -E '^(# )?CONFIG_' "$2" | sort) |
		grep '^[<>]' | grep -v -E "CONFIG_($STRIPPED)[= ]" || true)
	[[ -z $differing ]] && return 0
	echo "the configuration is not the distribution's ('<' shipped, '>' made here):"
	echo "$differing"
	return 1
}

# prepare_kernel ROOT TMP FINAL: configures, prepares, prunes and renames into place.
prepare_kernel() {
	local root=$1 k=$2/kernel final=$3 rel
	rel=$(<"$k/release")
	mkdir -p "$root/kernel/stock"
	cp "$k/config" "$k/build/.config"
	SANDBOX_MORE=(--bind "$k" /kernel/stock)
	kernel_make "$root" "$rel" olddefconfig
	same_config "$k/config" "$k/build/.config"
	kernel_make "$root" "$rel" "-j$(nproc)" modules_prepare
	sandbox "$root" / depmod -b /kernel/stock/modules "$rel"
	SANDBOX_MORE=()
	mv "$k/build/Module.symvers.stock" "$k/build/Module.symvers"
	prune_source "$k/src"
	mv "$k" "$final"
}

# kernel_make ROOT REL ARG...: make in the kernel's source, with the compilers Debian uses.
kernel_make() {
	local root=$1 rel=$2
	shift 2
	sandbox "$root" / make -C /kernel/stock/src O=/kernel/stock/build KERNELRELEASE="$rel" \
		CC=x86_64-linux-gnu-gcc-14 HOSTCC=gcc-14 "$@"
}

# prune_source SRC: drops what no module build reads.
prune_source() {
	local arch
	(
		cd "$1"
		rm -rf Documentation block certs crypto drivers fs init io_uring ipc kernel mm net samples \
			security sound usr virt tools/testing tools/perf
		for arch in arch/*/; do
			[[ $arch == arch/x86/ ]] || rm -rf "$arch"
		done
	)
}
