# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The machines of the debug kernel, in the place of those in test-boots.sh. A few times as slow
# as the stock kernel's, so each suite runs where it says most, and the thousand random events of
# test-boots-churn.sh are a run of their own.
# The PFs have no VFs: the PCI core itself warns, with lockdep, when a driver is unbound from a PF
# that has VFs on.

# Memory for what the debug kernel keeps of each object; and KUnit, which would run each time that
# the module is loaded, is left to the machine that looks at what it found.
ROOM='--mem 3G --smp 2 --cmdline kunit.enable=0'
LEAKS='--cmdline kmemleak=on'
# The allocator's sheaves keep pointers to what they have handed out, each a use to kmemleak. A cache
# with red zones has no sheaves; that is slow, so it is for the machines that lose little at a time.
ALL_LEAKS="$LEAKS --cmdline slab_debug=Z,kmalloc-*"
# Where a test wants memory below 4 GiB.
LOW=${ROOM/3G/2G}

# What --short runs of these: every operation with each of its failures, hostile processes, random
# operations, KUnit. They take a quarter of the time of all.
SHORT='hostile-intel faults-intel fuzz-virtio vm'

# boots: name | options | variables and suites | claims of `qat-iommu-selftest record`
boots() {
	local less=1
	! ${short:-false} || less=4
	cat <<-END
		owned-intel   | --iommu intel $ROOM $ALL_LEAKS             | info owned badinput compat32 rebind kclient watch leaks | something-added nothing-left
		process-intel | --iommu intel $ROOM $LEAKS                 | QAT_IOMMU_LOADS=25 process leaks | something-added nothing-left
		life          | --iommu intel --pfs 3 $ROOM                | life                | something-added nothing-left
		faults-intel  | --iommu intel $ROOM $LEAKS                 | faults leaks        | something-added nothing-left
		owned-fs      | --iommu intel-fs --pfs 2 $ROOM             | multi owned rebind kclient watch |
		pagealloc     | --iommu intel $ROOM --cmdline iommu.debug_pagealloc=1 | faults-buffers user | something-added nothing-left
		faults-shared | --iommu intel --pf-state shared $ROOM $LEAKS | faults-shared leaks | something-added nothing-left
		owned-amd     | --iommu amd --pfs 2 $ROOM                  | multi info owned badinput rebind kclient | something-added nothing-left
		fuzz-virtio   | --iommu virtio $ROOM                       | QAT_IOMMU_FUZZ_SEED=100 QAT_IOMMU_FUZZ_OPS=$((20000 / less)) fuzz | something-added nothing-left
		fuzz-intel    | --iommu intel $ROOM                        | QAT_IOMMU_FUZZ_SEED=100 QAT_IOMMU_FUZZ_OPS=$((20000 / less)) fuzz | something-added nothing-left
		churn         | --iommu intel --pfs 3 $ROOM                | QAT_IOMMU_CHURN_EVENTS=60 churn | something-added nothing-left
		shared-intel  | --iommu intel --pf-state shared $LOW $ALL_LEAKS | info shared shared-user shared-load leaks | nothing-left
		several       | --iommu intel --pf-state shared --pfs 3 --pf-ids 4940,4940,4942 $ROOM | several | nothing-left
		owned-virtio  | --iommu virtio --pfs 2 $ROOM               | multi owned rebind kclient | something-added nothing-left
		faults-virtio | --iommu virtio $ROOM                       | faults-virtio       |
		faults-amd    | --iommu amd $ROOM                          | faults              | something-added nothing-left
		faults-fs     | --iommu intel-fs $ROOM                     | faults-buffers      |
		hostile-intel | --iommu intel $ROOM                        | hostile lockdown    | something-added nothing-left
		shared-amd    | --iommu amd --pf-state shared $LOW         | info shared         | nothing-left
		shared-virtio | --iommu virtio --pf-state shared $ROOM     | shared-virtio shared-user-virtio shared-load-virtio | nothing-left
		faults-pfs    | --iommu intel --pfs 2 $ROOM --cmdline iommu=pt | faults-pfs        |
		untranslated  | --iommu none                               | info identity identity-owned user-untranslated |
		vm            | --iommu intel --guest                      | kunit vm user-untranslated | nothing-added
	END
}
