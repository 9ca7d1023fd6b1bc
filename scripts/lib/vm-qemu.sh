# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# QEMU's command line for what the options of scripts/vm ask for, in the array QEMU.

# vm_machine: CPU, memory and what decides how time passes.
vm_machine() {
	local cpu=qemu64,+pdpe1gb,+rdrand
	$VM_GUEST || cpu+=,-hypervisor
	QEMU+=(-accel tcg -machine q35,kernel-irqchip=off,memory-backend=m,usb=off,vmport=off,hpet=off
		-cpu "$cpu" -m "$VM_MEM" -object "memory-backend-memfd,id=m,size=$VM_MEM,share=on"
		-smp "$VM_SMP" -nodefaults -no-user-config -display none -no-reboot)
	if $VM_ICOUNT; then
		QEMU+=(-icount shift=0,sleep=off -rtc clock=vm,base=2025-01-01 -seed 1)
		KERNEL_ARGS+=(nokaslr)
	fi
}

# vm_iommu: before every other device, so that QEMU puts them behind it.
vm_iommu() {
	case $VM_IOMMU in
	intel)
		QEMU+=(-device intel-iommu,caching-mode=on,intremap=on)
		KERNEL_ARGS+=(intel_iommu=on)
		;;
	intel-fs)
		QEMU+=(-device intel-iommu,caching-mode=on,intremap=on,scalable-mode=on,fsts=on)
		KERNEL_ARGS+=(intel_iommu=on,sm_on)
		;;
	amd) QEMU+=(-device amd-iommu,dma-remap=on) ;;
	virtio) QEMU+=(-device virtio-iommu-pci) ;;
	esac
}

# vm_shares: the build root, the kernel's modules and the shared directories over 9p.
vm_shares() {
	local tag
	vm_share root "$1" readonly=on
	for tag in "${!SHARES[@]}"; do
		vm_share "$tag" "${SHARES[$tag]}" readonly=off
	done
	vm_share modules "$2" readonly=on
}

vm_share() {
	QEMU+=(-fsdev "local,id=fs-$1,path=${2//,/,,},security_model=none,multidevs=remap,$3"
		-device "virtio-9p-pci,fsdev=fs-$1,mount_tag=$1")
}

# vm_ports DIR LOG: the command's output, the control port, and the kernel log.
vm_ports() {
	local dir=$1
	QEMU+=(-chardev "file,id=log,path=$2,append=on" -serial chardev:log)
	if $VM_SHELL; then
		QEMU+=(-chardev stdio,id=tty,signal=off -serial chardev:tty)
	fi
	QEMU+=(-device virtio-serial-pci
		-chardev "pipe,id=ctl,path=$dir/ctl" -device virtserialport,chardev=ctl,name=ctl
		-chardev "file,id=out,path=$dir/out" -device virtserialport,chardev=out,name=out
		-chardev "file,id=err,path=$dir/err" -device virtserialport,chardev=err,name=err)
}

# vm_pfs DIR: each PF behind a root port of its own.
vm_pfs() {
	local n
	for ((n = 0; n < VM_PFS; n++)); do
		QEMU+=(-device "pcie-root-port,id=rp$n,chassis=$((n + 1)),slot=$((n + 1))")
		if [[ $VM_DEVICE == edu ]]; then
			QEMU+=(-device "edu,bus=rp$n,dma_mask=0xffffffffffffffff")
		else
			QEMU+=(-device "{\"driver\":\"vfio-user-pci\",\"bus\":\"rp$n\",\"socket\":{\"type\":\"unix\",\"path\":\"$1/pf$n.sock\"}}")
		fi
	done
}

# vm_kernel IMAGE INITRD
vm_kernel() {
	# no_timer_check: on a busy host the emulated timer fails that check, and the kernel panics.
	KERNEL_ARGS+=(console=ttyS0,115200 loglevel=8 panic=-1 no_timer_check)
	if $VM_PANIC_ON_WARN; then
		KERNEL_ARGS+=(panic_on_warn=1)
	fi
	# shellcheck disable=SC2206 # the user's parameters are words
	KERNEL_ARGS+=($VM_CMDLINE)
	QEMU+=(-kernel "$1" -initrd "$2" -append "${KERNEL_ARGS[*]}")
}

QEMU=(qemu-system-x86_64)
KERNEL_ARGS=()
