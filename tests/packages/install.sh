#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Usage: install.sh DIR REPOSITORY KDIR
#
# On the machine that builds: 'make install' below DIR, and the packages in REPOSITORY, put the same
# files into the same places, but for those that Debian wants elsewhere.

here=$(dirname "$0")
# shellcheck source=tests/packages/lib.sh
. "$here/lib.sh"
dir=$1 repository=$2 kdir=$3
project=$(realpath "$here/../..")

# install_below PREFIX: 'make install', of what is built first if it is not.
install_below() {
	rm -rf "$dir"
	make -s -C "$project" stock user || return
	# Without the directories that the make which runs these tests hands on.
	env -u libdir -u includedir -u bindir -u mandir -u sysconfdir -u moddir \
		make -s -C "$project" install DESTDIR="$dir" PREFIX="$1" KDIR="$kdir" >"$dir.log" 2>&1
	local status=$?
	cat "$dir.log"
	[[ $status -eq 0 && ! -s $dir.log ]]
}

# installed_files PREFIX: what that has put there.
installed_files() {
	(cd "$dir" && find . ! -type d) | sed -e "s|^\.$1/|/usr/|; s|^\./|/|" | sort
}

# packaged_files: what the packages put there, by the names that it has without Debian.
packaged_files() {
	local deb
	for deb in "$repository"/{libqat-iommu0,libqat-iommu-dev,qat-iommu-tools,qat-iommu-modules-*}_*.deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -t
	done | sed -e '/\/$/d; /^\.\/usr\/share\/\(doc\|lintian\)\//d; s|^\.||; s|\.gz$||' \
		-e 's|^/usr/lib/x86_64-linux-gnu/|/usr/lib/|; s|^/usr/lib/modules/|/lib/modules/|' \
		-e 's|/zsh/vendor-completions/|/zsh/site-functions/|' | sort -u
}

same_files() {
	diff <(packaged_files) <(installed_files /usr/local) >"$dir.diff" || {
		echo "< the packages, > make install:"
		cat "$dir.diff"
		return 1
	}
}

# names_places: what was installed refers to where it was installed.
names_places() {
	grep -q '^libdir=/opt/qat/lib$' "$dir/opt/qat/lib/pkgconfig/qat_iommu.pc" &&
		grep -q '^ExecStart=/opt/qat/bin/qat-iommu bind --boot$' "$dir/opt/qat/lib/systemd/system/qat-iommu-bind.service"
}

check 'make install installs, and says nothing' install_below /usr/local
check 'the same files as the packages' same_files
check 'below another prefix' install_below /opt/qat
check 'pkg-config file and unit name it' names_places
