// SPDX-License-Identifier: GPL-2.0
//! One step on a built tree: suites in a machine, ended at the first failure, or unit tests. A
//! machine that hangs, or whose kernel reports a bug, has noticed as well.

use anyhow::{Context as _, Result};
use rustix::process::{kill_process_group, Pid, Signal};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ExitStatus, Stdio};

use crate::machines::Machine;
use crate::results::Catch;
use crate::tap::{unit_failure, Follow};
use crate::tree::Tree;

/// Longer than any step takes on a busy machine, in seconds.
const TIMEOUT: &str = "420";
/// For the unit tests, a few times what they take.
const UNIT_TIMEOUT: &str = "300";

/// The unit tests of the module's pure half.
pub fn unit(tree: &Tree) -> Result<Option<Catch>> {
    let output = tree.run(
        "scripts/in-root",
        &[
            "timeout",
            UNIT_TIMEOUT,
            "cargo",
            "test",
            "--quiet",
            "--manifest-path",
            "user/Cargo.toml",
            "--package",
            "iova-model",
            "--",
            "--format",
            "pretty",
        ],
    )?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let hang = output.status.code() == Some(124);
    Ok(Some(unit_failure(&text).unwrap_or_else(|| {
        Catch {
            machine: "unit".to_owned(),
            suite: "iova-model".to_owned(),
            test: if hang {
                "(a hang)"
            } else {
                "(the program failed)"
            }
            .to_owned(),
            said: String::from_utf8_lossy(&output.stderr)
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned(),
        }
    })))
}

/// Suites in a machine.
pub fn machine(
    tree: &Tree,
    name: &str,
    machine: &Machine,
    suites: &[String],
    only: Option<&str>,
) -> Result<Option<Catch>> {
    let test = tree.root.join("build/test");
    let record = test.join(format!("{name}.json"));
    let said = test.join(format!("{name}.err"));
    let mut command = tree.command("scripts/vm");
    command
        .env("QAT_IOMMU_NO_BUILD", "1")
        .args(["--timeout", TIMEOUT, "--panic-on-warn"])
        .args(&machine.options)
        .arg("--log")
        .arg(test.join(format!("{name}.log")))
        .arg("--pf-record")
        .arg(&record)
        .args(["--", "qat-iommu-selftest", "--tree"])
        .arg(&tree.root)
        .args(&machine.told)
        .args(only.iter().flat_map(|only| ["--only", only]))
        .args(suites)
        .stdout(Stdio::piped())
        .stderr(File::create(&said)?)
        .process_group(0);
    let mut child = command.spawn().context("scripts/vm")?;
    let mut follow = Follow::default();
    let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    for line in lines {
        if let Some((suite, test, said)) = follow.line(&line?) {
            end(&mut child)?;
            return Ok(Some(Catch {
                machine: name.to_owned(),
                suite,
                test,
                said,
            }));
        }
    }
    let status = child.wait()?;
    let suite = match follow.suite() {
        "" => suites.first().cloned().unwrap_or_default(),
        suite => suite.to_owned(),
    };
    let caught = |test: &str, said: String| {
        Ok(Some(Catch {
            machine: name.to_owned(),
            suite: suite.clone(),
            test: test.to_owned(),
            said,
        }))
    };
    if !status.success() {
        let text = fs::read_to_string(&said).unwrap_or_default();
        return caught(end_name(status), first_report(&text));
    }
    for claim in &machine.claims {
        let record = record.to_string_lossy();
        let program = tree.root.join("build/bin/qat-iommu-selftest");
        let program = program.to_string_lossy();
        let arguments = [&*program, "record", "--pfs", &machine.pfs, &*record, claim];
        let output = tree.run("scripts/in-root", &arguments)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return caught(&format!("record_{claim}"), said);
        }
    }
    Ok(None)
}

/// The machine that is suspended, as scripts/test runs it.
pub fn suspend(tree: &Tree) -> Result<Option<Catch>> {
    let mut command = tree.command("scripts/test");
    let output = command
        .env("QAT_IOMMU_NO_BUILD", "1")
        .arg("suspend")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut follow = Follow::default();
    let failure = text.lines().find_map(|line| follow.line(line));
    Ok(failure.map(|(suite, test, said)| Catch {
        machine: "suspend".to_owned(),
        suite,
        test,
        said,
    }))
}

/// Ends a machine that has failed already.
fn end(child: &mut Child) -> Result<()> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        // It may have ended by itself.
        let _ = kill_process_group(group, Signal::TERM);
    }
    child.wait()?;
    Ok(())
}

fn end_name(status: ExitStatus) -> &'static str {
    match status.code() {
        Some(124) => "(a hang)",
        Some(125) => "(a report of the kernel)",
        _ => "(the test program failed)",
    }
}

/// What the kernel said first, of what scripts/vm shows.
fn first_report(text: &str) -> String {
    let numbered = |line: &&str| {
        line.trim()
            .split(':')
            .next()
            .is_some_and(|n| n.parse::<u32>().is_ok())
    };
    let report = text.lines().find(numbered).or_else(|| {
        text.lines().find(|line| {
            ["WARNING", "BUG", "panic"]
                .iter()
                .any(|word| line.contains(word))
        })
    });
    report
        .or(text.lines().last())
        .unwrap_or_default()
        .trim()
        .to_owned()
}
