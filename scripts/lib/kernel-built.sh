# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The kernels that are built here from Debian's newest kernel source, each with what its
# NAME-kernel.config asks for:
#
#   debug   finds mistakes; made by LLVM (Rust with KASAN needs clang)
#   perf    is measured; made by the compilers of the stock kernel
#
# A kernel's directory holds: release, version, vmlinuz, modules/ (lib/modules beneath), src/
# (what a module's build reads) and build/. Inside the build root it is /kernel/NAME, always,
# because a built kernel keeps absolute paths.

# built_config NAME: the file of its options.
built_config() {
	echo "$LIB_DIR/$1-kernel.config"
}

# built_flags NAME: how make is told which compilers to use, for the kernel and for its modules.
built_flags() {
	case $1 in
	debug) echo LLVM=1 ;;
	perf) echo CC=x86_64-linux-gnu-gcc-14 HOSTCC=gcc-14 ;;
	esac
}

# built_recipe NAME ROOT: what such a kernel depends on besides its own version.
built_recipe() {
	{
		cat "$2/.toolchain"
		# The compilers that .toolchain does not name.
		[[ $1 != debug ]] || awk '/^Package: / { name = $2 } /^Version: / && name ~ /^(clang|lld|llvm)/ { print name, $2 }' \
			"$2/var/lib/dpkg/status"
		sed '/^[[:space:]]*#/d' "$LIB_DIR/kernel-built.sh"
		asked_for "$1"
	} | sha256sum | cut -c1-12
}

# asked_for NAME: the options of the fragment, without its comments.
asked_for() {
	grep -E '^(CONFIG_[A-Z0-9_]+=|# CONFIG_[A-Z0-9_]+ is not set$)' "$(built_config "$1")"
}

# fetch_source TMP NAME: resolves, downloads and unpacks the source into TMP/NAME.
fetch_source() {
	local apt=$1/$2-apt x=$1/$2-x k=$1/$2 found series version
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

# as_asked NAME CONFIG: every option of the fragment holds in CONFIG.
as_asked() {
	local line name lost=()
	while IFS= read -r line; do
		name=${line#\# }
		name=${name%%[= ]*}
		if [[ $line == \#* ]]; then
			! grep -q "^$name=" "$2" || lost+=("$name is set")
		else
			grep -q -x -F -- "$line" "$2" || lost+=("$line did not hold")
		fi
	done < <(asked_for "$1")
	[[ ${#lost[@]} -gt 0 ]] || return 0
	echo "the kernel's configuration is not what $1-kernel.config asks for; look at what these depend on:"
	printf '%s\n' "${lost[@]}"
	return 1
}

# make_built NAME ROOT TMP FINAL: configures, builds, prunes and renames into place.
make_built() {
	local name=$1 root=$2 k=$3/$1 final=$4 rel
	mkdir -p "$root/kernel/$name"
	SANDBOX_MORE=(--bind "$k" "/kernel/$name")
	built_make "$name" "$root" tinyconfig
	asked_for "$name" >>"$k/build/.config"
	built_make "$name" "$root" olddefconfig
	as_asked "$name" "$k/build/.config"
	built_make "$name" "$root" "-j$(nproc)" bzImage modules
	built_make "$name" "$root" INSTALL_MOD_PATH="/kernel/$name/modules" modules_install
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

# built_make NAME ROOT ARG...: make in the kernel's source.
built_make() {
	local name=$1 root=$2 flags
	shift 2
	read -r -a flags < <(built_flags "$name")
	sandbox "$root" / make -C "/kernel/$name/src" O="/kernel/$name/build" "${flags[@]}" "$@"
}

# prune_build BUILD: drops the objects; vmlinux stays, for addresses to be turned into lines.
prune_build() {
	prune_source "$1"
	find "$1" \( -name '*.o' -o -name '*.a' -o -name '*.cmd' \) -not -path "$1/scripts/*" -not -path "$1/tools/*" -delete
	rm -rf "$1/arch/x86/boot" "$1/arch/x86/kernel" "$1/arch/x86/mm" "$1"/.tmp_vmlinux* "$1/vmlinux.unstripped"
}
