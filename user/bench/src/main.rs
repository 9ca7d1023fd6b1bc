// SPDX-License-Identifier: GPL-2.0
//! `qat-iommu-bench`: what it costs to map and unmap a program's memory, ours beside VFIO type1,
//! libusdm, iommufd, and the kernel's own functions. One half measures, in a machine whose time
//! is counted (`scripts/bench` starts it); the other makes tables of what was measured.

mod classic;
mod clock;
mod flushes;
mod growth;
mod guest;
mod life;
mod machine;
mod memory;
mod parallel;
mod record;
mod report;
mod ways;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(about, version)]
enum Command {
    /// Measure, in the machine
    Guest(guest::Arguments),
    /// Count the invalidations in a trace of QEMU
    Flushes(flushes::Arguments),
    /// Make tables of what was measured
    Report(report::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Guest(arguments) => guest::run(&arguments),
        Command::Flushes(arguments) => flushes::tell(&arguments),
        Command::Report(arguments) => report::run(&arguments),
    }
}
