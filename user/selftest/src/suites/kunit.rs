// SPDX-License-Identifier: GPL-2.0
//! What KUnit found when the module was loaded: its suites run inside the kernel, and the kernel
//! keeps their results for as long as the module is loaded.

use anyhow::{ensure, Context as _, Result};
use std::fs;

use crate::host::Host;
use crate::ktap::{list_tests, skip, Test};

const KUNIT: &str = "/sys/kernel/debug/kunit";

pub fn tests() -> Vec<Test<Host>> {
    list_tests![addresses, bookkeeping, ids, refusals]
}

fn addresses(_: &Host) -> Result<()> {
    passed("qat_iommu_addresses", 7)
}

fn bookkeeping(_: &Host) -> Result<()> {
    passed("qat_iommu_bookkeeping", 4)
}

fn ids(_: &Host) -> Result<()> {
    passed("qat_iommu_ids", 6)
}

fn refusals(_: &Host) -> Result<()> {
    passed("qat_iommu_refusals", 2)
}

/// So many cases of a suite have passed, and none has failed.
fn passed(suite: &str, cases: usize) -> Result<()> {
    if !fs::exists(KUNIT)? {
        return Err(skip("this kernel has no KUnit"));
    }
    let path = format!("{KUNIT}/{suite}/results");
    let results = fs::read_to_string(&path).context(path)?;
    let count = |word: &str| {
        let case = |line: &&str| line.starts_with("    ") && line.trim().starts_with(word);
        results.lines().filter(case).count()
    };
    ensure!(
        count("not ok ") == 0 && count("ok ") == cases,
        "{cases} cases were to pass:\n{results}"
    );
    Ok(())
}
