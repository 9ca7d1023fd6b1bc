// SPDX-License-Identifier: GPL-2.0
//! Can addresses of the caller's choice be mapped for a PF that its own driver holds?

use qat_iommu::Pf;

use crate::doctor::{Facts, Finding};

const ID: &str = "fixed-addresses";

pub fn check(facts: &Facts) -> Vec<Finding> {
    let Ok(info) = &facts.info else {
        return Vec::new();
    };
    let shared = info.pfs.iter().filter(|pf| !pf.owned && pf.translated);
    shared.map(|pf| one(facts, pf).about(pf.address)).collect()
}

fn one(facts: &Facts, pf: &Pf) -> Finding {
    let address = pf.address;
    let parameter = facts
        .host
        .module_parameter("shared_fixed")
        .unwrap_or_default();
    if pf.no_fixed && parameter == "off" {
        return Finding::warning(
            ID,
            format!("{address}: icp_sal_iommu_map fails, as the module was loaded with shared_fixed=off"),
            format!("sudo qat-iommu bind {address}\nOr load the module with shared_fixed=high"),
        );
    }
    if pf.no_fixed {
        return Finding::warning(
            ID,
            format!(
                "{address}: icp_sal_iommu_map fails, as its own driver holds it behind a \
                 virtio-iommu, which cannot keep the two apart"
            ),
            format!("sudo qat-iommu bind {address}"),
        );
    }
    let low = facts
        .host
        .ram()
        .iter()
        .any(|range| *range.start() < 1 << 32);
    if parameter == "high" && low {
        return Finding::ok(
            ID,
            format!(
                "{address}: its own driver holds it, so only addresses from 4 GiB up can be \
                 mapped at will (shared_fixed=high)"
            ),
        );
    }
    Finding::ok(ID, format!("{address}: any free address can be mapped"))
}
