// SPDX-License-Identifier: GPL-2.0
//! Does the kernel refuse programs physical addresses?

use crate::doctor::{Facts, Finding};

const ID: &str = "lockdown";

pub fn check(facts: &Facts) -> Vec<Finding> {
    let phys = facts.host.module_parameter("phys");
    vec![match facts.host.lockdown() {
        Some(level) => Finding::warning(
            ID,
            format!(
                "the kernel is locked down ({level}): programs cannot map physical addresses \
                 (icp_sal_iommu_map fails); buffers can be mapped"
            ),
            "use qaeMemMapContiguousIova or qat_iommu_map_user; or boot with Secure Boot off \
             and without lockdown=",
        ),
        None if phys.as_deref() == Some("off") => Finding::warning(
            ID,
            "the module was loaded with phys=off: programs cannot map physical addresses",
            "sudo modprobe -r qat_iommu && sudo modprobe qat_iommu phys=ram",
        ),
        None => Finding::ok(ID, "root may map physical addresses"),
    }]
}
