// SPDX-License-Identifier: GPL-2.0
//! The tool `qat-iommu`, run as a user runs it, and its JSON taken apart.

use anyhow::{ensure, Context as _, Result};
use serde_json::Value;
use std::process::{Command, Output};

/// The tool with these arguments; what it prints is caught.
pub fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new("qat-iommu");
    command.args(arguments);
    command
}

/// Runs a command to its end.
pub fn output(command: &mut Command) -> Result<Output> {
    command
        .output()
        .with_context(|| format!("cannot run {command:?}"))
}

/// What the tool prints for people.
pub fn text(arguments: &[&str]) -> Result<String> {
    let output = output(&mut tool(arguments))?;
    ensure!(output.status.success(), "qat-iommu {arguments:?} failed");
    Ok(String::from_utf8(output.stdout)?)
}

/// What a command prints, which must be JSON, whatever its exit status.
pub fn json_of(command: &mut Command) -> Result<Value> {
    let output = output(command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("{command:?} prints no JSON but {text:?}; it said {said:?}")
    })
}

/// The tool's answer as JSON; it must succeed.
pub fn json(arguments: &[&str]) -> Result<Value> {
    // In front: what comes after `--` is not the tool's.
    let answer = json_of(tool(&["--json"]).args(arguments))?;
    ensure!(
        answer.get("error").is_none(),
        "qat-iommu {arguments:?}: {}",
        answer["error"]
    );
    Ok(answer)
}

/// The tool refuses, with this in its one line of explanation.
pub fn refuses(arguments: &[&str], part: &str) -> Result<()> {
    let output = output(&mut tool(arguments))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success(),
        "qat-iommu {arguments:?} was not refused"
    );
    ensure!(
        said.contains(part) && said.trim().lines().count() == 1,
        "qat-iommu {arguments:?} should say one line with {part:?}, and says {said:?}"
    );
    Ok(())
}

/// What `doctor` finds.
pub struct Diagnosis {
    pub report: Value,
    pub status: Option<i32>,
}

impl Diagnosis {
    /// Of this host, with more arguments.
    pub fn new(arguments: &[&str]) -> Result<Self> {
        let mut command = tool(&["doctor", "--json"]);
        command.args(arguments);
        Self::by(&mut command)
    }

    /// Of another command that runs `doctor --json`.
    pub fn by(command: &mut Command) -> Result<Self> {
        let output = output(command)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&text).with_context(|| {
            format!(
                "{command:?}: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        })?;
        Ok(Self {
            report,
            status: output.status.code(),
        })
    }

    /// Everything with this id.
    pub fn findings<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Value> {
        let all = self.report["checks"].as_array().into_iter().flatten();
        all.filter(move |finding| finding["id"] == id)
    }

    /// One finding has this id, this status, this in its text and this in its remedy.
    pub fn names(&self, id: &str, status: &str, text: &str, remedy: &str) -> Result<&Self> {
        let has = |finding: &Value, key: &str, part: &str| {
            finding[key]
                .as_str()
                .is_some_and(|value| value.contains(part))
        };
        let found = self.findings(id).any(|finding| {
            finding["status"] == status
                && has(finding, "text", text)
                && (remedy.is_empty() || has(finding, "remedy", remedy))
        });
        let all: Vec<&Value> = self.findings(id).collect();
        ensure!(
            found,
            "doctor should say {status} of {id}, with {text:?} and the remedy {remedy:?}; it says {all:?}"
        );
        Ok(self)
    }

    /// All is well with this check.
    pub fn is_well(&self, id: &str) -> Result<&Self> {
        let bad: Vec<&Value> = self
            .findings(id)
            .filter(|finding| finding["status"] != "ok")
            .collect();
        ensure!(
            bad.is_empty(),
            "doctor should be content with {id}; it says {bad:?}"
        );
        ensure!(self.findings(id).count() > 0, "doctor says nothing of {id}");
        Ok(self)
    }

    /// The exit status is 1 if there are failures, 0 if there are at most warnings; and these are
    /// all the failures that there are.
    pub fn fails_only_with(&self, ids: &[&str]) -> Result<()> {
        let all = self.report["checks"].as_array().into_iter().flatten();
        let failed = all.filter(|finding| finding["status"] == "failure");
        let mut failed: Vec<&str> = failed
            .filter_map(|finding| finding["id"].as_str())
            .collect();
        failed.dedup();
        ensure!(
            failed == ids,
            "doctor should fail with {ids:?}; it fails with {failed:?}: {}",
            self.report
        );
        let want = i32::from(!ids.is_empty());
        ensure!(
            self.status == Some(want),
            "exit status {:?}, should be {want}",
            self.status
        );
        Ok(())
    }
}
