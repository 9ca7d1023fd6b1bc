// SPDX-License-Identifier: GPL-2.0
//! What the module tells in debugfs: spaces, contexts, live mappings, and the last ones that went.
//! One record a line; only root may read them.

mod fields;
mod kinds;

pub use fields::Fields;
pub use kinds::{Backing, Context, Gone, Mapping, Space};

use anyhow::{bail, Context as _};

use crate::host::Host;

const DIRECTORY: &str = "/sys/kernel/debug/qat_iommu";

/// All of it, read one file after the other: what changes meanwhile may be half seen.
#[derive(Debug, Clone, Default)]
pub struct Records {
    pub spaces: Vec<Space>,
    pub contexts: Vec<Context>,
    pub mappings: Vec<Mapping>,
    /// Oldest first.
    pub history: Vec<Gone>,
}

impl Records {
    pub fn read(host: &Host) -> anyhow::Result<Self> {
        Ok(Self {
            spaces: read(host, "spaces", Space::from_fields)?,
            contexts: read(host, "contexts", Context::from_fields)?,
            mappings: read(host, "mappings", Mapping::from_fields)?,
            history: read(host, "history", Gone::from_fields)?,
        })
    }

    /// The space that a PF is in.
    pub fn space_of(&self, pf: &str) -> Option<&Space> {
        self.spaces
            .iter()
            .find(|space| space.pfs.iter().any(|address| address == pf))
    }

    pub fn space(&self, number: u64) -> Option<&Space> {
        self.spaces.iter().find(|space| space.number == number)
    }
}

fn read<T>(host: &Host, file: &str, one: impl Fn(&Fields) -> Option<T>) -> anyhow::Result<Vec<T>> {
    let path = format!("{DIRECTORY}/{file}");
    let text = match host.read(&path) {
        Ok(text) => text,
        Err(_) if !host.module_loaded() => {
            bail!("the kernel module is not loaded; load it with `modprobe qat_iommu`")
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            bail!("only root may read {path}; use sudo")
        }
        Err(_) if host.names("/sys/kernel/debug").is_empty() => bail!(
            "debugfs is not mounted, or hidden from this user; as root: \
             `mount -t debugfs none /sys/kernel/debug`"
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
    };
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            one(&Fields::new(line)).with_context(|| format!("{path}: strange line: {line}"))
        })
        .collect()
}
