// SPDX-License-Identifier: GPL-2.0
//! `qat-iommu doctor`: is everything right on this host, and if not, which line to type? One
//! check a file; they run in an order in which each makes sense only if those before it are well.

mod checks;
mod facts;
mod finding;
mod program;

pub use facts::Facts;
pub use finding::{Finding, Status};

use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::number::{count, parse_size};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Say whose icp_sal_iommu_* and qae* functions this program will really use
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// How much memory a program is to have mapped at a time
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_size)]
    memlock: u64,
    /// Show only what is not well
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Serialize)]
struct Report {
    checks: Vec<Finding>,
    failures: usize,
    warnings: usize,
}

pub fn run(arguments: &Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let facts = Facts::gather(arguments.memlock);
    let mut findings = checks::all(&facts);
    if let Some(path) = &arguments.program {
        findings.extend(program::check(path)?);
    }
    let number = |status| {
        findings
            .iter()
            .filter(|finding| finding.status == status)
            .count()
    };
    let (failures, warnings) = (number(Status::Failure), number(Status::Warning));
    if arguments.quiet {
        findings.retain(|finding| finding.status != Status::Ok);
    }
    let report = Report {
        checks: findings,
        failures,
        warnings,
    };
    output.show(&report, people)?;
    Ok(if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn people(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.checks {
        let word = match finding.status {
            Status::Ok => "  ok  ",
            Status::Warning => " warn ",
            Status::Failure => " FAIL ",
        };
        let _ = writeln!(text, "[{word}] {}", finding.text);
        for line in finding.remedy.iter().flat_map(|remedy| remedy.lines()) {
            let _ = writeln!(text, "           {line}");
        }
    }
    let _ = writeln!(
        text,
        "{}, {}",
        count(report.failures, "failure"),
        count(report.warnings, "warning")
    );
    text
}
