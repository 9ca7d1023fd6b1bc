// SPDX-License-Identifier: GPL-2.0
//! Is each PF alone in its IOMMU group?

use crate::doctor::{Facts, Finding};
use crate::host::Function;

const ID: &str = "group";

pub fn check(facts: &Facts) -> Vec<Finding> {
    if facts.nothing_is_done() {
        return Vec::new();
    }
    let groups = facts.pfs.iter().filter_map(|pf| Some((pf, pf.group?)));
    groups
        .map(|(pf, number)| one(facts, pf, number).about(pf.address))
        .collect()
}

fn one(facts: &Facts, pf: &Function, number: u32) -> Finding {
    let address = pf.address.to_string();
    let group = facts.host.group(number);
    let mut others = group.map(|group| group.devices).unwrap_or_default();
    others.retain(|device| *device != address);
    if others.is_empty() {
        return Finding::ok(ID, format!("{address} is alone in IOMMU group {number}"));
    }
    let others = others.join(", ");
    let remedy =
        "put the card into a slot of its own that a PCI Express root port with ACS serves, or \
         turn ACS on in the firmware's setup; the devices of a group are in: \
         ls /sys/kernel/iommu_groups/*/devices";
    if facts.usable(pf).is_some_and(|pf| !pf.owned) {
        return Finding::warning(
            ID,
            format!(
                "{address} shares IOMMU group {number} with {others}: its driver may keep it, but \
                 qat_iommu refuses to own it"
            ),
            remedy,
        );
    }
    Finding::failure(
        ID,
        format!(
            "{address} shares IOMMU group {number} with {others}: they could reach each other's \
             memory, so qat_iommu refuses to own the PF"
        ),
        remedy,
    )
}
