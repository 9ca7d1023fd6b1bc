// SPDX-License-Identifier: GPL-2.0
//! Does an IOMMU translate what the PFs access?

use crate::doctor::{Facts, Finding};
use crate::host::{Function, Host, Iommu, Maker, OWN_DRIVER};

const ID: &str = "iommu";

pub fn check(facts: &Facts) -> Vec<Finding> {
    match facts.host.iommu() {
        _ if facts.nothing_is_done() => {
            vec![Finding::ok(
                ID,
                "the IOMMU is the host's affair: this is a virtual machine",
            )]
        }
        Iommu::On => on(facts),
        Iommu::Off(maker) => vec![off(&facts.host, maker)],
        Iommu::Absent => vec![Finding::failure(
            ID,
            "no IOMMU: the PFs reach all of memory, and only addresses equal to the physical \
             ones can be mapped",
            "turn it on in the firmware's setup (Intel: VT-d; AMD: IOMMU), then boot again",
        )],
    }
}

fn off(host: &Host, maker: Maker) -> Finding {
    const FILE: &str =
        "GRUB_CMDLINE_LINUX in /etc/default/grub, then: sudo update-grub && sudo reboot";
    let words = ["intel_iommu=off", "amd_iommu=off", "iommu=off"];
    let found = words.into_iter().find(|word| host.booted_with(word));
    let why = match found {
        Some(word) => format!("the kernel was booted with {word}"),
        None => "this kernel leaves it off unless told otherwise".into(),
    };
    let remedy = match (found, maker) {
        (Some(word), Maker::Intel) => {
            format!("take {word} out of, and put intel_iommu=on into, {FILE}")
        }
        (Some(word), _) => format!("take {word} out of {FILE}"),
        (None, Maker::Intel) => format!("put intel_iommu=on into {FILE}"),
        (None, Maker::Amd) => "sudo dmesg | grep -i amd-vi".into(),
        (None, Maker::Virtio) => "sudo modprobe virtio-iommu".into(),
    };
    Finding::failure(
        ID,
        format!("the IOMMU is off: {why}; the PFs reach all of memory"),
        remedy,
    )
}

/// A PF that is in an identity domain and not ours goes untranslated.
fn on(facts: &Facts) -> Vec<Finding> {
    let through: Vec<&Function> = facts
        .pfs
        .iter()
        .filter(|pf| passes_through(facts, pf))
        .collect();
    if through.is_empty() {
        return vec![Finding::ok(ID, "the IOMMU is on and translates")];
    }
    let one = |pf: &Function| {
        Finding::warning(
            ID,
            format!(
                "{}: the IOMMU is on, but passes through what its driver {} does (iommu=pt or \
                 the group's type): it reaches all of memory, and only addresses equal to the \
                 physical ones can be mapped",
                pf.address,
                pf.driver.as_deref().unwrap_or("-"),
            ),
            format!(
                "sudo qat-iommu bind {}\n\
                 Or boot without iommu=pt and iommu.passthrough=1 to keep its driver",
                pf.address
            ),
        )
        .about(pf.address)
    };
    through.into_iter().map(one).collect()
}

fn passes_through(facts: &Facts, pf: &Function) -> bool {
    let group = pf.group.and_then(|number| facts.host.group(number));
    let driver = pf.driver.as_deref();
    group.is_none_or(|group| group.is_identity()) && driver.is_some_and(|name| name != OWN_DRIVER)
}
