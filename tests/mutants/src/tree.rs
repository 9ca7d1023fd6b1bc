// SPDX-License-Identifier: GPL-2.0
//! A copy of the project to break: its sources as they are, its programs, and a build of the module
//! that is kept from one mutant to the next.

use anyhow::{ensure, Context as _, Result};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub struct Tree {
    pub root: PathBuf,
    through: Option<String>,
}

impl Tree {
    /// The copy with this number, brought up to date.
    pub fn prepare(project: &Path, number: usize, through: Option<&str>) -> Result<Self> {
        let root = project.join(format!("build/mutants/tree-{number}"));
        fs::create_dir_all(root.join("build/test"))?;
        same(project, &root, &["build", ".git"])?;
        for part in ["bin", "lib", "examples"] {
            let status = Command::new("cp")
                .args(["--archive", "--link", "--force"])
                .arg(project.join("build").join(part))
                .arg(root.join("build"))
                .status()
                .context("cp")?;
            ensure!(status.success(), "the programs cannot be copied");
        }
        let tree = Self {
            root,
            through: through.map(str::to_owned),
        };
        let output = tree.command("scripts/build-module").arg("stock").output()?;
        ensure!(
            output.status.success(),
            "the module does not build as it is: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(tree)
    }

    /// A command in the tree, run through what was asked for.
    pub fn command(&self, program: &str) -> Command {
        let program = match self.root.join(program) {
            path if path.exists() => path,
            _ => PathBuf::from(program),
        };
        let mut command = match &self.through {
            Some(through) => {
                let mut command = Command::new(through);
                command.arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(&self.root).stdin(Stdio::null());
        command
    }

    pub fn run<I: AsRef<OsStr>>(&self, program: &str, arguments: &[I]) -> Result<Output> {
        let mut command = self.command(program);
        command.args(arguments).env("QAT_IOMMU_MODULE_ONLY", "1");
        command.env("CARGO_TARGET_DIR", self.root.join("build/target"));
        command.output().with_context(|| program.to_owned())
    }

    /// Builds the module; the error is what the compiler said.
    pub fn build(&self) -> Result<Result<(), String>> {
        let output = self.run("scripts/build-module", &["stock"])?;
        if output.status.success() {
            return Ok(Ok(()));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let error = said
            .lines()
            .find(|line| line.starts_with("error") || line.contains("error:"));
        Ok(Err(error.unwrap_or("the build failed").to_owned()))
    }

    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.root.join(file), text).with_context(|| file.to_owned())
    }
}

/// Makes `to` hold what `from` does. A file that has the same content already keeps its date, so that
/// no build begins from nothing.
fn same(from: &Path, to: &Path, but: &[&str]) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        let name = entry.file_name();
        if but.iter().any(|other| *other == name) || from.join(&name).symlink_metadata().is_ok() {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if but.iter().any(|other| *other == name) {
            continue;
        }
        let (old, new) = (entry.path(), to.join(&name));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            same(&old, &new, &["target"])?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&old)?;
            if fs::read_link(&new).ok().as_ref() != Some(&target) {
                let _ = fs::remove_file(&new);
                symlink(target, &new)?;
            }
        } else if fs::read(&new).ok() != Some(fs::read(&old)?) {
            fs::copy(&old, &new)?;
        }
    }
    Ok(())
}
