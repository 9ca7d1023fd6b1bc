// SPDX-License-Identifier: GPL-2.0
//! The command line as a whole; completions and man pages are made from it.

use clap::{Parser, Subcommand};

use crate::manual::words;
use crate::{bench, bind, doctor, explain, list, manual, map, selftest, unmap};

/// Decide, see and explain which memory the QAT Physical Functions (PFs) of this host reach by DMA
///
/// Start with `qat-iommu doctor`: it says what is wrong on this host, if anything, and the line to
/// type.
#[derive(Debug, Parser)]
#[command(
    name = "qat-iommu",
    version,
    propagate_version = true,
    max_term_width = 100,
    subcommand_value_name = "COMMAND",
    after_long_help = words::help(&words::PROGRAM)
)]
pub struct Cli {
    /// Print JSON for programs, not text for people
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Is everything right on this host, and if not, which line to type?
    ///
    /// Root sees the most; what needs root says so.
    #[command(after_long_help = examples("doctor"))]
    Doctor(doctor::Arguments),
    /// The PFs that can be used, and the space of addresses that a program gets by default
    #[command(after_long_help = examples("info"))]
    Info,
    /// What is mapped, by whom, and how large the IOMMU's pages are (root)
    #[command(after_long_help = examples("list"))]
    List(list::Arguments),
    /// Map memory for the PFs while a command runs, or until a signal
    ///
    /// A mapping lives as long as the file that it was made through is open, so this program has
    /// to stay: it holds the mapping until COMMAND has ended (and ends with its status), or,
    /// without one, until it is interrupted. COMMAND finds QAT_IOMMU_IOVA, QAT_IOMMU_SIZE and,
    /// for a physical range, QAT_IOMMU_PHYS in its environment.
    #[command(after_long_help = examples("map"))]
    Map(map::Arguments),
    /// Remove a mapping that a kernel client made and left behind (root)
    ///
    /// The mappings of programs go by themselves when the program ends; `qat-iommu list` marks
    /// those that a kernel module has left. Memory that a device may still use is not safe:
    /// remove only what nobody uses any more.
    #[command(after_long_help = examples("unmap"))]
    Unmap(unmap::Arguments),
    /// Give PFs to the module: its driver's services stop, and it reaches only what is mapped (root)
    ///
    /// The driver that held the PF is remembered, and `qat-iommu unbind` gives it back. Refused,
    /// unless --force is given: a PF that shares its IOMMU group with other devices, one with VFs
    /// turned on, one whose services are in use, and a function that is no PF that the module
    /// knows.
    #[command(after_long_help = examples("bind"))]
    Bind(bind::BindArguments),
    /// Give PFs back to the driver that held them before (root)
    #[command(after_long_help = examples("unbind"))]
    Unbind(bind::UnbindArguments),
    /// Explain a DMA fault: which PF, which mapping, whose, and the likely mistake (root)
    ///
    /// Takes a line of the kernel log, or an address, or the kernel log on standard input; on a
    /// terminal it reads the kernel log itself.
    #[command(after_long_help = examples("explain"))]
    Explain(explain::Arguments),
    /// Try it out: map, have a device read and write where one can be told to, unmap
    #[command(after_long_help = examples("selftest"))]
    Selftest(selftest::Arguments),
    /// How long mapping and unmapping takes on this host, by size
    #[command(after_long_help = examples("bench"))]
    Bench(bench::Arguments),
    /// Print the completions for a shell
    #[command(after_long_help = examples("completions"))]
    Completions(manual::CompletionArguments),
    /// Write the man pages
    #[command(hide = true)]
    Man(manual::ManArguments),
}

/// What the long help of a subcommand ends with.
fn examples(name: &str) -> String {
    words::of(name).map(words::help).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_and_argument_is_described() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                let name = format!("{} {}", command.get_name(), argument.get_id());
                assert!(argument.get_help().is_some(), "{name}");
            }
        }
    }
}
