// SPDX-License-Identifier: GPL-2.0
//! A copy of the project to break: its sources as they are, its programs, and a build of the module
//! that is kept from one mutant to the next.

use anyhow::{anyhow, ensure, Context as _, Result};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::machines::Kernel;
use crate::mutant::Mutant;

pub struct Tree {
    pub root: PathBuf,
    project: PathBuf,
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
            project: project.to_owned(),
            through: through.map(str::to_owned),
        };
        copy_files(
            &project.join("build/test"),
            &tree.root.join("build/test"),
            |name| ["classic", "zero_copy"].contains(&name),
        )?;
        tree.prepare_kernel(Kernel::Stock)?;
        Ok(tree)
    }

    /// Builds the module as it is for a kernel. What was kept of mutants of another is thrown away.
    pub fn prepare_kernel(&self, kernel: Kernel) -> Result<()> {
        // What the tests themselves need was built with the project.
        let folder = self.folder(kernel)?;
        copy_files(
            &self.project.join(&folder),
            &self.root.join(&folder),
            |name| name.ends_with(".ko") && name != "qat_iommu.ko",
        )?;
        self.build(kernel)?
            .map_err(|error| anyhow!("the module does not build as it is: {error}"))?;
        let built = fs::read(self.module(kernel)?)?;
        let base = self.base(kernel);
        if fs::read(&base).ok().as_ref() != Some(&built) {
            let kept = self.kept(kernel);
            let _ = fs::remove_dir_all(&kept);
            fs::create_dir_all(&kept)?;
            fs::write(base, built)?;
        }
        Ok(())
    }

    /// Where modules for a kernel are built, below the project or the tree.
    fn folder(&self, kernel: Kernel) -> Result<PathBuf> {
        let script = format!(
            ". scripts/lib/common.sh; cat \"$CACHE/{}/release\"",
            kernel.name()
        );
        let output = Command::new("bash")
            .args(["-c", &script, "scripts/mutants"])
            .current_dir(&self.project)
            .output()?;
        ensure!(
            output.status.success(),
            "there is no {} kernel",
            kernel.name()
        );
        let release = String::from_utf8(output.stdout)?;
        Ok(Path::new("build/module").join(release.trim()))
    }

    fn kept(&self, kernel: Kernel) -> PathBuf {
        self.root.join("build/mutants").join(kernel.name())
    }

    fn module(&self, kernel: Kernel) -> Result<PathBuf> {
        Ok(self.root.join(self.folder(kernel)?).join("qat_iommu.ko"))
    }

    /// The module as it is.
    pub fn base(&self, kernel: Kernel) -> PathBuf {
        self.kept(kernel).join("base.ko")
    }

    /// Puts a built module where machines load it from.
    pub fn put(&self, kernel: Kernel, built: &Path) -> Result<()> {
        fs::copy(built, self.module(kernel)?).with_context(|| built.display().to_string())?;
        Ok(())
    }

    /// Where a built mutant is kept.
    pub fn mutant(&self, kernel: Kernel, key: &str) -> PathBuf {
        self.kept(kernel).join(format!("{key}.ko"))
    }

    /// Builds a mutant and keeps it, and puts its file back. The error is what the compiler said.
    pub fn build_mutant(&self, kernel: Kernel, mutant: &Mutant) -> Result<Result<(), String>> {
        let kept = self.mutant(kernel, &mutant.key());
        if kept.exists() {
            return Ok(Ok(()));
        }
        self.write(&mutant.file, &changed(mutant)?)?;
        let result = self.build(kernel);
        self.write(&mutant.file, &mutant.text)?;
        let result = result?;
        if result.is_ok() {
            fs::copy(self.module(kernel)?, kept)?;
        }
        Ok(result)
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
        // A quarter less to do, and nobody looks.
        command.env(
            "QAT_IOMMU_BUILD_FLAGS",
            "KRUSTFLAGS=-Cdebuginfo=0 KCFLAGS=-g0",
        );
        // With one for all, a copy would run the unit tests that another has built.
        command.env("CARGO_TARGET_DIR", self.root.join("build/target"));
        command.output().with_context(|| program.to_owned())
    }

    /// Builds the module; the error is what the compiler said.
    fn build(&self, kernel: Kernel) -> Result<Result<(), String>> {
        let output = self.run("scripts/build-module", &[kernel.name()])?;
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

/// The changed file.
pub fn changed(mutant: &Mutant) -> Result<String> {
    mutant.changed().context("the place is not in the file")
}

fn copy_files(from: &Path, to: &Path, is: fn(&str) -> bool) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let chosen = name.to_str().is_some_and(is);
        if chosen {
            fs::copy(from.join(&name), to.join(&name))?;
        }
    }
    Ok(())
}
