// SPDX-License-Identifier: GPL-2.0
//! Why lines are not reached: a file with one entry a line, `path | code | reason`. The code is
//! that of the line, for line numbers change with every edit. `#` begins a comment.

use anyhow::{Context as _, Result};
use std::collections::BTreeMap;

/// Reasons, by file and code.
pub type Reasons = BTreeMap<(String, String), String>;

pub fn parse(text: &str) -> Result<Reasons> {
    let mut reasons = Reasons::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = (|| {
            let (path, rest) = line.split_once(" | ")?;
            // Code can have a bar in it; a reason has none.
            let (code, reason) = rest.rsplit_once(" | ")?;
            Some((
                (path.trim().to_owned(), code.trim().to_owned()),
                reason.trim().to_owned(),
            ))
        })();
        let (key, reason) =
            entry.with_context(|| format!("line {number} is not: path | code | reason"))?;
        reasons.insert(key, reason);
    }
    Ok(reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_may_have_bars() {
        let reasons = parse("# why\n\na.rs | if x | y { | never | no such device\n").unwrap();
        let key = ("a.rs".to_owned(), "if x | y { | never".to_owned());
        assert_eq!(
            reasons.get(&key).map(String::as_str),
            Some("no such device")
        );
        assert!(parse("a.rs: x\n").is_err());
    }
}
