// SPDX-License-Identifier: GPL-2.0
//! Which driver holds each PF, and can the PF be used with it?

use crate::doctor::{Facts, Finding};
use crate::host::{Function, OWN_DRIVER};

const ID: &str = "driver";

pub fn check(facts: &Facts) -> Vec<Finding> {
    if facts.nothing_is_done() {
        return Vec::new();
    }
    facts
        .pfs
        .iter()
        .map(|pf| one(facts, pf).about(pf.address))
        .collect()
}

fn one(facts: &Facts, pf: &Function) -> Finding {
    let address = pf.address;
    let usable = facts.usable(pf);
    // With no other PF in use, this one is missing.
    let none_usable = facts.info.as_ref().is_ok_and(|info| info.pfs.is_empty());
    let problem = if none_usable {
        Finding::failure
    } else {
        Finding::warning
    };
    let log = format!("sudo dmesg | grep 'qat_iommu.*{address}'");
    match pf.driver.as_deref() {
        Some(OWN_DRIVER) if usable.is_some_and(|pf| pf.incomplete) => Finding::warning(
            ID,
            format!("{address} is owned, but lacks some of the live mappings"),
            log,
        ),
        Some(OWN_DRIVER) => Finding::ok(ID, format!("{address} is owned: qat_iommu holds it")),
        Some(driver) if usable.is_some() => Finding::ok(
            ID,
            format!("{address} is shared: its own driver {driver} holds it"),
        ),
        Some(driver) if !facts.host.module_loaded() => Finding::ok(
            ID,
            format!("{address} is held by {driver}"),
        ),
        Some(driver @ ("vfio-pci" | "pci-stub" | "pci-pf-stub" | "uio_pci_generic" | "igb_uio")) => problem(
            ID,
            format!("{address} is held by {driver}, which leaves it to one program: qat_iommu cannot use it"),
            format!("sudo qat-iommu bind {address}"),
        ),
        Some(_) if facts.info.is_err() => Finding::ok(
            ID,
            format!("{address} is held by {}", pf.driver.as_deref().unwrap_or("-")),
        ),
        Some(driver) => problem(
            ID,
            format!("{address} is held by {driver}, but the module does not use it"),
            log,
        ),
        None if pf.kept_for.as_deref() == Some(OWN_DRIVER) && facts.host.module_loaded() => problem(
            ID,
            format!("{address} is meant for qat_iommu, which has not taken it"),
            format!("sudo qat-iommu bind {address}\nThe reason, if it is refused: {log}"),
        ),
        None => problem(
            ID,
            format!("{address} has no driver: it cannot be used"),
            format!("sudo qat-iommu bind {address}"),
        ),
    }
}
