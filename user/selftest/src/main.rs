// SPDX-License-Identifier: GPL-2.0
//! The tests of qat_iommu that run inside the test machine: real ioctls, real
//! processes, real DMA. `scripts/test` boots the machines and says by options
//! what each one is.

mod abi;
mod classic;
mod compat;
mod credentials;
mod dma;
mod expect;
mod faults;
mod fuzz;
mod helper;
mod host;
mod hostdrv;
mod ktap;
mod ledger;
mod libc_calls;
mod mem;
mod module;
mod pci;
mod record;
mod slot;
mod spawn;
mod suites;
mod tool;
mod traffic;
mod vfio;
mod watching;

use anyhow::{bail, Result};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Test qat_iommu on the machine that this runs on
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// The suites to run
    suites: Vec<String>,
    /// Run only the tests whose names contain this
    #[arg(long)]
    only: Option<String>,
    /// End with the first test that fails
    #[arg(long)]
    until_failure: bool,
    /// List the suites and their tests
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    host: host::Host,
}

#[derive(Subcommand)]
enum Mode {
    /// Be the second process of a test
    #[command(subcommand, hide = true)]
    Helper(helper::Task),
    /// Check what scripts/vm wrote with --pf-record
    Record {
        file: PathBuf,
        claim: record::Claim,
        /// How many PFs there were
        #[arg(long, default_value_t = 1)]
        pfs: usize,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("qat-iommu-selftest: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    match &arguments.mode {
        None => {}
        Some(Mode::Helper(task)) => return helper::run(task).map(|()| true),
        Some(Mode::Record { file, claim, pfs }) => {
            return record::check(file, *pfs, *claim).map(|()| true);
        }
    }
    let mut known = suites::all();
    if arguments.list {
        for suite in &known {
            println!("{}: {}", suite.name, suite.about);
            for test in &suite.tests {
                println!("    {}", test.name);
            }
        }
        return Ok(true);
    }
    let mut chosen = Vec::new();
    for name in &arguments.suites {
        match known.iter().position(|suite| suite.name == name) {
            Some(index) => chosen.push(known.swap_remove(index)),
            None => bail!("no suite is called {name}; see --list"),
        }
    }
    if chosen.is_empty() {
        bail!("which suites? see --list");
    }
    if let Some(part) = &arguments.only {
        for suite in &mut chosen {
            suite.tests.retain(|test| test.name.contains(part.as_str()));
        }
    }
    // A panic is a failed test; its message is in the report.
    std::panic::set_hook(Box::new(|_| {}));
    Ok(ktap::run(
        &chosen,
        &arguments.host,
        ledger::open,
        arguments.until_failure,
        &mut std::io::stdout(),
    )?)
}
