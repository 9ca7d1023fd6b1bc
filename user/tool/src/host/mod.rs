// SPDX-License-Identifier: GPL-2.0
//! What this host is, as sysfs and procfs tell it. Every path is looked up below `root`, so that
//! the parsers can be tried on prepared trees; elsewhere it is `/`.

mod cpu;
mod devices;
mod groups;
mod ids;
mod kernel;
mod memory;
mod module;
mod users;

pub use devices::Function;
pub use groups::Reserved;
pub use kernel::{Iommu, Maker};
pub use module::OWN_DRIVER;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A host, seen through its file systems.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The one that this runs on.
    pub fn here() -> Self {
        Self { root: "/".into() }
    }

    /// One whose files are below `root`.
    #[cfg(test)]
    pub fn below(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// Where a file of the host is.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text without the white space around it.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<String> {
        Ok(fs::read_to_string(self.path(path))?.trim().to_owned())
    }

    /// The number in a file.
    pub fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        crate::number::parse(&self.read(path).ok()?).ok()
    }

    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// The names in a directory, sorted; none if it is not there.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(path))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The last part of what a link points to.
    pub fn link(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }
}
