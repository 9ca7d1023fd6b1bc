#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Usage: upgrade.sh RELEASE
#
# In the clean root, all packages installed: a newer version of each, then removal and purge.

here=$(dirname "$0")
# shellcheck source=tests/packages/lib.sh
. "$here/lib.sh"
release=$1
old=$(sed -n 's/^Version: //p' < <(apt-cache show qat-iommu-dkms) | head -n 1)
new=$old.1
ours=("qat-iommu-modules-$release" "qat-iommu-kbuild-$release" qat-iommu-dkms libqat-iommu0 libqat-iommu-dev qat-iommu-tools)

# newer DEB: the same package under the new version, in the repository.
newer() {
	local tree=/tmp/newer
	rm -rf $tree
	dpkg-deb -R "$1" $tree
	sed -i "s/$old/$new/g" $tree/DEBIAN/*
	sed -i "s/^\(Version: \|.*(= \)$new/\1$new/" $tree/DEBIAN/control
	if [[ -d $tree/usr/src/qat-iommu-$old ]]; then
		mv "$tree/usr/src/qat-iommu-$old" "$tree/usr/src/qat-iommu-$new"
		sed -i "s/$old/$new/" "$tree/usr/src/qat-iommu-$new/dkms.conf"
		sed -i "s/qat-iommu-$old/qat-iommu-$new/" $tree/DEBIAN/md5sums
	fi
	dpkg-deb -Znone -b $tree "$REPO/newer-$(basename "$1")" >/dev/null
}

all_new() {
	local package
	for package in "${ours[@]}"; do
		[[ $(installed_version "$package") == "installed $new" ]] || {
			echo "$package: $(installed_version "$package")"
			return 1
		}
	done
}

# The administrator's own lines stay, and no question is asked.
conffile_kept() {
	grep -q '^0000:00:00.0$' /etc/qat-iommu.conf
}

only_new_dkms() {
	[[ $(dkms status -m qat-iommu) != *"/$old"[,:]* ]] && absent "/usr/src/qat-iommu-$old" "/var/lib/dkms/qat-iommu/$old"
}

gone() {
	apt /tmp/remove.log remove "${ours[@]}" && absent /usr/bin/qat-iommu "/lib/modules/$release/updates" \
		/usr/src/qat-iommu "/usr/src/qat-iommu-$new" /usr/lib/qat-iommu /var/lib/dkms/qat-iommu /var/cache/qat-iommu-dkms &&
		[[ -e /etc/qat-iommu.conf ]]
}

nothing_left() {
	apt /tmp/purge.log purge "${ours[@]}" || return
	unowned >/tmp/unowned.after
	# What dkms keeps for all modules: its key, and its record of the last kernel.
	comm -13 /tmp/unowned.before /tmp/unowned.after | grep -i -E 'qat|icp_sal' && return 1
	! getent group qat-iommu
}

for deb in "$REPO"/*.deb; do
	newer "$deb"
done
check 'all packages are installed together' apt /tmp/all.log install "${ours[@]}"
check 'dkms leaves the kernel that has its module alone' absent "/var/lib/dkms/qat-iommu/$old/$release" \
	"/lib/modules/$release/updates/dkms"
echo 0000:00:00.0 >>/etc/qat-iommu.conf
check 'the repository has newer ones' repo_changed
check 'the upgrade' apt /tmp/upgrade.log upgrade
check 'all of them are new' all_new
check 'a changed configuration is kept' conffile_kept
check 'dkms has the new version alone' only_new_dkms
check 'removal leaves the configuration alone' gone
check 'purge leaves nothing' nothing_left
