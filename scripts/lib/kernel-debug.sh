# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The debug kernel: Debian's newest kernel source, with what debug-kernel.config asks for, made
# by LLVM (Rust with KASAN needs clang).
#
# Its directory holds: release, version, vmlinuz, modules/ (lib/modules beneath), src/ (what a
# module's build reads) and build/. Inside the build root it is /kernel/debug, always, because
# a built kernel keeps absolute paths.

DEBUG_CONFIG=$LIB_DIR/debug-kernel.config

# debug_recipe ROOT: what a debug kernel depends on besides its own version.
debug_recipe() {
	{
		cat "$1/.toolchain"
		# The compilers that .toolchain does not name.
		awk '/^Package: / { name = $2 } /^Version: / && name ~ /^(clang|lld|llvm)/ { print name, $2 }' \
			"$1/var/lib/dpkg/status"
		sed '/^[[:space:]]*#/d' "$LIB_DIR/kernel-debug.sh"
		asked_for
	} | sha256sum | cut -c1-12
}

# asked_for: the options of the fragment, without its comments.
asked_for() {
	grep -E '^(CONFIG_[A-Z0-9_]+=|# CONFIG_[A-Z0-9_]+ is not set$)' "$DEBUG_CONFIG"
}

# fetch_debug TMP: resolves, downloads and unpacks the source into TMP/debug.
fetch_debug() {
	local apt=$1/debug-apt x=$1/debug-x k=$1/debug found series version
	fetch_lists "$apt"
	found=$(newest_source "$apt" "$OLDEST_KERNEL")
	read -r series version <<<"$found"
	echo "resolved: linux-source-$series, package version $version"
	download "$apt" "$x" "$version" "linux-source-$series"
	mkdir -p "$k/build" "$k/src" "$k/modules/usr/lib/modules"
	ln -s usr/lib "$k/modules/lib"
	echo "$version" >"$k/version"
	tar -C "$k/src" --strip-components=1 -xf "$x/usr/src/linux-source-$series.tar.xz"
	rm -rf "$x" "$apt"
}

# as_asked CONFIG: every option of the fragment holds in CONFIG.
as_asked() {
	local line name lost=()
	while IFS= read -r line; do
		name=${line#\# }
		name=${name%%[= ]*}
		if [[ $line == \#* ]]; then
			! grep -q "^$name=" "$1" || lost+=("$name is set")
		else
			grep -q -x -F -- "$line" "$1" || lost+=("$line did not hold")
		fi
	done < <(asked_for)
	[[ ${#lost[@]} -gt 0 ]] || return 0
	echo "the kernel's configuration is not what debug-kernel.config asks for; look at what these depend on:"
	printf '%s\n' "${lost[@]}"
	return 1
}

# make_debug ROOT TMP FINAL: configures, builds, prunes and renames into place.
make_debug() {
	local root=$1 k=$2/debug final=$3 rel
	mkdir -p "$root/kernel/debug"
	SANDBOX_MORE=(--bind "$k" /kernel/debug)
	debug_make "$root" tinyconfig
	asked_for >>"$k/build/.config"
	debug_make "$root" olddefconfig
	as_asked "$k/build/.config"
	debug_make "$root" "-j$(nproc)" bzImage modules
	debug_make "$root" INSTALL_MOD_PATH=/kernel/debug/modules modules_install
	SANDBOX_MORE=()
	rel=$(<"$k/build/include/config/kernel.release")
	echo "$rel" >"$k/release"
	cp "$k/build/arch/x86/boot/bzImage" "$k/vmlinuz"
	# A symbol table of the whole kernel: modpost refuses a module that needs what is not in it.
	[[ -s $k/build/Module.symvers ]]
	rm -f "$k/modules/lib/modules/$rel/build"
	prune_source "$k/src"
	prune_build "$k/build"
	mv "$k" "$final"
}

# debug_make ROOT ARG...: make in the kernel's source.
debug_make() {
	local root=$1
	shift
	sandbox "$root" / make -C /kernel/debug/src O=/kernel/debug/build LLVM=1 "$@"
}

# prune_build BUILD: drops the objects; vmlinux stays, for addresses to be turned into lines.
prune_build() {
	prune_source "$1"
	find "$1" \( -name '*.o' -o -name '*.a' -o -name '*.cmd' \) -not -path "$1/scripts/*" -not -path "$1/tools/*" -delete
	rm -rf "$1/arch/x86/boot" "$1/arch/x86/kernel" "$1/arch/x86/mm" "$1"/.tmp_vmlinux* "$1/vmlinux.unstripped"
}
