# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A thousand random events on the debug kernel, in the place of the machines of
# test-boots-debug.sh.

boots() {
	local room='--pfs 3 --smp 2 --mem 3G --timeout 1500'
	cat <<-END
		churn-intel  | --iommu intel $room  | QAT_IOMMU_CHURN_EVENTS=400 churn | something-added nothing-left
		churn-amd    | --iommu amd $room    | QAT_IOMMU_CHURN_EVENTS=300 churn | something-added nothing-left
		churn-virtio | --iommu virtio $room | QAT_IOMMU_CHURN_EVENTS=300 churn | something-added nothing-left
	END
}
