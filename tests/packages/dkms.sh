#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Usage: dkms.sh RELEASE
#
# In the clean root, the kernel's image installed and no module package: the dkms package, its
# two ways of building, what it says when it cannot, and that apt never fails.

here=$(dirname "$0")
# shellcheck source=tests/packages/lib.sh
. "$here/lib.sh"
release=$1
[[ $release =~ ^[0-9]+\.[0-9]+ ]]
source=linux-source-${BASH_REMATCH[0]}
cache=/var/cache/qat-iommu-dkms
version=$(sed -n 's/^Version: //p' < <(apt-cache show qat-iommu-dkms) | head -n 1)
src=/usr/src/qat-iommu-$version

state() {
	dkms status -m qat-iommu -v "$version" -k "$release"
}

built() {
	[[ $(state) == *': installed'* ]] &&
		[[ $(modinfo -k "$release" -F vermagic qat_iommu) == "$release "* ]] &&
		[[ $(modinfo -k "$release" -F filename qat_iommu) == */updates/dkms/* ]]
}

not_built() {
	[[ $(state) != *installed* ]] && absent "/lib/modules/$release/updates"
}

# Signed by the key that dkms made, in the way that the kernel checks; the certificate is the one
# to enrol.
signed() {
	local ko=/tmp/signed.ko signer
	cp "$(modinfo -k "$release" -n qat_iommu)" /tmp/signed.ko.xz
	xz -df /tmp/signed.ko.xz || return
	[[ $(tail -c 28 $ko) == '~Module signature appended~' ]] || { echo 'there is no signature'; return 1; }
	signer=$(modinfo -F signer $ko)
	[[ -n $signer && -n $(modinfo -F sig_key $ko) ]] || { echo "no signer: $(modinfo $ko)"; return 1; }
	# The signature itself: PKCS#7 over everything before it.
	local size length
	size=$(stat -c %s $ko)
	length=$((16#$(tail -c 32 $ko | head -c 4 | od -An -tx1 | tr -d ' \n')))
	head -c $((size - 28 - 12 - length)) $ko >/tmp/signed.content
	tail -c $((28 + 12 + length)) $ko | head -c "$length" >/tmp/signed.sig
	openssl x509 -inform DER -in /var/lib/dkms/mok.pub -out /tmp/mok.pem &&
		openssl cms -verify -binary -inform DER -in /tmp/signed.sig -content /tmp/signed.content \
			-certfile /tmp/mok.pem -nointern -noverify -out /dev/null
}

# A kernel that could be built for, but for one thing: its headers, changed.
fake_kernel() {
	mkdir -p /lib/modules/9.9.9-fake /opt/fake
	cp -a "$(realpath "/lib/modules/$release/build")/." /opt/fake/
	ln -sfn /opt/fake /lib/modules/9.9.9-fake/build
	sed -i "$1" /opt/fake/include/config/auto.conf
	"$src/dkms/retry" --say-only >/tmp/fake.log 2>&1
	rm -rf /lib/modules/9.9.9-fake /opt/fake
}

without_rust() {
	fake_kernel 's/^CONFIG_RUST=y/# CONFIG_RUST is not set/'
	says /tmp/fake.log 'no module for Linux 9.9.9-fake: it was built without Rust (CONFIG_RUST)'
}

dkms_itself_excludes_it() {
	mkdir -p /lib/modules/9.9.9-fake /opt/fake
	cp -a "$(realpath "/lib/modules/$release/build")/." /opt/fake/
	ln -sfn /opt/fake /lib/modules/9.9.9-fake/build
	sed -i '/^CONFIG_RUST=/d' /opt/fake/include/config/auto.conf
	dkms build -m qat-iommu -v "$version" -k 9.9.9-fake >/tmp/exclusive.log 2>&1
	local status=$?
	rm -rf /lib/modules/9.9.9-fake /opt/fake
	[[ $status -eq 77 ]] && says /tmp/exclusive.log BUILD_EXCLUSIVE
}

other_rustc() {
	fake_kernel 's/^CONFIG_RUSTC_VERSION_TEXT=.*/CONFIG_RUSTC_VERSION_TEXT="rustc 1.99.0 (of another world)"/'
	says /tmp/fake.log 'it needs the compiler that it was built with, rustc 1.99.0 (of another world); installed is rustc 1.'
}

other_gcc() {
	fake_kernel 's/^CONFIG_CC_VERSION_TEXT=.*/CONFIG_CC_VERSION_TEXT="gcc-77 (Debian 77) 77.0"/'
	says /tmp/fake.log 'it needs the compiler that it was built with, gcc-77 (Debian 77) 77.0; installed is no gcc-77'
}

unpackaged_headers() {
	fake_kernel s/x/x/
	says /tmp/fake.log 'no package named linux-headers-9.9.9-fake'
}

# The same module from metadata made here and from that in the package.
same_symbols() {
	local way
	for way in source package; do
		xz -dc "/tmp/by-$way.ko.xz" >"/tmp/by-$way.ko"
		nm -u "/tmp/by-$way.ko" >"/tmp/by-$way.symbols"
	done
	cmp /tmp/by-source.symbols /tmp/by-package.symbols
}

kernel_gone() {
	apt /tmp/kernel-gone.log purge "linux-image-$release" "linux-modules-$release" "linux-binary-$release" \
		"linux-base-$release" "linux-headers-$release" && absent "$cache" "/lib/modules/$release"
}

kernel_takes_module() {
	apt /tmp/kernel-takes.log purge "linux-image-$release" "linux-modules-$release" "linux-binary-$release" \
		"linux-base-$release" && [[ $(installed_version "qat-iommu-modules-$release") != 'installed '* ]] &&
		absent "/lib/modules/$release"
}

broken_source() {
	apt /tmp/drop.log purge "qat-iommu-kbuild-$release" "linux-headers-$release"
	dkms unbuild -m qat-iommu -v "$version" -k "$release"
	sed -i '1i compile_error!("broken for a test");' "$src/rust_qat_iommu.rs"
	apt /tmp/broken.log install "linux-headers-$release" "qat-iommu-kbuild-$release"
	local status=$?
	sed -i 1d "$src/rust_qat_iommu.rs"
	[[ $status -eq 0 ]] && says /tmp/broken.log "no module for Linux $release: the compilation failed" &&
		says "/var/lib/dkms/qat-iommu/$version/build/make.log" 'broken for a test' && not_built
}

# measured COMMAND...: runs it; what it took goes into a file. With its processor time, as nobody
# knows what else the machine does.
measured() {
	local start=$SECONDS most=0 now pid status=0
	"$@" &
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		now=$(du -sm "$cache" 2>/dev/null | cut -f1)
		[[ ${now:-0} -le $most ]] || most=$now
		sleep 2
	done
	wait $pid || status=$?
	times >/tmp/times
	echo "$((SECONDS - start)) s (processors: $(tail -n 1 /tmp/times)), $most MB at most" >/tmp/measured
	return $status
}

check 'the kernel takes its module package along' kernel_takes_module
check 'a kernel without headers' apt /tmp/dkms-1.log install "linux-image-$release" qat-iommu-dkms
check 'says nothing of a kernel without headers' silent_on /tmp/dkms-1.log 'no module for'
check 'headers alone: apt is content' apt /tmp/dkms-2.log install "linux-headers-$release"
check 'and it says that metadata is missing, and what has it' says /tmp/dkms-2.log \
	"no module for Linux $release: the Rust metadata of version" \
	"install qat-iommu-kbuild-$release of that version" "or $source (="
check 'nothing was built' not_built
check 'linux-source alone: apt is content' apt /tmp/dkms-3.log install "$source"
check 'and it says which tools are missing' says /tmp/dkms-3.log "could be made from $source, but this is missing:" \
	flex libelf-dev rust-src
check 'linux-source goes, the tools come' apt /tmp/dkms-4.log install bc bison flex libelf-dev libssl-dev openssl pahole python3-minimal rust-src "$source-"
check 'still nothing was built' not_built
check 'linux-source comes back' measured apt /tmp/dkms-5.log install "$source"
echo "# metadata and module were made in $(</tmp/measured)"
check 'and the module is built from it at once' built
check 'the metadata is kept, small' test "$(du -sm "$cache/$release" 2>/dev/null | cut -f1)" -lt 300
echo "# $(du -sm "$cache/$release" 2>/dev/null | cut -f1) MB of it"
check 'and nothing else is' test "$(ls "$cache")" = "$release"
check 'the module is signed as the kernel wants it' signed
cp "$(modinfo -k "$release" -n qat_iommu)" /tmp/by-source.ko.xz
check 'a kernel without Rust is named' without_rust
check 'and refused by dkms itself' dkms_itself_excludes_it
check 'another rustc is named' other_rustc
check 'another C compiler is named' other_gcc
check 'headers of unknown origin are named' unpackaged_headers
check 'a kernel goes, and all that was kept for it' kernel_gone
check 'the kernel comes back, with the metadata package' apt /tmp/dkms-6.log install "linux-image-$release" \
	"linux-headers-$release" "qat-iommu-kbuild-$release"
check 'the module is built over the package' built
check 'nothing is kept' absent "$cache/$release"
cp "$(modinfo -k "$release" -n qat_iommu)" /tmp/by-package.ko.xz
check 'both ways give the same symbols' same_symbols
check 'a compilation that fails does not make apt fail' broken_source
check 'and it is made up for' apt /tmp/dkms-7.log install --reinstall "linux-headers-$release"
check 'with the module' built
