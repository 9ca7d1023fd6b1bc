// SPDX-License-Identifier: GPL-2.0
//! `qat-iommu`: set up, look at and explain what the QAT PFs of this host may reach by DMA.
//!
//! Each subcommand is a module with its arguments and one function `run`; `host` is what sysfs,
//! procfs and the kernel log tell, `records` what the module's debugfs files tell.
#![deny(unsafe_code)]

mod bench;
mod bind;
mod cli;
mod doctor;
mod explain;
mod host;
mod info;
mod kernel_log;
mod list;
mod manual;
mod map;
mod number;
mod output;
mod records;
mod selftest;
mod signals;
mod testdev;
mod unmap;

use clap::Parser as _;
use cli::{Cli, Command};
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    match run(cli.command, output) {
        Ok(code) => code,
        Err(error) => {
            output.failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    let done = match command {
        Command::Doctor(arguments) => return doctor::run(&arguments, output),
        Command::Map(arguments) => return map::run(&arguments, output),
        Command::Selftest(arguments) => return selftest::run(&arguments, output),
        Command::Info => info::run(output),
        Command::List(arguments) => list::run(&arguments, output),
        Command::Unmap(arguments) => unmap::run(&arguments, output),
        Command::Bind(arguments) => bind::run_bind(&arguments, output),
        Command::Unbind(arguments) => bind::run_unbind(&arguments, output),
        Command::Explain(arguments) => explain::run(&arguments, output),
        Command::Bench(arguments) => bench::run(&arguments, output),
        Command::Completions(arguments) => manual::completions(&arguments, output),
        Command::Man(arguments) => manual::man(&arguments, output),
    };
    done.map(|()| ExitCode::SUCCESS)
}
