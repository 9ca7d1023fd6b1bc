// SPDX-License-Identifier: GPL-2.0
//! What the module shows of itself: the files in debugfs, records of `key=value` pairs a
//! line each; the fdinfo of a context; its tracepoints.

use anyhow::{ensure, Context as _, Result};
use rustix::fd::AsRawFd;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use crate::abi::Context;

/// The folder in debugfs.
pub const FOLDER: &str = "/sys/kernel/debug/qat_iommu";
/// The files in it.
pub const LISTINGS: [&str; 4] = ["spaces", "contexts", "mappings", "history"];
const TRACING: &str = "/sys/kernel/tracing";

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    keys: Vec<String>,
    values: HashMap<String, String>,
}

impl Record {
    fn parse(line: &str) -> Result<Self> {
        let mut record = Self {
            keys: Vec::new(),
            values: HashMap::new(),
        };
        let mut rest = line;
        while !rest.is_empty() {
            let (key, after) = rest
                .split_once('=')
                .with_context(|| format!("no key=value at {rest:?} of {line:?}"))?;
            // The name of a process may hold spaces, and is the last.
            let (value, next) = match key {
                "comm" => (after, ""),
                _ => after.split_once(' ').unwrap_or((after, "")),
            };
            ensure!(
                !key.is_empty() && !key.contains(' ') && !value.is_empty(),
                "malformed: {line:?}"
            );
            let known = record.values.insert(key.to_owned(), value.to_owned());
            ensure!(known.is_none(), "{key} is there twice: {line:?}");
            record.keys.push(key.to_owned());
            rest = next;
        }
        Ok(record)
    }

    pub fn text(&self, key: &str) -> Result<&str> {
        let value = self.values.get(key);
        Ok(value.with_context(|| format!("no {key}= in {self:?}"))?)
    }

    /// A decimal or hexadecimal value.
    pub fn number(&self, key: &str) -> Result<u64> {
        let text = self.text(key)?;
        number(text).with_context(|| format!("{key}={text} is no number"))
    }

    /// The keys in their order.
    pub fn keys(&self) -> Vec<&str> {
        self.keys.iter().map(String::as_str).collect()
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The path of a listing.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(name)
}

/// The records of some text.
pub fn records(text: &str) -> Result<Vec<Record>> {
    text.lines().map(Record::parse).collect()
}

/// All of a listing.
pub fn listing(name: &str) -> Result<Vec<Record>> {
    let path = path(name);
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    records(&text).with_context(|| name.to_owned())
}

/// The mapping that begins at an IOVA, if it is listed.
pub fn mapping_at(iova: u64) -> Result<Option<Record>> {
    for record in listing("mappings")? {
        if record.number("first")? == iova {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The last unmap of what began at an IOVA.
pub fn unmap_at(iova: u64) -> Result<Record> {
    for record in listing("history")?.into_iter().rev() {
        if record.number("first")? == iova {
            return Ok(record);
        }
    }
    anyhow::bail!("no unmap at {iova:#x} in the history")
}

/// What `/proc/self/fdinfo` says of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdInfo {
    pub context: u64,
    pub space: u64,
    pub mappings: u64,
    pub bytes: u64,
    pub pinned: u64,
}

pub fn fdinfo(context: &Context) -> Result<FdInfo> {
    use rustix::fd::AsFd;
    let number = context.as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let value = |name: &str| -> Result<u64> {
        let name = format!("qat-iommu-{name}:\t");
        text.lines()
            .find_map(|line| line.strip_prefix(&name))
            .with_context(|| format!("no {name:?} in {text:?}"))?
            .parse()
            .context("a number")
    };
    Ok(FdInfo {
        context: value("context")?,
        space: value("space")?,
        mappings: value("mappings")?,
        bytes: value("bytes")?,
        pinned: value("pinned")?,
    })
}

/// Tracepoints that are on until this goes.
pub struct Tracing;

impl Tracing {
    /// Turns those of the module on, with nothing recorded yet.
    pub fn new() -> Result<Self> {
        fs::write(format!("{TRACING}/trace"), "").context("no tracefs")?;
        let tracing = Self;
        fs::write(format!("{TRACING}/events/qat_iommu/enable"), "1")
            .context("the module has no tracepoints")?;
        Ok(tracing)
    }

    /// What was recorded of one event, the values after its name.
    pub fn events(&self, name: &str) -> Result<Vec<Record>> {
        let text = fs::read_to_string(format!("{TRACING}/trace"))?;
        let mark = format!(": {name}: ");
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(&mark))
            .map(|(_, values)| Record::parse(values))
            .collect()
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        // The module may be gone by now.
        let _ = fs::write(format!("{TRACING}/events/qat_iommu/enable"), "0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_spaces_and_equal_signs() {
        let record = Record::parse("context=7 bytes=0x3000 comm=a b=c d").unwrap();
        assert_eq!(record.number("context").unwrap(), 7);
        assert_eq!(record.number("bytes").unwrap(), 0x3000);
        assert_eq!(record.text("comm").unwrap(), "a b=c d");
        assert_eq!(record.keys(), ["context", "bytes", "comm"]);
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in ["context", "a=1  b=2", "a= b=2", "a=1 a=2", "=1"] {
            assert!(Record::parse(line).is_err(), "{line:?}");
        }
    }
}
