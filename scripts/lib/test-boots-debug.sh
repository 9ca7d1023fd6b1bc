# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The machines of the debug kernel, in the place of those in test-boots.sh. A few times as slow
# as the stock kernel's, so each suite runs where it says most; a thousand random events in all.
# The PFs have no VFs: the PCI core itself warns, with lockdep, when a driver is unbound from a PF
# that has VFs on.

# Memory for what the debug kernel keeps of each object.
ROOM='--mem 3G --smp 2'

# boots: name | options | variables and suites | claims of `qat-iommu-selftest record`
boots() {
	cat <<-END
		churn-intel   | --iommu intel --pfs 3 --smp 2 --mem 3G --timeout 1500 | QAT_IOMMU_CHURN_EVENTS=400 churn | something-added nothing-left
		churn-amd     | --iommu amd --pfs 3 --smp 2 --mem 3G --timeout 1500 | QAT_IOMMU_CHURN_EVENTS=300 churn | something-added nothing-left
		churn-virtio  | --iommu virtio --pfs 3 --smp 2 --mem 3G --timeout 1500 | QAT_IOMMU_CHURN_EVENTS=300 churn | something-added nothing-left
		fuzz-intel    | --iommu intel $ROOM                        | QAT_IOMMU_FUZZ_OPS=40000 fuzz | something-added nothing-left
		fuzz-virtio   | --iommu virtio $ROOM                       | QAT_IOMMU_FUZZ_OPS=20000 fuzz | something-added nothing-left
		user-intel    | --iommu intel $ROOM                        | user                | something-added nothing-left
		process-intel | --iommu intel $ROOM                        | process             | something-added nothing-left
		owned-intel   | --iommu intel $ROOM --cmdline kmemleak=on  | info owned badinput compat32 rebind kclient watch leaks | something-added nothing-left
		owned-amd     | --iommu amd --pfs 2 $ROOM                  | multi info owned badinput rebind kclient | something-added nothing-left
		owned-fs      | --iommu intel-fs --pfs 2 $ROOM             | multi owned rebind kclient watch |
		owned-virtio  | --iommu virtio --pfs 2 $ROOM               | multi owned rebind kclient | something-added nothing-left
		shared-intel  | --iommu intel --pf-state shared $ROOM --cmdline kmemleak=on | info shared leaks | nothing-left
		shared-amd    | --iommu amd --pf-state shared $ROOM        | info shared         | nothing-left
		untranslated  | --iommu none                               | info identity identity-owned user-untranslated |
		vm            | --iommu intel --guest                      | vm user-untranslated | nothing-added
	END
}
