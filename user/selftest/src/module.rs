// SPDX-License-Identifier: GPL-2.0
//! Loading and unloading the project's kernel modules, and talking to those of
//! them that take commands through debugfs.

use anyhow::{bail, ensure, Context as _, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::{Host, OWN_DRIVER};
use crate::spawn;

/// The module under test.
pub const QAT_IOMMU: &str = "qat_iommu";
/// The test's driver of shared PFs.
pub const HOSTDRV: &str = "qat_hostdrv";
/// The kernel client in C.
pub const KCLIENT: &str = "qat_kclient";
/// The kernel client in Rust.
pub const KCLIENT_RUST: &str = "qat_kclient_rust";

/// The file of a module of the project.
pub fn file(host: &Host, name: &str) -> PathBuf {
    let release = rustix::system::uname();
    host.tree
        .join("build/module")
        .join(release.release().to_string_lossy().as_ref())
        .join(format!("{name}.ko"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = spawn::output(command).with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Loads a module.
pub fn load(host: &Host, name: &str, parameters: &[String]) -> Result<()> {
    run(Command::new("insmod")
        .arg(file(host, name))
        .args(parameters))
}

/// Removes a module.
pub fn unload(name: &str) -> Result<()> {
    run(Command::new("rmmod").arg(name))
}

pub fn is_loaded(name: &str) -> bool {
    Path::new("/sys/module").join(name).exists()
}

/// What keeps a module from being removed.
pub fn references(name: &str) -> Result<u64> {
    let path = format!("/sys/module/{name}/refcnt");
    let text = fs::read_to_string(&path).context(path)?;
    text.trim().parse().context("a number of references")
}

/// A value of `modinfo -F` for a module of the project, a line each.
pub fn info(host: &Host, name: &str, field: &str) -> Result<String> {
    let output = Command::new("modinfo")
        .args(["-F", field])
        .arg(file(host, name))
        .output()?;
    ensure!(
        output.status.success(),
        "modinfo: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// A loaded module, removed when this goes.
pub struct Loaded(&'static str);

impl Loaded {
    pub fn new(host: &Host, name: &'static str, parameters: &[&str]) -> Result<Self> {
        let parameters: Vec<String> = parameters.iter().map(|text| (*text).to_owned()).collect();
        load(host, name, &parameters).with_context(|| format!("cannot load {name}"))?;
        Ok(Self(name))
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // What should have removed it may have failed already.
        let _ = unload(self.0);
    }
}

/// The parameters that the module under test was loaded with.
pub fn parameters_now() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/sys/module/{QAT_IOMMU}/parameters"))? {
        let path = entry?.path();
        let value = fs::read_to_string(&path)?;
        let name = path.file_name().context("a parameter has a name")?;
        if !value.trim().is_empty() {
            found.push(format!("{}={}", name.to_string_lossy(), value.trim()));
        }
    }
    Ok(found)
}

/// The module under test, taken out; it comes back as it was when this goes.
pub struct Absent<'a> {
    host: &'a Host,
    parameters: Vec<String>,
}

impl<'a> Absent<'a> {
    pub fn new(host: &'a Host) -> Result<Self> {
        let parameters = parameters_now()?;
        unload(QAT_IOMMU)?;
        Ok(Self { host, parameters })
    }

    /// Tries to load it with these parameters in place of its own of the same names.
    pub fn try_load(&self, changed: &[&str]) -> Result<()> {
        let name = |parameter: &str| parameter.split('=').next().unwrap_or_default().to_owned();
        let names: Vec<String> = changed.iter().map(|parameter| name(parameter)).collect();
        let mut parameters: Vec<String> = self
            .parameters
            .iter()
            .filter(|parameter| !names.contains(&name(parameter)))
            .cloned()
            .collect();
        parameters.extend(changed.iter().map(|text| (*text).to_owned()));
        load(self.host, QAT_IOMMU, &parameters)
    }
}

impl Drop for Absent<'_> {
    fn drop(&mut self) {
        if is_loaded(QAT_IOMMU) {
            let _ = unload(QAT_IOMMU);
        }
        // What follows would fail with this as the reason.
        if let Err(error) = load(self.host, QAT_IOMMU, &self.parameters) {
            println!("    # cannot load {QAT_IOMMU} again: {error:#}");
        }
    }
}

/// Waits for the PFs of the module's driver: where it has one, it finds by itself those that are
/// marked for it.
pub fn pfs_are_back(host: &Host) -> Result<()> {
    if Path::new("/sys/bus/pci/drivers").join(OWN_DRIVER).exists() {
        for pf in host.all_pfs()? {
            if pf.wanted_driver()?.as_deref() == Some(OWN_DRIVER) {
                pf.wait_for(OWN_DRIVER)?;
            }
        }
    }
    Ok(())
}

/// The module under test, loaded with other parameters, until this goes.
pub struct Reloaded<'a>(#[expect(dead_code, reason = "kept for what its end does")] Absent<'a>);

impl<'a> Reloaded<'a> {
    pub fn with(host: &'a Host, parameters: &[&str]) -> Result<Self> {
        let absent = Absent::new(host)?;
        absent
            .try_load(parameters)
            .with_context(|| format!("cannot load {QAT_IOMMU} with {parameters:?}"))?;
        pfs_are_back(host)?;
        Ok(Self(absent))
    }
}

/// A debugfs file that takes one command a write and answers with one line.
pub struct CommandFile(PathBuf);

impl CommandFile {
    /// That of the kernel client in C.
    pub fn kclient() -> Self {
        Self("/sys/kernel/debug/qat_kclient/cmd".into())
    }

    /// That of the test's driver, for one of its PFs.
    pub fn hostdrv(pf: &str) -> Self {
        Self(format!("/sys/kernel/debug/qat_hostdrv/{pf}/cmd").into())
    }

    /// The answer to a command; a command that fails answers too.
    pub fn run(&self, command: &str) -> Result<String> {
        let written = fs::write(&self.0, command);
        let answer = self.answer()?;
        if let Err(error) = written {
            bail!("{command}: {answer} ({error})");
        }
        Ok(answer)
    }

    /// The file, for who writes a command to it in a way of his own.
    pub fn open(&self) -> Result<File> {
        let file = File::options().write(true).open(&self.0);
        file.with_context(|| format!("cannot open {}", self.0.display()))
    }

    /// The answer to the last command.
    pub fn answer(&self) -> Result<String> {
        let answer = fs::read_to_string(&self.0)
            .with_context(|| format!("cannot talk to {}", self.0.display()))?;
        Ok(answer.trim().to_owned())
    }

    /// Runs a command whose answer is known.
    pub fn expect(&self, command: &str, want: &str) -> Result<()> {
        let got = self.run(command)?;
        ensure!(got == want, "{command}: expected {want:?}, got {got:?}");
        Ok(())
    }
}
