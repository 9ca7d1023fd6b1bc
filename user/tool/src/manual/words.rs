// SPDX-License-Identifier: GPL-2.0
//! What help and man pages say beside the command line's own description: examples, and what the
//! exit status means. One source for both; a test parses every example.

use std::fmt::Write as _;

/// An example, and what it is for.
type Example = (&'static str, &'static str);

/// What there is to say of one subcommand.
pub struct Words {
    pub name: &'static str,
    pub examples: &'static [Example],
    pub status: &'static str,
}

/// Where a subcommand's exit status says no more than that.
const DONE_OR_NOT: &str = "0 if it was done; 1 if not, with a line that says why; 2 for a command \
                           line that makes no sense.";

/// The program as a whole.
pub const PROGRAM: Words = Words {
    name: "",
    examples: &[
        (
            "sudo qat-iommu doctor",
            "Is all well on this host? If not, the line to type",
        ),
        (
            "sudo qat-iommu bind 0000:6b:00.0",
            "Give a PF to the module",
        ),
        (
            "sudo qat-iommu map --user 1M -- qat-iommu list",
            "Map a first buffer, and see it",
        ),
        (
            "sudo dmesg | sudo qat-iommu explain",
            "What do the DMA faults of this boot mean?",
        ),
    ],
    status: DONE_OR_NOT,
};

const ALL: [Words; 11] = [
    Words {
        name: "doctor",
        examples: &[
            ("sudo qat-iommu doctor", "All checks"),
            (
                "qat-iommu doctor --quiet --memlock 2G",
                "Only what is wrong, for a program that maps 2 GiB",
            ),
            (
                "qat-iommu doctor --program ./prog",
                "Whose functions prog will use, too",
            ),
        ],
        status: "0 if all is well or there are only warnings; 1 if a check has failed; 2 for a \
                 command line that makes no sense.",
    },
    Words {
        name: "info",
        examples: &[
            ("qat-iommu info", "For people"),
            (
                "qat-iommu info --json",
                "All of it, with the module's parameters",
            ),
        ],
        status: DONE_OR_NOT,
    },
    Words {
        name: "list",
        examples: &[
            ("sudo qat-iommu list", "What is mapped now"),
            (
                "sudo qat-iommu list --watch 5",
                "Drawn again every 5 seconds, until Ctrl-C",
            ),
            ("sudo qat-iommu list --history", "What went, when and why"),
        ],
        status: DONE_OR_NOT,
    },
    Words {
        name: "map",
        examples: &[
            (
                "qat-iommu map --user 64M -- ./prog",
                "Run prog with a buffer at $QAT_IOMMU_IOVA",
            ),
            (
                "sudo qat-iommu map --phys 0x140000000 --size 2M",
                "Map RAM at its own address, until Ctrl-C",
            ),
            (
                "qat-iommu map --user 4K --access r --pf 0000:6b:00.0",
                "For one shared PF, which may only read it",
            ),
        ],
        status:
            "That of COMMAND (128 and the number of the signal that ended it); without one, 0. \
                 1 if nothing could be mapped; 2 for a command line that makes no sense.",
    },
    Words {
        name: "unmap",
        examples: &[(
            "sudo qat-iommu unmap --force 0x140000000 2M",
            "Once no device uses it; `qat-iommu list` shows both numbers",
        )],
        status: DONE_OR_NOT,
    },
    Words {
        name: "bind",
        examples: &[
            ("sudo qat-iommu bind 0000:6b:00.0 0000:70:00.0", "Two PFs"),
            (
                "sudo qat-iommu bind --boot",
                "Those in /etc/qat-iommu.conf, as at every boot",
            ),
        ],
        status: "0 if all of them are bound; 1 if one is not, with a line that says why; 2 for a \
                 command line that makes no sense.",
    },
    Words {
        name: "unbind",
        examples: &[(
            "sudo qat-iommu unbind 0000:6b:00.0",
            "Back to the driver that it had",
        )],
        status: "0 if all of them are unbound; 1 if one is not, with a line that says why; 2 for \
                 a command line that makes no sense.",
    },
    Words {
        name: "explain",
        examples: &[
            (
                "sudo dmesg | sudo qat-iommu explain",
                "All faults of this boot",
            ),
            (
                "sudo qat-iommu explain 0xfffffff00000",
                "Whose address is, or was, that?",
            ),
        ],
        status: "0 if something was explained; 1 if there is no fault in what was read, or the \
                 module's records cannot be; 2 for a command line that makes no sense.",
    },
    Words {
        name: "selftest",
        examples: &[
            ("sudo qat-iommu selftest", "Every usable PF"),
            ("qat-iommu selftest --pf 0000:6b:00.0", "One of them"),
        ],
        status:
            "0 if nothing failed; 1 if something did; 2 for a command line that makes no sense.",
    },
    Words {
        name: "bench",
        examples: &[(
            "qat-iommu bench --sizes 4K,2M --rounds 1000",
            "Median and 99th percentile of a thousand rounds",
        )],
        status: DONE_OR_NOT,
    },
    Words {
        name: "completions",
        examples: &[(
            "qat-iommu completions bash >~/.local/share/bash-completion/completions/qat-iommu",
            "For one user",
        )],
        status: DONE_OR_NOT,
    },
];

/// What there is to say of a subcommand; every one has its words.
pub fn of(name: &str) -> Option<&'static Words> {
    ALL.iter().find(|words| words.name == name)
}

/// The end of `--help`.
pub fn help(words: &Words) -> String {
    let mut text = String::from("Examples:");
    for (line, what) in words.examples {
        let _ = write!(text, "\n  {line}\n      {what}");
    }
    let _ = write!(text, "\n\nExit status: {}", words.status);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory as _, Parser as _};

    /// The tool's own part of a line for the shell.
    fn words_of(line: &str) -> Vec<&str> {
        let last = line.rsplit(" | ").next().unwrap_or_default();
        let before = last.split(" >").next().unwrap_or_default();
        let words = before.split(' ').skip_while(|word| *word == "sudo");
        words.collect()
    }

    #[test]
    fn every_subcommand_has_examples_that_are_right() {
        let command = Cli::command();
        let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
        let names: Vec<&str> = shown.map(clap::Command::get_name).collect();
        assert_eq!(names, ALL.map(|words| words.name));
        for words in ALL.iter().chain([&PROGRAM]) {
            assert!(!words.examples.is_empty(), "{}", words.name);
            for (line, what) in words.examples {
                let typed = words_of(line);
                assert_eq!(typed[0], "qat-iommu", "{line}");
                assert!(words.name.is_empty() || typed[1] == words.name, "{line}");
                let parsed = Cli::try_parse_from(&typed);
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                assert!(!what.is_empty(), "{line}");
            }
        }
    }
}
