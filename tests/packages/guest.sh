#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Usage: guest.sh WHENCE
#
# In a virtual machine whose root is the clean root with the packages installed: the module loads
# by name (from WHENCE, updates or updates/dkms), the node has its group, the boot-time unit binds
# the PF, and programs reach it, also one in a container.

here=$(dirname "$0")
# shellcheck source=tests/packages/lib.sh
. "$here/lib.sh"
whence=$1
unset LD_LIBRARY_PATH
PATH=/usr/sbin:/usr/bin
pf=0000:01:00.0

module_loads() {
	[[ $(modinfo -n qat_iommu) == "/lib/modules/$(uname -r)/$whence/"qat_iommu.ko* ]] || {
		modinfo -n qat_iommu
		return 1
	}
	modprobe qat_iommu && [[ -d /sys/module/qat_iommu && -c /dev/qat_iommu ]]
}

node_has_its_group() {
	/usr/lib/systemd/systemd-udevd --daemon
	udevadm trigger --settle /sys/class/misc/qat_iommu
	[[ $(stat -c '%G %a' /dev/qat_iommu) == 'qat-iommu 660' ]] || {
		stat /dev/qat_iommu
		return 1
	}
}

bound() {
	[[ $(readlink "/sys/bus/pci/devices/$pf/driver") == */qat_iommu ]]
}

# unit: runs the commands of the boot-time unit as systemd would.
unit() {
	local line
	while read -r line; do
		case $line in
		ExecStartPre=-*) ${line#ExecStartPre=-} || true ;;
		ExecStart=*) ${line#ExecStart=} || return ;;
		esac
	done </usr/lib/systemd/system/qat-iommu-bind.service
}

# What the README has people type: the line that doctor prints, and then a first buffer.
first_buffer() {
	local line
	qat-iommu doctor >/tmp/doctor && return 1
	line=$(sed -n 's/^ *sudo \(qat-iommu bind .*\)/\1/p' /tmp/doctor)
	[[ $line == "qat-iommu bind $pf" ]] || {
		cat /tmp/doctor
		return 1
	}
	$line && qat-iommu doctor && qat-iommu map --user 1M -- qat-iommu list >/tmp/list || return
	says /tmp/list 'space 1 (owned)' 'buffer 0x' && qat-iommu unbind "$pf" && ! bound
}

nothing_to_bind() {
	unit && ! bound
}

bind_at_boot() {
	echo "$pf" >>/etc/qat-iommu.conf
	unit && bound
}

# as_user COMMAND...: with nothing but the group.
as_user() {
	setpriv --reuid=4711 --regid=4711 --groups="$(getent group qat-iommu | cut -d: -f3)" --bounding-set=-all "$@"
}

not_for_others() {
	! setpriv --reuid=4711 --regid=4711 --clear-groups /opt/examples/map
}

# As a container has it: user and mount namespaces of its own, a root of its own with one device
# node, the group kept, no capability outside.
container() {
	# shellcheck disable=SC2016 # for the inner shell
	as_user unshare --user --map-root-user --mount --pid --fork bash -c '
		set -e
		limit=$1; shift
		mkdir -p /tmp/c
		mount -t tmpfs c /tmp/c
		mkdir -p /tmp/c/{usr,opt,dev,proc}
		ln -s usr/lib usr/lib64 usr/bin /tmp/c/
		mount --rbind /usr /tmp/c/usr
		mount --rbind /opt /tmp/c/opt
		: >/tmp/c/dev/qat_iommu
		mount --bind /dev/qat_iommu /tmp/c/dev/qat_iommu
		ulimit -l "$limit"
		exec chroot /tmp/c "$@"' container "$@"
}

in_container() {
	container 1024 /opt/examples/map 65536
}

over_its_limit() {
	! container 64 /opt/examples/map 1048576
}

check 'modprobe loads the module' module_loads
check 'udev gives the node to the group' node_has_its_group
check 'doctor prints the line to type, and a first buffer is mapped' first_buffer
check 'the unit does nothing where nothing is listed' nothing_to_bind
check 'the unit binds what is listed' bind_at_boot
check 'the seven steps, with DMA' /opt/examples/seven_steps
check 'zero-copy, with DMA' /opt/examples/zero_copy
check 'a user of the group maps a buffer' as_user /opt/examples/map 65536
check 'nobody else does' not_for_others
check 'a container with the node alone maps a buffer' in_container
check 'and is held to its memory lock limit' over_its_limit
check 'the module goes again' modprobe -r qat_iommu
