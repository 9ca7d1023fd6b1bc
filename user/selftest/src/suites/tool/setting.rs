// SPDX-License-Identifier: GPL-2.0
//! Hosts that are other than they should be, for as long as a test looks at them: files and
//! modules that are put back, PFs with another driver, what a kernel client leaves, other users.

use anyhow::{ensure, Context as _, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::host::{Bdf, Host, OWN_DRIVER};
use crate::module::{CommandFile, Loaded, HOSTDRV, KCLIENT};
use crate::tool;

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let output = tool::output(command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

/// A command as the user nobody, without any group or capability.
pub fn nobody(command: &[&str]) -> Command {
    let mut nobody = Command::new("setpriv");
    nobody.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
    ]);
    nobody.args(command);
    nobody
}

/// A file with other content until this goes.
pub struct Changed {
    path: PathBuf,
    before: Option<Vec<u8>>,
}

impl Changed {
    pub fn new(path: impl Into<PathBuf>, text: &str) -> Result<Self> {
        let path = path.into();
        let before = fs::read(&path).ok();
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, before })
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        // A failure shows in the tests that follow.
        let _ = match &self.before {
            // Of a list of choices the one in brackets.
            Some(bytes) => fs::write(&self.path, chosen(bytes)),
            None => fs::remove_file(&self.path),
        };
    }
}

fn chosen(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let inside = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(bytes.to_vec(), |(choice, _)| choice.as_bytes().to_vec())
}

/// The directory of this kernel's modules, writable until this goes.
pub struct WritableModules(String);

impl WritableModules {
    const LAYER: &str = "/run/tool-modules";

    pub fn new() -> Result<Self> {
        let release = rustix::system::uname();
        let modules = format!("/lib/modules/{}", release.release().to_string_lossy());
        let layer = Self::LAYER;
        fs::create_dir_all(layer)?;
        run(Command::new("mount").args(["-t", "tmpfs", "tool", layer]))?;
        fs::create_dir_all(format!("{layer}/upper"))?;
        fs::create_dir_all(format!("{layer}/work"))?;
        let options = format!("lowerdir={modules},upperdir={layer}/upper,workdir={layer}/work");
        run(Command::new("mount").args(["-t", "overlay", "-o", &options, "tool", &modules]))?;
        Ok(Self(modules))
    }

    /// Installs the module as `make install` does.
    pub fn install(&self, host: &Host) -> Result<()> {
        let updates = format!("{}/updates", self.0);
        fs::create_dir_all(&updates)?;
        let from = crate::module::file(host, OWN_DRIVER);
        fs::copy(from, format!("{updates}/qat_iommu.ko")).context("cannot install the module")?;
        Ok(())
    }
}

impl Drop for WritableModules {
    fn drop(&mut self) {
        for directory in [&self.0, Self::LAYER] {
            let _ = run(Command::new("umount").arg(directory));
        }
    }
}

/// The PF is with a driver of its own while something is done, and with the module afterwards.
pub fn with_hostdrv(host: &Host, pf: &Bdf, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let driver = Loaded::new(host, HOSTDRV, &[])?;
    pf.unbind()?;
    pf.bind(HOSTDRV)?;
    fs::write(pf.path().join("driver_override"), "\n")?;
    let result = act();
    if pf.driver().as_deref() == Some(HOSTDRV) {
        pf.unbind()?;
    }
    drop(driver);
    pf.bind(OWN_DRIVER)?;
    result
}

/// The kernel client with a page of its own mapped 1:1, until it is removed.
pub struct Client {
    pub phys: u64,
    pub commands: CommandFile,
    _module: Loaded,
}

impl Client {
    pub fn with_a_page(host: &Host) -> Result<Self> {
        let module = Loaded::new(host, KCLIENT, &[])?;
        let commands = CommandFile::kclient();
        let answer = commands.run("alloc 4096")?;
        let (_, phys) = answer.split_once(" 0x").context("an address")?;
        let phys = u64::from_str_radix(phys, 16)?;
        commands.expect(&format!("map {phys:#x} {phys:#x} 4096"), "0")?;
        Ok(Self {
            phys,
            commands,
            _module: module,
        })
    }
}

/// An entry that a kernel client leaves when it is removed; `act` gets its IOVA.
pub fn with_leftover(host: &Host, act: impl FnOnce(u64) -> Result<()>) -> Result<()> {
    let phys = Client::with_a_page(host)?.phys;
    let result = act(phys);
    // What it left stands in the way of everything that follows.
    let phys = format!("{phys:#x}");
    let _ = tool::output(&mut tool::tool(&["unmap", "--force", &phys, "4096"]));
    result
}
