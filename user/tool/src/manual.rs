// SPDX-License-Identifier: GPL-2.0
//! Completions and man pages, made from the command line's own description.

mod page;
pub mod words;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use serde::Serialize;
use std::path::{Path, PathBuf};

use crate::cli::Cli;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub struct CompletionArguments {
    /// For which shell
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub struct ManArguments {
    /// The directory to write them to; it must be there
    directory: PathBuf,
}

#[derive(Serialize)]
struct Completions {
    shell: String,
    script: String,
}

#[derive(Serialize)]
struct Pages {
    pages: Vec<PathBuf>,
}

pub fn completions(arguments: &CompletionArguments, output: Output) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Cli::command(),
        "qat-iommu",
        &mut script,
    );
    let shown = Completions {
        shell: arguments.shell.to_string(),
        script: String::from_utf8(script)?,
    };
    output.show(&shown, |shown| shown.script.clone())
}

pub fn man(arguments: &ManArguments, output: Output) -> anyhow::Result<()> {
    let pages = write_pages(&arguments.directory)?;
    output.show(&Pages { pages }, |shown| {
        let names = shown
            .pages
            .iter()
            .map(|path| format!("{}\n", path.display()));
        names.collect()
    })
}

/// `qat-iommu.1`, and a page for each subcommand that is not hidden.
fn write_pages(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    // The subcommand `help` has no page to be referred to.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = vec![page::write(
        &command,
        "qat-iommu",
        &words::PROGRAM,
        directory,
    )?];
    for subcommand in command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        let name = subcommand.get_name();
        let said = words::of(name).with_context(|| format!("{name} has no examples"))?;
        let page = format!("qat-iommu-{name}");
        pages.push(page::write(subcommand, &page, said, directory)?);
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap_complete::generate;

    fn subcommands(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
        command
            .get_subcommands()
            .filter(|one| !one.is_hide_set() && one.get_name() != "help")
    }

    /// Whatever subcommand there is: it takes --json, has a man page with each of its options in
    /// it, and each shell completes it and them.
    #[test]
    fn no_subcommand_goes_without() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path();
        write_pages(directory).unwrap();
        let scripts = [Shell::Bash, Shell::Zsh, Shell::Fish].map(|shell| {
            let mut script = Vec::new();
            generate(shell, &mut Cli::command(), "qat-iommu", &mut script);
            String::from_utf8(script).unwrap()
        });
        let mut command = Cli::command();
        command.build();
        let mut pages = 1;
        for subcommand in subcommands(&command) {
            let name = subcommand.get_name();
            let page = directory.join(format!("qat-iommu-{name}.1"));
            let page = std::fs::read_to_string(&page).unwrap_or_default();
            pages += 1;
            let options = subcommand.get_arguments().filter_map(clap::Arg::get_long);
            let options: Vec<&str> = options.collect();
            assert!(options.contains(&"json"), "{name}");
            for option in options {
                let roff = option.replace('-', "\\-");
                assert!(page.contains(&roff), "the page of {name} lacks --{option}");
                let known = scripts.iter().all(|script| script.contains(option));
                assert!(known, "a shell does not complete {name} --{option}");
            }
            assert!(scripts.iter().all(|script| script.contains(name)), "{name}");
            for section in ["SYNOPSIS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
                let has = page.contains(&format!("\n.SH {section}\n"));
                assert!(has, "the page of {name} lacks {section}");
            }
        }
        let found = std::fs::read_dir(directory).unwrap().count();
        assert_eq!(found, pages, "pages");
        // The first page refers to each of the others, and to nothing else of this section.
        let first = std::fs::read_to_string(directory.join("qat-iommu.1")).unwrap();
        let references = first.matches("(1)").count();
        assert_eq!(references, pages - 1, "{first}");
    }
}
