// SPDX-License-Identifier: GPL-2.0
//! Is there a QAT PF at all?

use crate::doctor::{Facts, Finding};
use crate::number::count;

const ID: &str = "pf";

pub fn check(facts: &Facts) -> Vec<Finding> {
    let names = facts
        .pfs
        .iter()
        .map(|pf| format!("{} ({})", pf.address, pf.kind()));
    let names: Vec<String> = names.collect();
    vec![if !names.is_empty() {
        let text = format!("{}: {}", count(names.len(), "QAT PF"), names.join(", "));
        Finding::ok(ID, text)
    } else if facts.nothing_is_done() {
        Finding::ok(ID, "no QAT PF: in a virtual machine none is needed")
    } else if !facts.host.qat_vfs().is_empty() {
        Finding::failure(
            ID,
            "no QAT PF, only VFs: this module is for PFs",
            "use the VFs through VFIO (qatlib does); they need no qat-iommu",
        )
    } else {
        Finding::failure(
            ID,
            "no QAT PF: no PCI function has the id of one",
            "lspci -nn -d 8086: | grep -i -e quickassist -e co-processor\n\
             If it shows nothing, turn QAT on in the firmware's setup; a new kind of PF is named \
             to the module by `modprobe qat_iommu ids=vvvv:dddd`",
        )
    }]
}
