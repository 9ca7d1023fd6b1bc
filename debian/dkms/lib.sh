# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Whether, and from what, the module can be built for a kernel on this machine. Sourced by build
# and retry; nothing here changes anything.

# Metadata made here from a linux-source package, one directory per release: rust/, scripts/,
# version; and beside it RELEASE.failed, why the last build went wrong.
CACHE=/var/cache/qat-iommu-dkms
PACKAGED=/usr/lib/qat-iommu/kbuild

# installed PACKAGE: prints its version; nothing if it is not installed.
installed() {
	dpkg-query -W -f='${db:Status-Status} ${Version}\n' "$1" 2>/dev/null | sed -n 's/^installed //p'
}

# setting HEADERS NAME: the value of a CONFIG_ option, without quotes.
setting() {
	sed -n "s/^CONFIG_$2=//p" "$1/include/config/auto.conf" | tr -d '"'
}

# first_line PROGRAM ARG...: what a tool says about its version; nothing if it is not there.
first_line() {
	"$@" 2>/dev/null | head -n 1 || true
}

# usable DIR VERSION: DIR has metadata of exactly this kernel package.
usable() {
	[[ -e $1/rust/libkernel.rmeta && $(cat "$1/version" 2>/dev/null) == "$2" ]]
}

# metadata RELEASE VERSION: prints the directory that has it; nothing if there is none yet.
metadata() {
	local dir
	for dir in "$PACKAGED/$1" "$CACHE/$1"; do
		if usable "$dir" "$2"; then
			echo "$dir"
			return
		fi
	done
}

# source_package RELEASE: the package that has this kernel's source.
source_package() {
	[[ $1 =~ ^[0-9]+\.[0-9]+ ]]
	echo "linux-source-${BASH_REMATCH[0]}"
}

# missing_tools: what `make modules_prepare` of a kernel with Rust needs besides a compiler.
missing_tools() {
	local tool missing=()
	for tool in bc bison flex openssl pahole python3 xz; do
		command -v "$tool" >/dev/null || missing+=("$tool")
	done
	[[ -e /usr/include/gelf.h ]] || missing+=(libelf-dev)
	[[ -e /usr/include/openssl/opensslv.h ]] || missing+=(libssl-dev)
	[[ -e $(rustc --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/core/src/lib.rs ]] || missing+=(rust-src)
	echo "${missing[*]}"
}

# reasons RELEASE HEADERS: every reason why the module cannot be built, one a line; nothing if
# it can.
reasons() {
	local release=$1 headers=$2 version wanted found compiler
	if [[ ! -e $headers/include/config/auto.conf ]]; then
		echo "its headers are not installed: install linux-headers-$release"
		return
	fi
	if [[ $(setting "$headers" RUST) != y ]]; then
		echo "it was built without Rust (CONFIG_RUST); Debian's kernels from 7.2 up have it"
		return
	fi
	wanted=$(setting "$headers" RUSTC_VERSION_TEXT)
	found=$(first_line rustc --version)
	[[ $found == "$wanted" ]] ||
		echo "it needs the compiler that it was built with, $wanted; installed is ${found:-no rustc}"
	wanted=$(setting "$headers" CC_VERSION_TEXT)
	compiler=${wanted%% *}
	found=$(first_line "$compiler" --version)
	[[ $found == "$wanted" ]] ||
		echo "it needs the compiler that it was built with, $wanted; installed is ${found:-no $compiler}"
	[[ -n $(first_line bindgen --version) ]] || echo "bindgen is missing: install bindgen"
	version=$(installed "linux-headers-$release")
	[[ -n $(metadata "$release" "$version") ]] || reasons_of_metadata "$release" "$version"
}

# reasons_of_metadata RELEASE VERSION: why metadata cannot be made here.
reasons_of_metadata() {
	local release=$1 version=$2 source found missing other
	source=$(source_package "$release")
	found=$(installed "$source")
	missing=$(missing_tools)
	if [[ -e $PACKAGED/$release/version ]]; then
		other="qat-iommu-kbuild-$release is for version $(<"$PACKAGED/$release/version") of it"
	else
		other="qat-iommu-kbuild-$release is not installed"
	fi
	if [[ -z $version ]]; then
		echo "its headers come from no package named linux-headers-$release, so that nobody knows which Rust metadata fits them"
	elif [[ $found != "$version" ]]; then
		echo "the Rust metadata of version $version is missing: install qat-iommu-kbuild-$release of that version ($other), or $source (= $version) (installed: ${found:-none}), from which it can be made"
	elif [[ -n $missing ]]; then
		echo "the Rust metadata could be made from $source, but this is missing: $missing (or install qat-iommu-kbuild-$release)"
	fi
}

# headers_of RELEASE: its build directory.
headers_of() {
	echo "/lib/modules/$1/build"
}

# packaged_module RELEASE: qat-iommu-modules-RELEASE is there, so that nothing is to be built.
packaged_module() {
	[[ -e /lib/modules/$1/updates/qat_iommu.ko ]]
}
