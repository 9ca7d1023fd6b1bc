// SPDX-License-Identifier: GPL-2.0
//! The file that says which PFs are bound at boot: an address or `all` a line, `force` after it
//! if need be, `#` for comments.

use anyhow::{bail, Context as _, Result};
use qat_iommu::PfAddress;

use crate::host::Function;

pub const CONFIG: &str = "/etc/qat-iommu.conf";

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// `None` for all of them.
    pub pf: Option<PfAddress>,
    pub force: bool,
}

pub fn parse(text: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else {
            continue;
        };
        let pf = match first {
            "all" => None,
            address => Some(address.parse().with_context(|| format!("line {number}"))?),
        };
        let force = match (words.next(), words.next()) {
            (None, _) => false,
            (Some("force"), None) => true,
            _ => bail!("line {number}: only `force` may come after the address"),
        };
        entries.push(Entry { pf, force });
    }
    Ok(entries)
}

/// The PFs that the entries name, each once; a line of its own wins over `all`.
pub fn pfs(entries: &[Entry], there: &[Function]) -> Vec<(PfAddress, bool)> {
    let mut wanted: Vec<(PfAddress, bool)> = Vec::new();
    let named = entries
        .iter()
        .filter_map(|entry| Some((entry.pf?, entry.force)));
    let every = entries.iter().filter(|entry| entry.pf.is_none());
    let every = every.flat_map(|entry| there.iter().map(|pf| (pf.address, entry.force)));
    for (pf, force) in named.chain(every) {
        if !wanted.iter().any(|(known, _)| *known == pf) {
            wanted.push((pf, force));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_comments_and_force() {
        let text =
            "# PFs of the storage stack\n0000:6b:00.0\n\n 0000:70:00.0  force # no VFs\nall\n";
        let entries = parse(text).unwrap();
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0].pf.unwrap().to_string(), "0000:6b:00.0");
        assert!(!entries[0].force && entries[1].force);
        assert_eq!(entries[2].pf, None);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        for (text, wrong) in [("all\n6b:00.0\n", "line 2"), ("all now\n", "line 1")] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn an_address_named_twice_is_bound_once() {
        let entries = parse("0000:6b:00.0 force\n0000:6b:00.0\n").unwrap();
        assert_eq!(
            pfs(&entries, &[]),
            [("0000:6b:00.0".parse().unwrap(), true)]
        );
    }
}
