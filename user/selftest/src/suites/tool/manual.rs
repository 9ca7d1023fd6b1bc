// SPDX-License-Identifier: GPL-2.0
//! Every subcommand has help, JSON, completions and a man page.

use anyhow::{ensure, Context as _, Result};
use std::fs;
use std::process::Command;

use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::tool;

const SUBCOMMANDS: [&str; 11] = [
    "doctor",
    "info",
    "list",
    "map",
    "unmap",
    "bind",
    "unbind",
    "explain",
    "selftest",
    "bench",
    "completions",
];

pub fn tests() -> Vec<Test<Host>> {
    list_tests![help, json, completions, man_pages, usage_errors]
}

fn help(_: &Host) -> Result<()> {
    let all = tool::text(&["--help"])?;
    for name in SUBCOMMANDS {
        ensure!(
            all.lines().any(|line| line.trim_start().starts_with(name)),
            "--help lacks {name}"
        );
        let help = tool::text(&[name, "--help"])?;
        let usage = format!("Usage: qat-iommu {name}");
        ensure!(
            help.contains(&usage) && help.contains("--json"),
            "{name} --help: {help}"
        );
    }
    // And nothing that this test does not know of.
    let listed = all.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names: Vec<&str> = listed
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    expect::equal("subcommands", names, SUBCOMMANDS.to_vec())
}

/// Each subcommand once at least: what it answers, or its error, is JSON.
fn json(_: &Host) -> Result<()> {
    let answers = [
        &["doctor"][..],
        &["info"],
        &["list"],
        &["list", "--contexts"],
        &["list", "--history"],
        &["explain", "0x1000"],
        &["selftest"],
        &["bench", "--rounds", "1", "--sizes", "4K"],
        &["completions", "bash"],
        &["bind", "--boot"],
        &["map", "--user", "4K", "--", "true"],
    ];
    let errors = [
        &["unmap", "0x1000", "4K"][..],
        &["unbind", "0000:ff:1f.0"],
        &["explain", "nothing"],
    ];
    for name in SUBCOMMANDS {
        let tried = answers.iter().chain(&errors).any(|one| one[0] == name);
        ensure!(tried, "the JSON of {name} is not looked at");
    }
    for arguments in answers {
        tool::json(arguments)?;
    }
    // An error is an object, too.
    for arguments in errors {
        let mut command = tool::tool(arguments);
        let error = tool::json_of(command.arg("--json"))?;
        ensure!(error["error"].is_string(), "{arguments:?}: {error}");
    }
    Ok(())
}

fn completions(_: &Host) -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let script = tool::text(&["completions", shell])?;
        for name in SUBCOMMANDS {
            ensure!(
                script.contains(name),
                "the completions for {shell} lack {name}"
            );
        }
        ensure!(
            script.contains("memlock"),
            "the completions for {shell} lack options"
        );
    }
    // Bash takes them, and completes.
    let script =
        "source <(qat-iommu completions bash); COMP_WORDS=(qat-iommu expl); COMP_CWORD=1; \
                  read -r -a how < <(complete -p qat-iommu); at=0; \
                  until [[ ${how[at]} == -F ]]; do at=$((at + 1)); done; \
                  ${how[at + 1]} qat-iommu expl qat-iommu; echo \"${COMPREPLY[@]}\"";
    let output = tool::output(Command::new("bash").args(["-c", script]))?;
    expect::equal(
        "completion",
        String::from_utf8(output.stdout)?.trim(),
        "explain",
    )
}

fn man_pages(_: &Host) -> Result<()> {
    let directory = "/tmp/tool-man";
    fs::create_dir_all(directory)?;
    tool::text(&["man", directory])?;
    for name in ["qat-iommu".to_owned()]
        .into_iter()
        .chain(SUBCOMMANDS.map(|name| format!("qat-iommu-{name}")))
    {
        let path = format!("{directory}/{name}.1");
        let page = fs::read_to_string(&path).with_context(|| path.clone())?;
        ensure!(
            page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"),
            "{path}: {page}"
        );
        ensure!(
            page.contains(&name.replace('-', "\\-")),
            "{path} does not name the command"
        );
        if fs::exists("/usr/bin/mandoc")? {
            let output =
                tool::output(Command::new("mandoc").args(["-T", "lint", "-W", "error", &path]))?;
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(output.status.success(), "mandoc: {said}");
        }
    }
    let found = fs::read_dir(directory)?.count();
    expect::equal("pages", found, SUBCOMMANDS.len() + 1)
}

fn usage_errors(_: &Host) -> Result<()> {
    for wrong in [
        &["nonsense"][..],
        &["doctor", "--nonsense"],
        &["map"],
        &["map", "--phys", "0x1000"],
        &["map", "--user", "4K", "--size", "4K"],
        &["map", "--user", "12Q"],
        &["bind"],
        &["bind", "--boot", "0000:01:00.0"],
        &["unmap", "0x1000"],
        &["completions", "nonsense"],
        &["list", "--contexts", "--history"],
    ] {
        let output = tool::output(&mut tool::tool(wrong))?;
        expect::equal(
            &format!("status of {wrong:?}"),
            output.status.code(),
            Some(2),
        )?;
        ensure!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
    Ok(())
}
