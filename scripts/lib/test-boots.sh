# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The machines that the suites run in: a name, the options of scripts/vm, the suites in their
# order, and what the emulated PFs' record must show afterwards.

# Every rule of an owned PF, on every kind of IOMMU.
# The suite usdm is too much for QEMU's AMD IOMMU: that ends itself where a whole table of small
# pages is emptied while an emulated PF watches.
OWNED='info owned badinput compat32 rebind library kclient examples'

# Memory for large buffers, and a page of 1 GiB.
LARGE='--mem 4G --cmdline hugepagesz=1G --cmdline hugepages=1'

# boots: name | options | variables and suites | claims of `qat-iommu-selftest record`
# The long ones come first, so that none is left to run alone at the end.
boots() {
	cat <<-END
		user-intel      | --iommu intel --smp 2 $LARGE             | user            | something-added nothing-left
		user-amd        | --iommu amd --smp 2 $LARGE               | user            | something-added nothing-left
		user-virtio     | --iommu virtio --smp 2 $LARGE            | user            | something-added nothing-left
		user-intel-fs   | --iommu intel-fs --smp 2 $LARGE          | user            |
		life-intel      | --iommu intel --pfs 3 --vfs 2 --smp 2 --timeout 480 | life | something-added nothing-left
		life-hotplug    | --iommu intel --pfs 3 --vfs 2 --smp 2 --hotplug | life-hotplug |
		churn-intel     | --iommu intel --pfs 3 --vfs 2 --smp 2 --hotplug --timeout 480 | life-sriov churn | something-added nothing-left
		churn-amd       | --iommu amd --pfs 3 --vfs 2 --smp 2 --timeout 480 | life-sriov churn | something-added nothing-left
		churn-virtio    | --iommu virtio --pfs 3 --vfs 2 --smp 2 --timeout 480 | life-sriov churn | something-added nothing-left
		churn-intel-fs  | --iommu intel-fs --pfs 3 --vfs 2 --smp 2 --timeout 480 | life-sriov churn |
		growth-intel    | --iommu intel --pfs 2 --functions --pf-state unbound --smp 2 | life-growth |
		intel           | --iommu intel --smp 2                    | $OWNED usdm modparams lockdown | something-added nothing-left
		amd             | --iommu amd --pfs 2 --smp 2              | multi $OWNED | something-added nothing-left
		virtio          | --iommu virtio --pfs 2                   | multi $OWNED usdm | something-added nothing-left
		intel-fs        | --iommu intel-fs --pfs 2 --mem 3G        | multi $OWNED usdm |
		shared-intel    | --iommu intel --pf-state shared --smp 2  | info shared examples-shared  | nothing-left
		shared-intel-fs | --iommu intel-fs --pf-state shared       | info shared examples-shared  |
		shared-amd      | --iommu amd --pf-state shared            | info shared examples-shared  | nothing-left
		shared-user-intel    | --iommu intel --pf-state shared --smp 2    | shared-user shared-load | nothing-left
		shared-user-intel-fs | --iommu intel-fs --pf-state shared --smp 2 | shared-user shared-load |
		shared-user-amd      | --iommu amd --pf-state shared --smp 2      | shared-user shared-load | nothing-left
		shared-user-virtio   | --iommu virtio --pf-state shared --smp 2   | shared-user-virtio shared-load-virtio | nothing-left
		several-intel    | --iommu intel --pf-state shared --pfs 3 --pf-ids 4940,4940,4942    | several | nothing-left
		several-intel-fs | --iommu intel-fs --pf-state shared --pfs 3 --pf-ids 4940,4940,4942 | several |
		several-amd      | --iommu amd --pf-state shared --pfs 3 --pf-ids 4940,4940,4942      | several | nothing-left
		several-virtio   | --iommu virtio --pf-state shared --pfs 3 --pf-ids 4940,4940,4942   | several-virtio | nothing-left
		lazy-intel      | --iommu intel --device edu --pf-state shared --icount --modparams shared_fixed=any | shared-lazy |
		lazy-intel-fs   | --iommu intel-fs --device edu --pf-state shared --icount --modparams shared_fixed=any | shared-lazy |
		pt-owned        | --iommu intel --cmdline iommu=pt         | info owned      | something-added
		watch-intel     | --iommu intel --smp 2 --timeout 480      | QAT_IOMMU_FUZZ_SEED=100 watch process hostile fuzz | something-added nothing-left
		tool            | --iommu intel --pfs 2 --smp 2 --timeout 480 | tool tool-doctor tool-explain tool-lockdown |
		tool-amd        | --iommu amd                              | tool-amd        |
		tool-virtio     | --iommu virtio --pfs 2                   | tool-virtio     |
		tool-shared     | --iommu intel --pf-state shared --vfs 2  | tool-shared tool-vfs |
		tool-group      | --iommu intel --bridge --pfs 2 --pf-state unbound | tool-group |
		tool-iommu-off  | --iommu intel --cmdline intel_iommu=off  | tool-iommu-off  |
		tool-signatures | --iommu intel --no-module --pf-state unbound --cmdline module.sig_enforce=1 | tool-signatures |
		edu-intel       | --iommu intel --device edu $LARGE        | edu user-edu modparams tool-edu |
		edu-intel-fs    | --iommu intel-fs --device edu $LARGE     | edu user-edu    |
		edu-amd         | --iommu amd --device edu $LARGE          | edu user-edu    |
		edu-virtio      | --iommu virtio --device edu $LARGE       | edu user-edu    |
		many-intel      | --iommu intel --device edu --icount      | user-many       |
		many-virtio     | --iommu virtio --device edu --icount     | user-many       |
		intel-8         | --iommu intel --pfs 8                    | multi info      | something-added nothing-left
		shared-virtio   | --iommu virtio --pf-state shared         | shared-virtio tool-shared-virtio | nothing-left
		none-owned      | --iommu none                             | info identity identity-owned user-untranslated |
		none-shared     | --iommu none --pf-state shared           | info identity user-untranslated tool-no-iommu |
		pt-intel        | --iommu intel --cmdline iommu=pt --pf-state shared | info identity user-untranslated tool-passthrough | nothing-added
		pt-amd          | --iommu amd --cmdline iommu=pt --pf-state shared   | info identity user-untranslated | nothing-added
		unbound         | --iommu intel --pf-state unbound         | nopf unbound    |
		no-pf           | --iommu amd --pfs 0                      | nopf tool-no-pf |
		vm-intel        | --iommu intel --guest                    | vm user-untranslated tool-vm | nothing-added
		vm-amd          | --iommu amd --guest                      | vm user-untranslated | nothing-added
		vm-virtio       | --iommu virtio --guest                   | vm user-untranslated | nothing-added
		vm-none         | --iommu none --guest                     | vm user-untranslated tool-vm | nothing-added
		vm-as-host      | --iommu intel --guest                    | vm-as-host      | something-added
	END
}

# suites_of_boots: every suite that some machine runs.
suites_of_boots() {
	boots | cut -d'|' -f3 | tr -s ' ' '\n' | sort -u | sed '/^$/d; /=/d'
}

# guest_options OPTION...: what the tests are told of a machine with these options of scripts/vm.
guest_options() {
	while [[ $# -gt 0 ]]; do
		case $1 in
		--iommu | --pfs | --pf-state | --device)
			printf '%s\n' "$1" "$2"
			shift
			;;
		--guest) printf '%s\n' "$1" ;;
		--cmdline)
			[[ $2 != *iommu=pt* ]] || printf '%s\n' --passthrough
			shift
			;;
		--smp | --pf-ids) shift ;;
		esac
		shift
	done
}
