// SPDX-License-Identifier: GPL-2.0
//! Are there huge pages? Without them mapping is slower, and the IOMMU's tables are larger.

use crate::doctor::{Facts, Finding};
use crate::number::{count, size};

const ID: &str = "hugepages";

pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut pages = facts.host.huge_pages();
    pages.retain(|pages| pages.total > 0);
    let describe = pages.iter().map(|pages| {
        format!(
            "{} of {} of {} free",
            pages.free,
            pages.total,
            size(pages.size)
        )
    });
    let describe = describe.collect::<Vec<_>>().join(", ");
    vec![if pages.is_empty() && facts.host.transparent_huge_pages() {
        Finding::ok(
            ID,
            "huge pages: none reserved; transparent ones are used where programs ask",
        )
    } else if pages.is_empty() {
        Finding::warning(
            ID,
            "huge pages: none reserved, and transparent ones are off: buffers are mapped in \
             pages of 4K",
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled\n\
             Or reserve some: echo 64 | sudo tee /proc/sys/vm/nr_hugepages",
        )
    } else if pages.iter().all(|pages| pages.free == 0) {
        let total: u64 = pages.iter().map(|pages| pages.total).sum();
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        Finding::warning(
            ID,
            format!(
                "huge pages: all {} are in use: {describe}",
                count(total, "page")
            ),
            "echo 64 | sudo tee /proc/sys/vm/nr_hugepages\n\
             With the number that all programs need together; who uses them: \
             grep -l ^HugetlbPages:.*[1-9] /proc/[0-9]*/status",
        )
    } else {
        Finding::ok(ID, format!("huge pages: {describe}"))
    }]
}
