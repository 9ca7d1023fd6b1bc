// SPDX-License-Identifier: GPL-2.0
//! Host or virtual machine? In the latter the module does nothing.

use crate::doctor::{Facts, Finding};

const ID: &str = "vm";

pub fn check(facts: &Facts) -> Vec<Finding> {
    let told = facts.host.module_parameter("virt").unwrap_or_default();
    vec![match (facts.in_vm, told.as_str()) {
        (false, "vm") => Finding::warning(
            ID,
            "this is a host, but the module was told that it is a virtual machine: nothing is done",
            "sudo modprobe -r qat_iommu && sudo modprobe qat_iommu virt=auto",
        ),
        (true, "host") => Finding::ok(
            ID,
            "a virtual machine that the module treats as a host (virt=host)",
        ),
        (true, _) if facts.pfs.iter().any(|pf| pf.group.is_some()) => Finding::warning(
            ID,
            "this is a virtual machine with a QAT PF and an IOMMU of its own: the calls succeed \
             and do nothing, and the PF reaches only what its domain lets it",
            "sudo modprobe -r qat_iommu && sudo modprobe qat_iommu virt=host",
        ),
        (true, _) => Finding::ok(
            ID,
            "this is a virtual machine: the calls succeed, and nothing has to be done",
        ),
        (false, _) => Finding::ok(ID, "this is a host, no virtual machine"),
    }]
}
