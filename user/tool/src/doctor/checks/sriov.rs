// SPDX-License-Identifier: GPL-2.0
//! The VFs of each PF: while they are on, the PF should stay where it is.

use crate::doctor::{Facts, Finding};
use crate::host::{Function, OWN_DRIVER};
use crate::number::count;

const ID: &str = "sriov";

pub fn check(facts: &Facts) -> Vec<Finding> {
    facts
        .pfs
        .iter()
        .map(|pf| one(pf).about(pf.address))
        .collect()
}

fn one(pf: &Function) -> Finding {
    let address = pf.address;
    let vfs = count(usize::try_from(pf.vfs).unwrap_or(usize::MAX), "VF");
    match (pf.vfs, pf.vfs_possible) {
        (_, None | Some(0)) => Finding::ok(ID, format!("{address} has no VFs")),
        (0, Some(most)) => Finding::ok(ID, format!("{address}: none of its {most} VFs is on")),
        (_, Some(most)) if pf.driver.as_deref() == Some(OWN_DRIVER) => Finding::ok(
            ID,
            format!("{address}: {} of {most} VFs are on; they go when it leaves qat_iommu", pf.vfs),
        ),
        (_, Some(most)) => Finding::warning(
            ID,
            format!(
                "{address}: {vfs} of {most} on: `qat-iommu bind` refuses this PF, as they would \
                 be taken from whoever uses them"
            ),
            format!(
                "echo 0 | sudo tee {}/sriov_numvfs\nOnly if it is to be bound and nobody uses the VFs",
                pf.directory()
            ),
        ),
    }
}
