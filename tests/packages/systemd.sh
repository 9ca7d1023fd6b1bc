#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Usage: systemd.sh
#
# In a virtual machine whose root is the clean root with the packages installed and whose process 1
# is systemd: nobody has done anything by hand when this starts. The PF of the boot file is bound,
# the node has its group, and a service with the example drop-in reaches the PF.

here=$(dirname "$0")
# shellcheck source=tests/packages/lib.sh
. "$here/lib.sh"
unset LD_LIBRARY_PATH
PATH=/usr/sbin:/usr/bin
pf=0000:01:00.0

systemd_is_init() {
	[[ $(</proc/1/comm) == systemd ]]
}

unit_has_run() {
	systemctl status --no-pager --lines 20 qat-iommu-bind.service
	[[ $(systemctl show -P Result qat-iommu-bind.service) == success ]] && systemctl is-active qat-iommu-bind.service
}

bound() {
	[[ $(readlink "/sys/bus/pci/devices/$pf/driver") == */qat_iommu ]]
}

node_has_its_group() {
	stat /dev/qat_iommu
	[[ $(stat -c '%G %a' /dev/qat_iommu) == 'qat-iommu 660' ]]
}

# service NAME: a service of a user without rights that maps more than the default limit.
service() {
	cat >"/run/systemd/system/$1.service" <<-END
		[Service]
		Type=oneshot
		User=nobody
		ExecStart=/opt/examples/map 67108864
	END
}

without_the_drop_in() {
	service plain
	systemctl daemon-reload
	! systemctl start plain.service
}

with_the_drop_in() {
	service dropped
	install -D -m 644 "$here/../../examples/service/qat-iommu.conf" /run/systemd/system/dropped.service.d/qat-iommu.conf
	systemctl daemon-reload
	systemctl start dropped.service || {
		systemctl status --no-pager dropped.service
		return 1
	}
}

# bind --boot says so where a PF is missing, and the machine goes on.
wrong_file_is_told() {
	echo 0000:ff:1f.0 >>/etc/qat-iommu.conf
	! systemctl restart qat-iommu-bind.service && bound && [[ $(systemctl show -P Result qat-iommu-bind.service) == exit-code ]]
}

check 'process 1 is systemd' systemd_is_init
check 'the unit has run at the start' unit_has_run
check 'and the PF of the boot file is bound' bound
check 'the node has its group' node_has_its_group
check 'zero-copy, with DMA' /opt/examples/zero_copy
check 'a service without group and limit is refused' without_the_drop_in
check 'with the example drop-in it maps 64 MiB' with_the_drop_in
check 'a PF that is not there fails the unit, and hurts no other' wrong_file_is_told
