// SPDX-License-Identifier: GPL-2.0
//! Completions and man pages, made from the command line's own description.

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
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
    let mut command = Cli::command();
    command.build();
    let mut pages = vec![page(&command, "qat-iommu", directory)?];
    for subcommand in command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        if subcommand.get_name() != "help" {
            let name = format!("qat-iommu-{}", subcommand.get_name());
            pages.push(page(subcommand, &name, directory)?);
        }
    }
    Ok(pages)
}

fn page(command: &clap::Command, name: &str, directory: &Path) -> anyhow::Result<PathBuf> {
    let path = directory.join(format!("{name}.1"));
    let command = command.clone().name(name.to_owned());
    let mut text = Vec::new();
    // No date: the same source gives the same page.
    Man::new(command)
        .title(name.to_uppercase())
        .date("")
        .source(concat!("qat-iommu ", env!("CARGO_PKG_VERSION")))
        .manual("qat-iommu")
        .render(&mut text)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
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
        }
        let found = std::fs::read_dir(directory).unwrap().count();
        assert_eq!(found, pages, "pages");
    }
}
