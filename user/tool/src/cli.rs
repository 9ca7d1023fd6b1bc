// SPDX-License-Identifier: GPL-2.0
//! The command line as a whole; completions and man pages are made from it.

use clap::{Parser, Subcommand};

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
    max_term_width = 100
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
    /// Exit status: 0 if all is well or there are only warnings, 1 if something has failed.
    /// Root sees the most; what needs root says so.
    Doctor(doctor::Arguments),
    /// The PFs that can be used, and the space of addresses that a program gets by default
    Info,
    /// What is mapped, by whom, and how large the IOMMU's pages are (root)
    List(list::Arguments),
    /// Map memory for the PFs while a command runs, or until a signal
    ///
    /// A mapping lives as long as the file that it was made through is open, so this program has
    /// to stay: it holds the mapping until COMMAND has ended (and ends with its status), or,
    /// without one, until it is interrupted. COMMAND finds QAT_IOMMU_IOVA, QAT_IOMMU_SIZE and,
    /// for a physical range, QAT_IOMMU_PHYS in its environment.
    Map(map::Arguments),
    /// Remove a mapping that a kernel client made and left behind (root)
    ///
    /// The mappings of programs go by themselves when the program ends; `qat-iommu list` marks
    /// those that a kernel module has left. Memory that a device may still use is not safe:
    /// remove only what nobody uses any more.
    Unmap(unmap::Arguments),
    /// Give PFs to the module: its driver's services stop, and it reaches only what is mapped (root)
    ///
    /// The driver that held the PF is remembered, and `qat-iommu unbind` gives it back. Refused,
    /// unless --force is given: a PF that shares its IOMMU group with other devices, one with VFs
    /// turned on, one whose services are in use, and a function that is no PF that the module
    /// knows.
    Bind(bind::BindArguments),
    /// Give PFs back to the driver that held them before (root)
    Unbind(bind::UnbindArguments),
    /// Explain a DMA fault: which PF, which mapping, whose, and the likely mistake (root)
    ///
    /// Takes a line of the kernel log, or an address, or the kernel log on standard input; on a
    /// terminal it reads the kernel log itself.
    Explain(explain::Arguments),
    /// Try it out: map, have a device read and write where one can be told to, unmap
    Selftest(selftest::Arguments),
    /// How long mapping and unmapping takes on this host, by size
    Bench(bench::Arguments),
    /// Print the completions for a shell
    Completions(manual::CompletionArguments),
    /// Write the man pages
    #[command(hide = true)]
    Man(manual::ManArguments),
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
