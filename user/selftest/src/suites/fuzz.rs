// SPDX-License-Identifier: GPL-2.0
//! Random operations against a model; see `fuzz`. First what once went wrong, from the corpus.
//!
//! `QAT_IOMMU_FUZZ_OPS` says how many (4800), `QAT_IOMMU_FUZZ_SEED` which (random).

use anyhow::{Context as _, Result};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::fuzz::{self, Case};
use crate::host::Host;
use crate::ktap::{list_tests, Test};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![the_corpus, random_operations]
}

/// How many there are without a word of anybody's.
const OPERATIONS: u64 = 4800;
/// One case a line.
const CORPUS: &str = "user/selftest/fuzz-corpus.jsonl";

/// A number from the environment.
fn number(name: &str) -> Result<Option<u64>> {
    match std::env::var(name) {
        Ok(text) => {
            let value = text
                .parse()
                .with_context(|| format!("{name}={text}: no number"))?;
            Ok(Some(value))
        }
        Err(_) => Ok(None),
    }
}

fn the_corpus(host: &Host) -> Result<()> {
    let text = std::fs::read_to_string(host.tree.join(CORPUS)).context(CORPUS)?;
    for (number, line) in (1..).zip(text.lines()) {
        let case: Case =
            serde_json::from_str(line).with_context(|| format!("{CORPUS}, line {number}"))?;
        fuzz::replay(host, &case)
            .with_context(|| format!("{CORPUS}, line {number} ({})", case.about))?;
    }
    Ok(())
}

fn random_operations(host: &Host) -> Result<()> {
    let operations = number("QAT_IOMMU_FUZZ_OPS")?.unwrap_or(OPERATIONS);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = match number("QAT_IOMMU_FUZZ_SEED")? {
        Some(seed) => seed,
        None => u64::from(now.subsec_nanos()),
    };
    println!("    # {operations} operations, QAT_IOMMU_FUZZ_SEED={seed}");
    fuzz::run(host, seed, operations)
}
