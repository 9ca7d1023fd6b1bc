# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The initramfs of the virtual machine: busybox, the modules that mounting needs, and
# guest/init. Made once per kernel and recipe, byte for byte the same each time.

BOOT_MODULES=(9p 9pnet_virtio overlay virtio-iommu virtio_console virtio_pci)
APPLETS=(sh mount mkdir insmod switch_root poweroff sleep cp)

# boot_modules KERNEL REL: the module files to load, in order.
boot_modules() {
	local module
	for module in "${BOOT_MODULES[@]}"; do
		modprobe -d "$1/modules" -S "$2" -D "$module"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

# initramfs KERNEL: prints the path of the initramfs for that kernel directory.
initramfs() {
	local kernel=$1 rel key file
	rel=$(<"$kernel/release")
	key=$({
		cat "$kernel/version" "$SCRIPTS/guest/init"
		sed '/^[[:space:]]*#/d' "$LIB_DIR/initramfs.sh"
		sha256sum /usr/bin/busybox
	} | sha256sum | cut -c1-12)
	file=$CACHE/initramfs-$rel-$key.cpio
	if [[ ! -e $file ]]; then
		make_initramfs "$kernel" "$rel" "$file"
	fi
	echo "$file"
}

make_initramfs() {
	local kernel=$1 rel=$2 file=$3 tmp packed applet module name
	tmp=$(mktemp -d)
	mkdir -p "$tmp"/{bin,dev,proc,sys,modules,ro,rw,new}
	cp /usr/bin/busybox "$tmp/bin/busybox"
	for applet in "${APPLETS[@]}"; do
		ln -s busybox "$tmp/bin/$applet"
	done
	install -m 755 "$SCRIPTS/guest/init" "$tmp/init"
	: >"$tmp/modules/list"
	while read -r module; do
		name=$(basename "$module" .xz)
		if [[ $module == *.xz ]]; then
			xz -dc "$module" >"$tmp/modules/$name"
		else
			cp "$module" "$tmp/modules/$name"
		fi
		echo "$name" >>"$tmp/modules/list"
	done < <(boot_modules "$kernel" "$rel")
	# Process numbers are equal in every sandbox, and several machines start at once.
	packed=$(mktemp "$file.XXXXXX")
	pack "$tmp" >"$packed"
	chmod 644 "$packed"
	mv "$packed" "$file"
	rm -rf "$tmp"
	find "$CACHE" -maxdepth 1 -name 'initramfs-*' -mtime +7 -delete
}

# pack DIR: DIR as a cpio archive, without times, owners or inode numbers.
pack() {
	(
		cd "$1"
		find . -exec touch -h -d @0 {} +
		find . -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc -R 0:0 --reproducible
	)
}
