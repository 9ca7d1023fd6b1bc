// SPDX-License-Identifier: GPL-2.0
//! Mappings that nobody will remove: of kernel clients that are gone, and poisoned ones. Only
//! root sees them.

use crate::doctor::{Facts, Finding};
use crate::number::count;
use crate::records::{Backing, Records};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let Ok(records) = Records::read(&facts.host) else {
        return Vec::new();
    };
    let left: Vec<_> = records
        .mappings
        .iter()
        .filter(|one| one.is_left_behind())
        .collect();
    let poisoned = records
        .mappings
        .iter()
        .filter(|one| one.kind == Backing::Poisoned)
        .count();
    let mut findings = Vec::new();
    if let Some(first) = left.first() {
        findings.push(Finding::warning(
            "leftovers",
            format!(
                "{} left behind by a kernel module that is gone; the module cannot be removed",
                count(left.len(), "mapping")
            ),
            format!(
                "sudo qat-iommu unmap --force {:#x} {:#x}\n\
                 Once no device uses the memory; all of them: sudo qat-iommu list",
                first.first,
                first.length()
            ),
        ));
    }
    if poisoned > 0 {
        findings.push(Finding::failure(
            "poisoned",
            format!(
                "{} out of use: the IOMMU did not remove what it was asked to, and a PF may \
                 still reach the memory",
                count(poisoned, "range")
            ),
            "sudo dmesg | grep qat_iommu\nThe memory is kept until the host boots again",
        ));
    }
    findings
}
