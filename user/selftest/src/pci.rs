// SPDX-License-Identifier: GPL-2.0
//! What an administrator can do to a PCI function through sysfs besides binding
//! it: take it out and find it again, reset it, turn its virtual functions on and
//! off, change the type of its IOMMU group's default domain.

use anyhow::{ensure, Context as _, Result};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::host::Bdf;

/// How long the kernel may take to notice something. A busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

const COMMAND: usize = 4;
const MEMORY: u16 = 2;
const MASTER: u16 = 4;

/// Waits until something is so.
pub fn wait_until(what: &str, so: impl Fn() -> Result<bool>) -> Result<()> {
    let late = Instant::now() + PATIENCE;
    while !so()? {
        ensure!(Instant::now() < late, "{what}: still not so after a while");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Has the kernel look for devices that it does not know.
pub fn rescan() -> Result<()> {
    fs::write("/sys/bus/pci/rescan", "1").context("cannot look for devices")
}

impl Bdf {
    /// Whether the kernel knows it.
    pub fn exists(&self) -> bool {
        self.path().join("driver_override").exists()
    }

    /// Has the kernel forget it.
    pub fn remove(&self) -> Result<()> {
        fs::write(self.path().join("remove"), "1")
            .with_context(|| format!("cannot remove {}", self.0))?;
        ensure!(!self.exists(), "{} was removed and is still there", self.0);
        Ok(())
    }

    /// Waits until the kernel knows it again.
    pub fn appears(&self) -> Result<()> {
        wait_until(&format!("{} comes back", self.0), || Ok(self.exists()))
    }

    /// Resets the function.
    pub fn reset(&self) -> Result<()> {
        fs::write(self.path().join("reset"), "1")
            .with_context(|| format!("cannot reset {}", self.0))
    }

    /// Keeps it for a driver; an empty name for whichever takes it.
    pub fn want(&self, driver: &str) -> Result<()> {
        fs::write(self.path().join("driver_override"), format!("{driver}\n"))
            .with_context(|| format!("cannot keep {} for {driver:?}", self.0))
    }

    /// Has the kernel look for a driver for it.
    pub fn probe(&self) -> Result<()> {
        fs::write("/sys/bus/pci/drivers_probe", &self.0)
            .with_context(|| format!("cannot look for a driver for {}", self.0))
    }

    /// Takes it from its driver, if it has one.
    pub fn release(&self) -> Result<()> {
        match self.driver() {
            Some(_) => self.unbind(),
            None => Ok(()),
        }
    }

    /// Its IOMMU group.
    pub fn group(&self) -> Result<Group> {
        let link = fs::read_link(self.path().join("iommu_group"))
            .with_context(|| format!("{} is in no IOMMU group", self.0))?;
        let name = link.file_name().context("a group has a number")?;
        Ok(Group(name.to_string_lossy().into_owned()))
    }

    /// How many virtual functions it can have; 0 if it is not of that kind.
    pub fn most_vfs(&self) -> Result<usize> {
        match fs::read_to_string(self.path().join("sriov_totalvfs")) {
            Ok(text) => Ok(text.trim().parse()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// How many virtual functions it says it has.
    pub fn count_vfs(&self) -> Result<usize> {
        let text = fs::read_to_string(self.path().join("sriov_numvfs"))?;
        Ok(text.trim().parse()?)
    }

    /// Turns as many virtual functions on, or off with 0.
    pub fn set_vfs(&self, count: usize) -> Result<()> {
        fs::write(self.path().join("sriov_numvfs"), count.to_string())
            .with_context(|| format!("cannot have {count} virtual functions of {}", self.0))
    }

    /// Its virtual functions, as they stand in sysfs.
    pub fn vfs(&self) -> Result<Vec<Bdf>> {
        let mut found = Vec::new();
        loop {
            let link = self.path().join(format!("virtfn{}", found.len()));
            let Ok(target) = fs::read_link(link) else {
                return Ok(found);
            };
            let name = target.file_name().context("a function has an address")?;
            found.push(Bdf(name.to_string_lossy().into_owned()));
        }
    }

    /// The command register.
    pub fn command(&self) -> Result<u16> {
        let config = fs::read(self.path().join("config"))?;
        let bytes = config.get(COMMAND..COMMAND + 2);
        let bytes = bytes.context("a short configuration space")?;
        Ok(u16::from_le_bytes(bytes.try_into()?))
    }

    /// Lets a function without a driver decode its memory, and do DMA if wanted, until what is
    /// returned goes.
    pub fn awake(&self, master: bool) -> Result<Awake<'_>> {
        let before = self.command()?;
        let more = if master { MEMORY | MASTER } else { MEMORY };
        self.set_command(before | more)?;
        Ok(Awake { pf: self, before })
    }

    fn set_command(&self, value: u16) -> Result<()> {
        use std::os::unix::fs::FileExt;
        let config = fs::OpenOptions::new()
            .write(true)
            .open(self.path().join("config"))?;
        config.write_all_at(&value.to_le_bytes(), u64::try_from(COMMAND)?)?;
        Ok(())
    }
}

/// A function whose command register is as it was when this goes.
pub struct Awake<'a> {
    pf: &'a Bdf,
    before: u16,
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        // A function that is gone needs nothing.
        let _ = self.pf.set_command(self.before);
    }
}

/// An IOMMU group, by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group(pub String);

impl Group {
    fn path(&self) -> PathBuf {
        PathBuf::from("/sys/kernel/iommu_groups").join(&self.0)
    }

    /// The devices in it, in order.
    pub fn devices(&self) -> Result<Vec<Bdf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.path().join("devices"))? {
            found.push(Bdf(entry?.file_name().to_string_lossy().into_owned()));
        }
        found.sort();
        Ok(found)
    }

    /// The type of its default domain.
    pub fn kind(&self) -> Result<String> {
        let text = fs::read_to_string(self.path().join("type"))?;
        Ok(text.trim().to_owned())
    }

    /// Changes that type.
    pub fn set_kind(&self, kind: &str) -> Result<(), rustix::io::Errno> {
        fs::write(self.path().join("type"), kind).map_err(|error| {
            rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)
        })
    }
}
