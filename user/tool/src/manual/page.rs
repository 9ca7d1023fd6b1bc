// SPDX-License-Identifier: GPL-2.0
//! One man page: clap_mangen's sections, and those that it has not.

use anyhow::{Context as _, Result};
use clap_mangen::Man;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::words::Words;

/// Writes the page NAME.1.
pub fn write(
    command: &clap::Command,
    name: &str,
    words: &Words,
    directory: &Path,
) -> Result<PathBuf> {
    let path = directory.join(format!("{name}.1"));
    let text = page(command, name, words)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn page(command: &clap::Command, name: &str, words: &Words) -> Result<Vec<u8>> {
    let usage = command.clone().render_usage().to_string();
    // No date: the same source gives the same page.
    let man = Man::new(command.clone().name(name.to_owned()))
        .title(name.to_uppercase())
        .date("")
        .source(concat!("qat-iommu ", env!("CARGO_PKG_VERSION")))
        .manual("qat-iommu");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    text.extend(synopsis(&usage).into_bytes());
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
        text.extend(files().into_bytes());
    }
    text.extend(of_words(words).into_bytes());
    text.extend(see_also(name).into_bytes());
    Ok(text)
}

/// As `--help` has it: with the options' values, and which of them exclude each other.
fn synopsis(usage: &str) -> String {
    let usage = usage.trim_start_matches("Usage: ");
    format!(".SH SYNOPSIS\n.nf\n{}\n.fi\n", escaped(usage))
}

fn files() -> String {
    let mut text = String::from(".SH FILES\n");
    for (file, what) in [
        ("/dev/qat_iommu", "The device node of the module."),
        ("/etc/qat-iommu.conf", "The PFs to bind at every boot."),
        (
            "/sys/kernel/debug/qat_iommu/",
            "What is mapped, and what was: for root alone.",
        ),
        (
            "/run/qat-iommu/",
            "Which driver had each bound PF before, until the next boot.",
        ),
    ] {
        let _ = write!(text, ".TP\n{}\n{}\n", escaped(file), escaped(what));
    }
    text
}

fn of_words(words: &Words) -> String {
    let mut text = format!(".SH EXIT STATUS\n{}\n", escaped(words.status));
    text += ".SH EXAMPLES\n";
    for (line, what) in words.examples {
        let _ = write!(text, ".TP\n.B {}\n{}\n", escaped(line), escaped(what));
    }
    text
}

fn see_also(name: &str) -> String {
    let mut pages = vec!["qat_iommu(4)", "libqat_iommu(7)"];
    if name != "qat-iommu" {
        pages.insert(0, "qat-iommu(1)");
    }
    format!(".SH SEE ALSO\n{}\n", escaped(&pages.join(", ")))
}

/// Text that roff takes as it is, however its lines begin.
fn escaped(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) {
            format!("\\&{line}")
        } else {
            line
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roff_sees_no_request_in_a_text() {
        assert_eq!(escaped(".B a-b\n'c\\d"), "\\&.B a\\-b\n\\&'c\\ed");
    }
}
