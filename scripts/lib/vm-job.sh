# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the virtual machine is told: the directories it shares and the job of guest/session,
# as a small archive that is appended to the initramfs.

declare -A SHARES=()

# vm_find_shares: the project and the current directory; one inside the other is shown once.
vm_find_shares() {
	local dir other n=0
	local wanted=("$PROJECT")
	[[ $PWD == / ]] || wanted+=("$PWD")
	[[ -z $VM_PRELOAD || $VM_PRELOAD == /usr/* ]] || wanted+=("$(dirname "$VM_PRELOAD")")
	while read -r dir; do
		for other in "${SHARES[@]}"; do
			[[ $dir/ != "$other"/* ]] || continue 2
		done
		SHARES[dir$n]=$dir
		n=$((n + 1))
	done < <(printf '%s\n' "${wanted[@]}" | sort -u)
}

# vm_job DIR REL TOKEN: writes DIR/job.
vm_job() {
	local name tag
	mkdir -p "$1/job"
	for tag in "${!SHARES[@]}"; do
		echo "$tag cache=mmap ${SHARES[$tag]}"
	done | sort >"$1/job/shares"
	# A root of its own brings the modules of its kernel package.
	[[ -n ${QAT_IOMMU_ROOT:-} ]] || echo "modules ro,cache=loose /usr/lib/modules/$2" >>"$1/job/shares"
	echo "$SCRIPTS/guest/session" >"$1/job/session"

	local JOB_PROJECT=$PROJECT JOB_CWD=$PWD JOB_TOKEN=$3 JOB_PRELOAD=$VM_PRELOAD
	local JOB_MODULES=$PROJECT/build/module/$2 JOB_MODULE=$VM_MODULE JOB_MODPARAMS=$VM_MODPARAMS
	# Where the machine writes what it reached of a module built by scripts/coverage.
	local JOB_COVERAGE=${QAT_IOMMU_COVERAGE_FILE:-}
	local JOB_HOTPLUG=$VM_HOTPLUG JOB_PORT_SLOT=$PORT_SLOT
	local JOB_PFS=$VM_PFS JOB_PF_STATE=$VM_PF_STATE JOB_GUEST=$VM_GUEST JOB_IDS=("${VM_PF_IDS[@]/#/8086:}")
	local JOB_INIT=${QAT_IOMMU_INIT:-}
	local JOB_SHELL=$VM_SHELL JOB_TERM=${TERM:-dumb} JOB_ROWS='' JOB_COLUMNS='' JOB_ENV=()
	local JOB_COMMAND=("${VM_COMMAND[@]}")
	if [[ $VM_DEVICE == edu ]]; then
		JOB_IDS=(1234:11e8)
		[[ " $JOB_MODPARAMS" == *' ids='* ]] || JOB_MODPARAMS+=" ids=${JOB_IDS[0]}"
	fi
	if $VM_SHELL && [[ -t 0 ]]; then
		read -r JOB_ROWS JOB_COLUMNS < <(stty size)
	fi
	for name in $(compgen -e QAT_IOMMU_) RUST_BACKTRACE; do
		case $name in
		QAT_IOMMU_CACHE | QAT_IOMMU_MIRROR* | QAT_IOMMU_KEYRING | QAT_IOMMU_IN_ROOT | QAT_IOMMU_NO_BUILD | QAT_IOMMU_SHOW | QAT_IOMMU_ROOT | QAT_IOMMU_INIT) ;;
		*) [[ -z ${!name+set} ]] || JOB_ENV+=("$name=${!name}") ;;
		esac
	done
	local -p | grep '^declare [^ ]* JOB_' >"$1/job/job"
}
