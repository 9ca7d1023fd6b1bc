// SPDX-License-Identifier: GPL-2.0
//! The module's own list of what is mapped, in debugfs: the buffers and pages that it
//! says each context has.

use anyhow::{Context as _, Result};
use std::fs;
use std::io;

use super::model::Range;
use crate::abi::Context;

const FILE: &str = "/sys/kernel/debug/qat_iommu/mappings";

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub context: u64,
    pub range: Range,
    /// A program's buffer, else a physical page.
    pub user: bool,
    pub backing: u64,
}

/// The list as it stands; nothing if this kernel shows none.
pub fn read() -> Result<Option<Vec<Line>>> {
    match fs::read_to_string(FILE) {
        Ok(text) => Ok(Some(parse(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(FILE),
    }
}

/// The number under which the list has a context.
pub fn number_of(context: &Context) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", context.number()))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("qat-iommu-context:"))
        .context("fdinfo does not tell the number of the context")?;
    Ok(line.trim().parse()?)
}

fn parse(text: &str) -> Result<Vec<Line>> {
    text.lines()
        .map(|line| parse_line(line).with_context(|| format!("strange line {line:?} in {FILE}")))
        .collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let value = |name: &str| {
        line.split(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let hex = |name: &str| u64::from_str_radix(value(name)?.strip_prefix("0x")?, 16).ok();
    let (first, last) = (hex("first")?, hex("last")?);
    Some(Line {
        context: value("context")?.parse().ok()?,
        range: (first, last.checked_sub(first)?.checked_add(1)?),
        user: value("kind")? == "user",
        backing: hex("backing")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_by_the_names_of_their_values() {
        let text = "space=1 first=0x1000 last=0x2fff kind=user access=rw backing=0x7f0000001000 \
                    page=0x1000..0x1000 context=7 pid=9 caller=- comm=a first=b\n";
        let line = Line {
            context: 7,
            range: (0x1000, 0x2000),
            user: true,
            backing: 0x7f00_0000_1000,
        };
        assert_eq!(parse(text).unwrap(), [line]);
        assert!(parse("space=1 last=0x1\n").is_err());
        assert_eq!(parse("").unwrap(), []);
    }
}
