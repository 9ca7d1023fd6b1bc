// SPDX-License-Identifier: GPL-2.0
//! What is printed: a table of the files, the lines that were not reached with the reasons, and
//! what is wrong: lines without a reason, and reasons that are no longer needed.

use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use crate::places::Lines;
use crate::reasons::Reasons;

/// Why a bracket is not reached.
const BRACKET: &str = "as the lines beside it";

/// A line that was not reached.
struct Missed {
    file: String,
    line: u32,
    code: String,
    reason: Option<String>,
}

/// The whole of it.
pub struct Report {
    /// Lines reached and lines with code, of each file.
    files: BTreeMap<String, (usize, usize)>,
    missed: Vec<Missed>,
    /// Reasons for what is reached, or is not there.
    stale: Vec<(String, String)>,
}

impl Report {
    pub fn new(lines: &Lines, reasons: Reasons, tree: &Path) -> Result<Self> {
        let mut files: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut missed = Vec::new();
        let mut used = BTreeSet::new();
        for ((file, line), reached) in &lines.0 {
            let count = files.entry(file.clone()).or_default();
            count.0 += usize::from(*reached);
            count.1 += 1;
            if *reached {
                continue;
            }
            if !texts.contains_key(file) {
                let text = std::fs::read_to_string(tree.join(file)).context(file.clone())?;
                let all = text.lines().map(|line| line.trim().to_owned()).collect();
                texts.insert(file.clone(), all);
            }
            let code = texts
                .get(file)
                .and_then(|all| all.get(usize::try_from(*line).ok()?.checked_sub(1)?))
                .with_context(|| format!("{file} has no line {line}: it is not what was built"))?;
            let key = (file.clone(), code.clone());
            let reason = reasons.get(&key).cloned();
            if reason.is_some() {
                used.insert(key);
            }
            // A bracket alone says nothing: it goes with the lines beside it.
            let bracket = !code.contains(char::is_alphanumeric);
            let reason = reason.or_else(|| bracket.then(|| BRACKET.to_owned()));
            missed.push(Missed {
                file: file.clone(),
                line: *line,
                code: code.clone(),
                reason,
            });
        }
        let stale = reasons
            .into_keys()
            .filter(|key| !used.contains(key))
            .collect();
        Ok(Self {
            files,
            missed,
            stale,
        })
    }

    fn total(&self) -> (usize, usize) {
        let add = |sum: (usize, usize), one: &(usize, usize)| (sum.0 + one.0, sum.1 + one.1);
        self.files.values().fold((0, 0), add)
    }

    /// Enough was reached, and what was not has a reason.
    pub fn is_good(&self, least: f64) -> bool {
        let (reached, all) = self.total();
        percent(reached, all) >= least && self.missed.iter().all(|one| one.reason.is_some())
    }
}

fn percent(reached: usize, all: usize) -> f64 {
    reached as f64 * 100.0 / (all.max(1) as f64)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (known, unknown): (Vec<&Missed>, Vec<&Missed>) =
            self.missed.iter().partition(|one| one.reason.is_some());
        if !known.is_empty() {
            writeln!(f, "\nNot reached, for a reason:")?;
        }
        let told = |one: &&Missed| one.reason.as_deref() != Some(BRACKET);
        for one in known.into_iter().filter(told) {
            let reason = one.reason.as_deref().unwrap_or_default();
            writeln!(
                f,
                "  {}:{}: {}\n      {reason}",
                one.file, one.line, one.code
            )?;
        }
        if !self.stale.is_empty() {
            writeln!(
                f,
                "\nReasons for lines that these suites reach, or that are no more:"
            )?;
        }
        for (file, code) in &self.stale {
            writeln!(f, "  {file} | {code}")?;
        }
        if !unknown.is_empty() {
            writeln!(f, "\nNot reached, without a reason:")?;
        }
        for one in unknown {
            writeln!(f, "  {}:{}: {}", one.file, one.line, one.code)?;
        }
        writeln!(f, "\nreached   of       %  file")?;
        for (file, (reached, all)) in &self.files {
            writeln!(
                f,
                "{reached:7} {all:4}  {:6.1}  {file}",
                percent(*reached, *all)
            )?;
        }
        let (reached, all) = self.total();
        writeln!(f, "{reached:7} {all:4}  {:6.1}  all", percent(reached, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(reasons: &[(&str, &str)]) -> Report {
        let dir = std::env::temp_dir().join(format!("coverage-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.rs"), "one();\n\ttwo();\nthree();\n").unwrap();
        let line = |number| ("a.rs".to_owned(), number);
        let lines = Lines([(line(1), true), (line(2), false), (line(3), true)].into());
        let reasons = reasons
            .iter()
            .map(|(code, why)| (("a.rs".to_owned(), (*code).to_owned()), (*why).to_owned()))
            .collect();
        Report::new(&lines, reasons, &dir).unwrap()
    }

    #[test]
    fn what_is_not_reached_needs_a_reason() {
        let bare = report(&[]);
        assert!(!bare.is_good(0.0));
        assert!(bare
            .to_string()
            .contains("without a reason:\n  a.rs:2: two();\n"));
        let told = report(&[("two();", "no such device")]);
        assert!(told.is_good(66.0) && !told.is_good(67.0));
        assert!(
            told.to_string().contains("      2    3    66.7  all\n"),
            "{told}"
        );
    }

    #[test]
    fn a_reason_for_what_is_reached_is_told() {
        let stale = report(&[("two();", "x"), ("one();", "y")]);
        assert!(stale.to_string().contains("no more:\n  a.rs | one();\n"));
    }
}
