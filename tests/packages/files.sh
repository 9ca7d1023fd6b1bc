#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Usage: files.sh RELEASE
#
# In the clean root: what the packages put where, and that a program can be built with them.

here=$(dirname "$0")
# shellcheck source=tests/packages/lib.sh
. "$here/lib.sh"
release=$1
triplet=x86_64-linux-gnu

modules_package() {
	apt /tmp/modules.log install "qat-iommu-modules-$release" qat-iommu-tools libqat-iommu0
}

# The module is where modprobe looks, for exactly this kernel, and no compiler came with it.
module_is_found() {
	[[ $(modinfo -k "$release" -F vermagic qat_iommu) == "$release "* ]] &&
		[[ $(modinfo -k "$release" -F filename qat_iommu) == "/lib/modules/$release/updates/qat_iommu.ko" ]] &&
		grep -q '^updates/qat_iommu.ko:' "/lib/modules/$release/modules.dep"
}

no_compiler() {
	[[ $(installed_version "qat-iommu-modules-$release") == 'installed '* ]] &&
		! command -v gcc && ! command -v rustc && ! command -v make
}

nothing_unresolved() {
	ldd /usr/bin/qat-iommu "/usr/lib/$triplet/libqat_iommu.so.0" >/tmp/ldd && silent_on /tmp/ldd 'not found'
}

library_is_small() {
	[[ $(readlink -f "/usr/lib/$triplet/libqat_iommu.so.0") == "/usr/lib/$triplet/libqat_iommu.so.0" ]] &&
		[[ $(stat -c %s "/usr/lib/$triplet/libqat_iommu.so.0") -lt 2000000 ]]
}

group_and_rule() {
	getent group qat-iommu || { echo 'there is no group qat-iommu'; return 1; }
	udevadm verify /usr/lib/udev/rules.d/60-qat-iommu.rules
}

unit_is_sound() {
	systemd-analyze verify --man=no /usr/lib/systemd/system/qat-iommu-bind.service &&
		[[ -L /etc/systemd/system/multi-user.target.wants/qat-iommu-bind.service ]]
}

conffile() {
	dpkg-query -W -f '${Conffiles}' qat-iommu-tools | grep -q '^ /etc/qat-iommu.conf '
}

completions() {
	bash -n /usr/share/bash-completion/completions/qat-iommu &&
		[[ -s /usr/share/zsh/vendor-completions/_qat-iommu && -s /usr/share/fish/vendor_completions.d/qat-iommu.fish ]]
}

man_pages() {
	gzip -t /usr/share/man/man1/qat-iommu.1.gz
}

recommends_the_module() {
	apt-get -s -q install qat-iommu-tools >/tmp/recommends.log 2>&1
	says /tmp/recommends.log "Inst qat-iommu-modules-$release"
}

# Every example in C, with nothing but what the packages and a compiler bring.
examples() {
	local source
	mkdir -p /opt/examples
	for source in "$here"/map.c "$here"/../../examples/user-c/*.c; do
		# shellcheck disable=SC2046 # words
		gcc -Wall -Wextra -Werror "$source" $(pkg-config --cflags --libs qat_iommu) -o "/opt/examples/$(basename "$source" .c)" ||
			return 1
	done
	ldd /opt/examples/zero_copy | grep -q libqat_iommu.so.0
}

linked_statically() {
	local dir=/usr/lib/$triplet
	gcc "$here/../../examples/user-c/zero_copy.c" -I/usr/include/qat_iommu "$dir/libqat_iommu.a" -o /tmp/static &&
		ldd /tmp/static >/tmp/ldd && silent_on /tmp/ldd libqat_iommu
}

for_kernel_clients() {
	[[ -s /usr/src/qat-iommu/include/icp_sal_iommu.h ]] &&
		grep -q "icp_sal_iommu_map" "/usr/src/qat-iommu/$release/Module.symvers"
}

check 'the kernel, as its machine has it' apt /tmp/kernel.log install "linux-image-$release" initramfs-tools
check 'the tool recommends the module of the stock kernel' recommends_the_module
check 'module and tool are installed' modules_package
check 'modprobe finds the module, made for this kernel' module_is_found
check 'no compiler came with it' no_compiler
check 'tool and library find every library' nothing_unresolved
check 'the library is one stripped file' library_is_small
check 'the group is there and udev takes the rule' group_and_rule
check 'systemd takes the unit and has it enabled' unit_is_sound
check 'the configuration is a conffile' conffile
check 'completions for three shells' completions
check 'the manual page of the tool' man_pages
check 'development files are installed' apt /tmp/dev.log install libqat-iommu-dev gcc libc6-dev pkg-config
check 'the examples are built with pkg-config' examples
check 'a program is linked with the archive' linked_statically
check 'header and symbols for kernel clients' for_kernel_clients
