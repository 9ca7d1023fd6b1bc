// SPDX-License-Identifier: GPL-2.0
//! Which lines of the module were reached, of those that have code: `scripts/coverage` runs the
//! suites and calls this with what came of it.
//!
//! `blocks` which instructions ran; `places` their lines; `functions` where those begin; `reasons` why a
//! line is not reached; `report` what is printed.

mod blocks;
mod functions;
mod places;
mod reasons;
mod report;

use anyhow::{Context as _, Result};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Report which lines of the module were reached
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The top of the project's tree
    #[arg(long, default_value = ".")]
    tree: PathBuf,
    /// Lines that cannot be reached, and why
    #[arg(long)]
    reasons: PathBuf,
    /// Fail below this share of lines reached, in percent
    #[arg(long, default_value_t = 95.0)]
    least: f64,
    /// For each kernel: a directory with qat_iommu.ko, the same linked (.elf) and disassembled
    /// (.dis), and *.cov
    #[arg(required = true)]
    builds: Vec<PathBuf>,
}

fn run() -> Result<bool> {
    let arguments = Arguments::parse();
    let mut lines = places::Lines::default();
    for build in &arguments.builds {
        places::add(&mut lines, build, &arguments.tree)
            .with_context(|| build.display().to_string())?;
    }
    functions::enter(&mut lines, &arguments.tree)?;
    let text = std::fs::read_to_string(&arguments.reasons)
        .with_context(|| arguments.reasons.display().to_string())?;
    let reasons = reasons::parse(&text)?;
    let report = report::Report::new(&lines, reasons, &arguments.tree)?;
    print!("{report}");
    Ok(report.is_good(arguments.least))
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("qat-iommu-coverage: {error:#}");
            ExitCode::from(2)
        }
    }
}
