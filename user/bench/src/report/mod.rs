// SPDX-License-Identifier: GPL-2.0
//! The telling half: tables, JSON and a chart of what was measured, on the build machine.

mod bars;
mod chart;
mod rows;
mod table;

use anyhow::{ensure, Context as _, Result};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

use crate::record::Records;
use rows::Row;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What was measured on the kernel made for it, one file or more
    #[arg(long, required = true, num_args = 1..)]
    perf: Vec<PathBuf>,
    /// What was measured on the stock kernel
    #[arg(long, num_args = 0..)]
    stock: Vec<PathBuf>,
    /// Where the JSON goes
    #[arg(long)]
    json: PathBuf,
    /// A document whose parts between "<!-- NAME -->" and "<!-- end -->" are made anew
    #[arg(long)]
    document: Option<PathBuf>,
    /// Where the chart goes
    #[arg(long)]
    chart: Option<PathBuf>,
}

#[derive(Serialize)]
struct Json<'a> {
    rows: &'a [Row],
    stock: &'a [Row],
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let (perf, stock) = (read(&arguments.perf)?, read(&arguments.stock)?);
    let (rows, stock_rows) = (rows::rows(&perf), rows::rows(&stock));
    ensure!(!rows.is_empty(), "nothing of ours was measured");
    let json = Json {
        rows: &rows,
        stock: &stock_rows,
    };
    fs::write(&arguments.json, serde_json::to_string_pretty(&json)? + "\n")?;
    println!("{}", table::text(&rows));
    if perf
        .0
        .iter()
        .any(|record| record.row.starts_with("parallel"))
    {
        println!(
            "Two threads (wall-clock ns per map and unmap, of all threads together):\n\n{}",
            table::parallel(&perf)
        );
    }
    if !stock_rows.is_empty() {
        println!("The stock kernel:\n\n{}", table::text(&stock_rows));
    }
    let above = rows
        .iter()
        .chain(&stock_rows)
        .filter(|row| row.above)
        .count();
    println!(
        "{above} of {} rows are above a bar.",
        rows.len() + stock_rows.len()
    );
    if let Some(path) = &arguments.chart {
        fs::write(path, chart::svg(&rows, "What a map and an unmap cost"))?;
    }
    if let Some(path) = &arguments.document {
        let parts = [
            ("bars", table::markdown(&rows)),
            ("everybody", table::everybody(&perf)),
            ("parallel", table::parallel(&perf)),
            ("floor", table::floor(&perf)),
            ("stock", table::markdown(&stock_rows)),
        ];
        let mut text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        for (name, part) in parts {
            text = replaced(&text, name, &part)
                .with_context(|| format!("{}: {name}", path.display()))?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

fn read(paths: &[PathBuf]) -> Result<Records> {
    let mut all = Records::default();
    for path in paths {
        let path: &Path = path;
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        all.0.extend(Records::read(&text).0);
    }
    Ok(all)
}

/// The text with another part of this name.
fn replaced(text: &str, name: &str, part: &str) -> Result<String> {
    let begin = format!("<!-- {name} -->\n");
    let (before, rest) = text.split_once(&begin).context("there is no such part")?;
    let (_, after) = rest
        .split_once("<!-- end -->")
        .context("the part has no end")?;
    Ok(format!("{before}{begin}{part}<!-- end -->{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_is_made_anew() {
        let text = "a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\nkept\n<!-- end -->\n";
        let new = replaced(text, "x", "new\n").unwrap();
        assert_eq!(new, text.replace("old", "new"));
        assert!(replaced(text, "z", "").is_err());
    }
}
