// SPDX-License-Identifier: GPL-2.0
//! The zero-copy calls through the library, from C programs.

use anyhow::{ensure, Context as _, Result};
use std::path::Path;
use std::process::Command;

use crate::host::Host;
use crate::ktap::{list_tests, Test};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![every_call, examples]
}

/// Without the buffers whose unmapping is too much for QEMU's AMD IOMMU: it ends itself where a
/// whole table of small pages is emptied while an emulated PF watches.
pub fn essential_tests() -> Vec<Test<Host>> {
    list_tests![examples]
}

/// Runs a program to its end; what it says of a failure is the failure.
fn run(program: &Path) -> Result<()> {
    let output = Command::new(program)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("FAILED"))
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    ensure!(
        output.status.success(),
        "{}: {}: {}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(!said.is_empty(), "{} said nothing", program.display());
    Ok(())
}

fn every_call(host: &Host) -> Result<()> {
    run(&host.tree.join("build/test/zero_copy"))
}

fn examples(host: &Host) -> Result<()> {
    run(&host.tree.join("build/bin/zero_copy"))?;
    run(&host.tree.join("build/bin/seven_steps"))
}
