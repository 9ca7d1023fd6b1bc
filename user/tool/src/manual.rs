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

/// `qat-iommu.1`, and a page for each subcommand that is not hidden.
pub fn man(arguments: &ManArguments, output: Output) -> anyhow::Result<()> {
    let mut command = Cli::command();
    command.build();
    let mut pages = vec![page(&command, "qat-iommu", &arguments.directory)?];
    for subcommand in command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        if subcommand.get_name() != "help" {
            let name = format!("qat-iommu-{}", subcommand.get_name());
            pages.push(page(subcommand, &name, &arguments.directory)?);
        }
    }
    output.show(&Pages { pages }, |shown| {
        let names = shown
            .pages
            .iter()
            .map(|path| format!("{}\n", path.display()));
        names.collect()
    })
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
