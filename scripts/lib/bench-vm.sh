# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The machine that measures: one processor whose time is instructions, five of QEMU's edu devices
# behind VT-d, everything in an initramfs that is the same byte for byte from run to run, and no
# output before the end. Used inside the build root.

# shellcheck source=/dev/null
for part in vm-options initramfs vm-clock vm-qemu vm-plug libusdm; do . "$LIB_DIR/$part.sh"; done

BENCH_APPLETS=(sh mount insmod poweroff cat stty true sleep ln grep gzip base64)
BENCH_MODULES=(vfio_iommu_type1 vfio-pci iommufd)
# Wall-clock seconds after which a machine is given up.
BENCH_PATIENCE=3000

# bench_modules KERNEL REL: the kernel's module files to load, in order; none where they are built in.
bench_modules() {
	local module
	for module in "${BENCH_MODULES[@]}"; do
		modprobe -d "$1/modules" -S "$2" -D "$module" 2>/dev/null || true
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

# bench_initramfs KERNEL FILE ARGUMENT...
bench_initramfs() {
	local kernel=$1 file=$2 rel dir applet module name
	shift 2
	rel=$(<"$kernel/release")
	dir=$(mktemp -d)
	mkdir -p "$dir"/{bin,dev,proc,sys,modules,lib,lib64}
	cp /usr/bin/busybox "$dir/bin/busybox"
	for applet in "${BENCH_APPLETS[@]}"; do
		ln -s busybox "$dir/bin/$applet"
	done
	install -m 755 "$SCRIPTS/guest/bench-init" "$dir/init"
	install -m 755 "$PROJECT/build/bin/qat-iommu-bench" "$dir/bin/"
	cp -L /lib64/ld-linux-x86-64.so.2 "$dir/lib64/"
	ldd "$dir/bin/qat-iommu-bench" | awk '$2 == "=>" { print $3 }' | xargs cp -L -t "$dir/lib/" "$PROJECT/build/lib/libqat_iommu.so.0"
	if [[ -e $LIBUSDM/.complete ]]; then
		cp -L "$(libusdm_dir)/libusdm.so.0" "$dir/lib/"
	fi
	while read -r module; do
		name=$(basename "$module" .xz)
		if [[ $module == *.xz ]]; then
			xz -dc "$module" >"$dir/modules/$name"
		else
			cp "$module" "$dir/modules/$name"
		fi
		echo "$name" >>"$dir/modules/list"
	done < <(bench_modules "$kernel" "$rel")
	for name in qat_iommu qat_floor qat_kclient; do
		# Without what only a debugger reads.
		strip --strip-debug -o "$dir/modules/$name.ko" "$PROJECT/build/module/$rel/$name.ko"
		echo "$name.ko" >>"$dir/modules/list"
	done
	echo "$*" >"$dir/arguments"
	! $BENCH_PROFILE || touch "$dir/profile"
	pack "$dir" >"$file"
	rm -rf "$dir"
}

# bench_followed KERNEL: what the plugin is to know of a kernel that was built here: the functions that
# take locks, and the one that pins.
bench_followed() {
	[[ -e $1/build/vmlinux ]] || return 0
	nm "$1/build/vmlinux" | awk '
		$3 ~ /^(mutex_lock|mutex_lock_interruptible|mutex_lock_killable|down_read|down_write|_raw_spin_lock|_raw_spin_lock_irqsave)$/ { printf ",enter=%s", $1 }
		$3 ~ /^(mutex_unlock|up_read|up_write|_raw_spin_unlock|_raw_spin_unlock_irqrestore)$/ { printf ",leave=%s", $1 }
		$3 == "pin_user_pages_fast" { printf ",pin=%s", $1 }'
}

# bench_boot NAME RESULTS ARGUMENT...: boots kernel NAME and has the bench measure; what it says goes
# to the file RESULTS, the kernel's log beside it, and if BENCH_PROFILE is true, where its instructions
# went; if BENCH_ANNOTATE holds something, each instruction of the functions named like it. BENCH_QEMU
# holds more options for QEMU. BENCH_CPUS above 1: and time is not counted.
bench_boot() {
	local kernel=/kernel/$1 results=$2 tmp status=0
	shift 2
	tmp=$(mktemp -d)
	VM_ICOUNT=true VM_SMP=$BENCH_CPUS VM_DEVICE=edu VM_PFS=5 VM_MEM=6G
	# Gaps of a page in 1 GiB of small pages need the large ones set apart beforehand.
	VM_CMDLINE='hugepagesz=1G hugepages=1 hugepagesz=2M hugepages=514 loglevel=4 norandmaps'
	[[ $VM_SMP -eq 1 ]] || VM_ICOUNT=false
	QEMU=(qemu-system-x86_64)
	KERNEL_ARGS=()
	bench_initramfs "$kernel" "$tmp/initrd" "$@"
	if $BENCH_PROFILE; then
		gcc -O2 -fPIC -shared -o "$tmp/plugin.so" "$LIB_DIR/bench-plugin.c"
		QEMU+=(-plugin "$tmp/plugin.so,out=$tmp/counts$(bench_followed "$kernel")")
	fi
	vm_machine
	vm_clock
	vm_iommu
	QEMU+=(-chardev "file,id=log,path=${results%.*}.log" -serial chardev:log
		-chardev "file,id=results,path=$tmp/results" -serial chardev:results)
	vm_pfs "$tmp"
	vm_kernel "$kernel/vmlinuz" "$tmp/initrd"
	timeout "$BENCH_PATIENCE" "${QEMU[@]}" "${BENCH_QEMU[@]}" </dev/null >"$tmp/qemu" 2>&1 || status=$?
	if [[ $status -ne 0 ]] || ! grep -q '^status 0' "$tmp/results"; then
		cat "$tmp/qemu" >&2
		grep -v '^{' "$tmp/results" >&2 || true
		rm -rf "$tmp"
		die "the machine that measures failed (kernel log: ${results%.*}.log)" 1
	fi
	grep '^{' "$tmp/results" | tr -d '\r' >"$results"
	if $BENCH_PROFILE; then
		sed -n 's/\r//; s/^symbols //p' "$tmp/results" | base64 -d | gzip -d >"$tmp/symbols"
		"$LIB_DIR/bench-profile.pl" "$tmp/symbols" "$tmp/counts" | c++filt | sed -E "s,\\[[0-9a-f]{12\,16}\\]|rust_qat_iommu\\[[0-9a-f]*\\]::,,g" >"${results%.*}.profile"
		[[ -z $BENCH_ANNOTATE ]] || "$LIB_DIR/bench-annotate.pl" "$tmp/symbols" "$tmp/counts" \
			"$PROJECT/build/module/$(<"$kernel/release")/qat_iommu.ko" "$BENCH_ANNOTATE" >>"${results%.*}.profile"
	fi
	rm -rf "$tmp"
}

BENCH_QEMU=()
BENCH_CPUS=1
BENCH_PROFILE=false
BENCH_ANNOTATE=''
