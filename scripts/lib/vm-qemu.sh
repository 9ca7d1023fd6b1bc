# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# QEMU's command line for what the options of scripts/vm ask for, in the array QEMU.

# vm_machine: CPU, memory and what decides how time passes. Slots are the kernel's pciehp's to
# serve, as on a server: without ACPI's hot-plug, which QEMU would prefer.
vm_machine() {
	local cpu=qemu64,+pdpe1gb,+rdrand
	$VM_GUEST || cpu+=,-hypervisor
	QEMU+=(-accel tcg -machine q35,kernel-irqchip=off,memory-backend=m,usb=off,vmport=off,hpet=off
		-cpu "$cpu" -m "$VM_MEM" -object "memory-backend-memfd,id=m,size=$VM_MEM,share=on"
		-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off
		-smp "$VM_SMP" -nodefaults -no-user-config -display none -no-reboot)
	if $VM_ICOUNT; then
		QEMU+=(-icount shift=0,sleep=off -rtc clock=vm,base=2025-01-01 -seed 1)
		KERNEL_ARGS+=(nokaslr)
	fi
}

# vm_clock: with --icount the guest's own measurement is exact.
vm_clock() {
	local khz
	$VM_ICOUNT || khz=$(tsc_khz)
	[[ -z ${khz:-} ]] || KERNEL_ARGS+=("tsc_early_khz=$khz")
}

# vm_iommu: before every other device, so that QEMU puts them behind it.
vm_iommu() {
	# The emulated PF has to be told of every entry, new ones too, which a real IOMMU never asks for:
	# its guest flushes only what goes. With edu nobody needs to be told, so it is as on hardware.
	local caching=on
	[[ $VM_DEVICE == pf ]] || caching=off
	case $VM_IOMMU in
	intel)
		QEMU+=(-device "intel-iommu,caching-mode=$caching,intremap=on")
		KERNEL_ARGS+=(intel_iommu=on)
		;;
	intel-fs)
		QEMU+=(-device "intel-iommu,caching-mode=$caching,intremap=on,scalable-mode=on,fsts=on")
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

# vm_ports DIR LOG: the command's output, the control and hot-plug ports, QMP, and the kernel log.
vm_ports() {
	local dir=$1
	QEMU+=(-chardev "file,id=log,path=$2,append=on" -serial chardev:log)
	if $VM_SHELL; then
		QEMU+=(-chardev stdio,id=tty,signal=off -serial chardev:tty)
	fi
	QEMU+=(-device virtio-serial-pci
		-chardev "pipe,id=ctl,path=$dir/ctl" -device virtserialport,chardev=ctl,name=ctl
		-chardev "pipe,id=plug,path=$dir/plug" -device virtserialport,chardev=plug,name=plug
		-chardev "pipe,id=qmp,path=$dir/qmp" -object monitor-qmp,id=monitor,chardev=qmp
		-chardev "file,id=out,path=$dir/out" -device virtserialport,chardev=out,name=out
		-chardev "file,id=err,path=$dir/err" -device virtserialport,chardev=err,name=err)
}

# The PFs' root ports have fixed places, above those that QEMU gives away by itself.
PORT_SLOT=12

hex() {
	printf '%#x' "$1"
}

# vm_pfs DIR: each PF behind a root port of its own; or all of them as functions of one device, or
# behind one conventional bridge, where an IOMMU does not tell them apart.
vm_pfs() {
	local n id ports=$VM_PFS
	[[ $VM_PFS -gt 0 ]] || return 0
	[[ $VM_TOPOLOGY == ports ]] || ports=1
	for ((n = 0; n < ports; n++)); do
		vm_port "$n"
	done
	if [[ $VM_TOPOLOGY == bridge ]]; then
		QEMU+=(-device pcie-pci-bridge,id=bridge,bus=rp0)
	fi
	for ((n = 0; n < VM_PFS; n++)); do
		for id in $(plug_ids "$n"); do
			QEMU+=(-device "{$(vm_function "$1" "$id")}")
		done
	done
}

# vm_port N: the root port of PF N.
vm_port() {
	local at port
	at=$(hex $((PORT_SLOT + $1)))
	port=pcie-root-port,id=rp$1,addr=$at,chassis=$(($1 + 1)),slot=$(($1 + 1))
	$VM_HOTPLUG || port+=,hotplug=off
	QEMU+=(-device "$port")
}

# vm_function DIR ID: prints the device pfN or pfN.vfM for QEMU, as JSON without its braces.
vm_function() {
	local pf vf='' bus at socket
	pf=${2#pf}
	if [[ $pf == *.vf* ]]; then
		vf=${pf#*.vf}
		pf=${pf%.vf*}
	fi
	socket=$1/pf$pf.sock${vf:+.vf$vf}
	case $VM_TOPOLOGY in
	ports) bus=rp$pf at=0.$((${vf:--1} + 1)) ;;
	functions) bus=rp0 at=0.$pf ;;
	bridge) bus=bridge at=$(hex $((pf + 1))) ;;
	esac
	printf '"id":"%s","bus":"%s","addr":"%s",' "$2" "$bus" "$at"
	if [[ $VM_TOPOLOGY == functions || ($VM_VFS -gt 0 && -z $vf) ]]; then
		printf '"multifunction":true,'
	fi
	if [[ $VM_DEVICE == edu ]]; then
		printf '"driver":"edu","dma_mask":18446744073709551615'
	else
		printf '"driver":"vfio-user-pci","socket":{"type":"unix","path":"%s"}' "$socket"
	fi
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
