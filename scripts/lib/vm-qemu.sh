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

# The PFs' root ports have fixed places, above those that QEMU gives away by itself.
PORT_SLOT=12

hex() {
	printf '%#x' "$1"
}

# vm_pfs DIR: each PF behind a root port of its own; or all of them as functions of one device, or
# behind one conventional bridge, where an IOMMU does not tell them apart.
vm_pfs() {
	local n
	[[ $VM_PFS -gt 0 ]] || return 0
	case $VM_TOPOLOGY in
	ports)
		for ((n = 0; n < VM_PFS; n++)); do
			vm_port "$n" ''
			vm_pf "$1" "$n" "rp$n" 0.0 "$([[ $VM_VFS -eq 0 ]] || echo multifunction)"
			vm_vfs "$1" "$n"
		done
		;;
	functions)
		vm_port 0 ,hotplug=off
		for ((n = 0; n < VM_PFS; n++)); do
			vm_pf "$1" "$n" rp0 "0.$n" multifunction
		done
		;;
	bridge)
		vm_port 0 ,hotplug=off
		QEMU+=(-device pcie-pci-bridge,id=bridge,bus=rp0)
		for ((n = 0; n < VM_PFS; n++)); do
			vm_pf "$1" "$n" bridge "$(hex $((n + 1)))" ''
		done
		;;
	esac
}

# vm_port N MORE
vm_port() {
	QEMU+=(-device "pcie-root-port,id=rp$1,addr=$(hex $((PORT_SLOT + $1))),chassis=$(($1 + 1)),slot=$(($1 + 1))$2")
}

# vm_pf DIR N BUS ADDR MULTIFUNCTION
vm_pf() {
	if [[ $VM_DEVICE == edu ]]; then
		QEMU+=(-device "edu,id=pf$2,bus=$3,addr=$4${5:+,multifunction=on},dma_mask=0xffffffffffffffff")
	else
		QEMU+=(-device "$(vfio_user "pf$2" "$3" "$4" "$1/pf$2.sock" "$5")")
	fi
}

# vm_vfs DIR N: the VFs of PF N, which answer when the guest turns them on.
vm_vfs() {
	local vf
	for ((vf = 0; vf < VM_VFS; vf++)); do
		QEMU+=(-device "$(vfio_user "pf$2.vf$vf" "rp$2" "0.$((vf + 1))" "$1/pf$2.sock.vf$vf" '')")
	done
}

# vfio_user ID BUS ADDR SOCKET MULTIFUNCTION: prints the device, as JSON.
vfio_user() {
	printf '{"driver":"vfio-user-pci","id":"%s","bus":"%s","addr":"%s",%s"socket":{"type":"unix","path":"%s"}}' \
		"$1" "$2" "$3" "${5:+\"multifunction\":true,}" "$4"
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
