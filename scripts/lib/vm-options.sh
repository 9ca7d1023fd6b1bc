# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The options of scripts/vm: read and checked here, kept in VM_* variables.

VM_IOMMU=intel
VM_CMDLINE=
VM_GUEST=false
VM_PFS=1
VM_PF_IDS=(4940)
VM_VFS=0
VM_DEVICE=pf
VM_PF_STATE=owned
VM_TOPOLOGY=ports
VM_HOTPLUG=false
VM_PF_RECORD=
VM_KERNEL=stock
VM_MEM=1G
VM_SMP=1
VM_ICOUNT=false
VM_PANIC_ON_WARN=false
VM_MODULE=true
VM_MODPARAMS=
VM_PRELOAD=
VM_SHELL=false
VM_TIMEOUT=120
VM_LOG=$PROJECT/build/vm.log
VM_COMMAND=()

# one_of OPTION VALUE CHOICE...: refuses a value that is no choice.
one_of() {
	local option=$1 value=$2 choice
	shift 2
	for choice in "$@"; do
		[[ $value == "$choice" ]] && return 0
	done
	die "$option $value: must be one of: $*" 2
}

# number OPTION VALUE LEAST MOST
number() {
	[[ $2 =~ ^[0-9]{1,6}$ && $((10#$2)) -ge $3 && $((10#$2)) -le $4 ]] ||
		die "$1 $2: must be a number from $3 to $4" 2
}

# output_file OPTION FILE: prints it absolute, if its directory is there.
output_file() {
	[[ -d $(dirname "$2") ]] || die "$1 $2: there is no directory $(dirname "$2")" 2
	realpath -m "$2"
}

vm_options() {
	while [[ $# -gt 0 ]]; do
		case $1 in
		--iommu | --cmdline | --pfs | --pf-ids | --vfs | --device | --pf-state | --pf-record | --kernel | --mem | --smp | \
			--modparams | --preload | --timeout | --log)
			need_value "$1" $#
			vm_option_value "$1" "$2"
			shift
			;;
		--guest) VM_GUEST=true ;;
		--hotplug) VM_HOTPLUG=true ;;
		--bridge | --functions) VM_TOPOLOGY=${1#--} ;;
		--icount) VM_ICOUNT=true ;;
		--panic-on-warn) VM_PANIC_ON_WARN=true ;;
		--no-module) VM_MODULE=false ;;
		--shell) VM_SHELL=true ;;
		-h | --help)
			usage_of "$SCRIPTS/vm"
			exit 0
			;;
		--)
			shift
			VM_COMMAND=("$@")
			break
			;;
		*) die "unknown option $1; the command comes after -- (see --help)" 2 ;;
		esac
		shift
	done
	if ! $VM_SHELL && [[ ${#VM_COMMAND[@]} -eq 0 ]]; then
		die "needs -- COMMAND, or --shell (see --help)" 2
	fi
	if [[ $VM_VFS -gt 0 && ($VM_DEVICE != pf || $VM_TOPOLOGY != ports) ]]; then
		die "--vfs: only the emulated PF has VFs, and only behind a port of its own" 2
	fi
	if $VM_HOTPLUG && [[ $VM_TOPOLOGY != ports ]]; then
		die "--hotplug: with --$VM_TOPOLOGY the PFs have no slots of their own" 2
	fi
	if [[ $VM_TOPOLOGY == functions && $VM_PFS -gt 8 ]]; then
		die "--functions: a device has 8 functions, so --pfs is 8 at most" 2
	fi
	if $VM_ICOUNT && [[ $VM_SMP -ne 1 ]]; then
		die "--icount means one CPU: leave --smp out" 2
	fi
}

vm_option_value() {
	case $1 in
	--iommu) one_of "$1" "$2" intel intel-fs amd virtio none; VM_IOMMU=$2 ;;
	--cmdline) VM_CMDLINE+=" $2" ;;
	--pfs) number "$1" "$2" 0 16; VM_PFS=$((10#$2)) ;;
	--vfs) number "$1" "$2" 0 7; VM_VFS=$((10#$2)) ;;
	--pf-ids)
		[[ $2 =~ ^[0-9a-f]{4}(,[0-9a-f]{4})*$ ]] || die "$1 $2: must be device ids like 4940,4942" 2
		IFS=, read -r -a VM_PF_IDS <<<"$2"
		;;
	--device) one_of "$1" "$2" pf edu; VM_DEVICE=$2 ;;
	--pf-state) one_of "$1" "$2" owned shared unbound; VM_PF_STATE=$2 ;;
	--pf-record) VM_PF_RECORD=$(output_file "$1" "$2") ;;
	--kernel) one_of "$1" "$2" stock debug perf; VM_KERNEL=$2 ;;
	--mem)
		[[ $2 =~ ^[1-9][0-9]*[MG]$ ]] || die "$1 $2: must be a size like 512M or 2G" 2
		VM_MEM=$2
		;;
	--smp) number "$1" "$2" 1 64; VM_SMP=$((10#$2)) ;;
	--modparams) VM_MODPARAMS+=" $2" ;;
	--preload)
		[[ -f $2 ]] || die "$1 $2: there is no such file" 2
		VM_PRELOAD=$(realpath "$2")
		;;
	--timeout) number "$1" "$2" 1 999999; VM_TIMEOUT=$((10#$2)) ;;
	--log) VM_LOG=$(output_file "$1" "$2") ;;
	esac
}
