// SPDX-License-Identifier: GPL-2.0
//! The zero-copy calls through the library, from C programs.

use anyhow::{ensure, Context as _, Result};
use std::path::Path;
use std::process::Command;

use crate::host::Host;
use crate::ktap::{list_tests, Test};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![every_call]
}

/// Runs a program to its end; what it says of a failure is the failure.
pub fn run(program: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
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
    run(&host.tree.join("build/test/zero_copy"), &[])
}
