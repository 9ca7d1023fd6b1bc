// SPDX-License-Identifier: GPL-2.0
//! The report: which test noticed each mutant, and what is said of those that none noticed.

use anyhow::{ensure, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::equivalent::{self, Equivalent};
use crate::mutant::{Mutant, Origin};
use crate::results::{Catch, Results, Verdict};

#[derive(Serialize)]
struct Line<'a> {
    origin: Origin,
    name: &'a str,
    class: &'a str,
    file: &'a str,
    place: &'a str,
    change: &'a str,
    caught_by: Option<Catch>,
    /// Why nothing can notice it.
    equivalent: Option<&'a str>,
    /// Some step was run.
    ran: bool,
    /// The file has changed elsewhere since.
    earlier: bool,
    seconds: u64,
}

#[derive(Serialize)]
struct Report<'a> {
    seed: u64,
    mutants: Vec<Line<'a>>,
}

pub fn write(
    project: &Path,
    seed: u64,
    all: &[Mutant],
    results: &Results,
    markdown: &Path,
    json: &Path,
) -> Result<()> {
    let equivalents = equivalent::read(project)?;
    let mut open = Vec::new();
    let mut lines = Vec::new();
    for mutant in all {
        let record = results.get(mutant);
        let caught_by = match record.verdict() {
            Verdict::Caught(catch) => Some(catch),
            _ => None,
        };
        let equivalent = reason(&equivalents, mutant);
        if caught_by.is_none() && equivalent.is_none() {
            open.push(format!(
                "{} {:?}: {}",
                mutant.name,
                record.verdict(),
                mutant.what
            ));
        }
        lines.push(Line {
            origin: mutant.origin,
            name: &mutant.name,
            class: &mutant.class,
            file: &mutant.file,
            place: &mutant.place,
            change: &mutant.what,
            caught_by,
            equivalent,
            ran: record.verdict() != Verdict::Unknown,
            earlier: record.version != mutant.version(),
            seconds: record.steps.iter().map(|step| step.seconds).sum(),
        });
    }
    let report = Report {
        seed,
        mutants: lines,
    };
    fs::write(markdown, text(&report))?;
    if let Some(folder) = json.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(json, serde_json::to_vec_pretty(&report)?)?;
    ensure!(
        open.is_empty(),
        "{} mutants are neither caught nor explained:\n{}",
        open.len(),
        open.join("\n")
    );
    Ok(())
}

fn reason<'a>(equivalents: &'a [Equivalent], mutant: &Mutant) -> Option<&'a str> {
    if mutant.origin == Origin::Hand {
        return None;
    }
    let found = equivalents.iter().find(|known| known.is(mutant))?;
    Some(&found.reason)
}

/// Text in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Code in a table.
fn code(text: &str) -> String {
    format!("`{}`", cell(text).replace('`', "'"))
}

fn caught(line: &Line<'_>) -> String {
    let earlier = if line.earlier { " (\\*)" } else { "" };
    match &line.caught_by {
        Some(catch) if catch.machine == "unit" => {
            format!("unit tests: `{}`{earlier}", catch.test)
        }
        Some(catch) => format!(
            "{} / {}: `{}`{earlier}",
            catch.machine, catch.suite, catch.test
        ),
        None if line.equivalent.is_some() => "nothing: see below".to_owned(),
        None if line.ran => "**nothing yet**".to_owned(),
        None => "not run yet".to_owned(),
    }
}

fn text(report: &Report<'_>) -> String {
    let of = |origin| {
        report
            .mutants
            .iter()
            .filter(move |line| line.origin == origin)
    };
    let row = |origin| {
        let count = |is: fn(&Line<'_>) -> bool| of(origin).filter(|line| is(line)).count();
        format!(
            "{} | {} | {} | {} | {}",
            of(origin).count(),
            count(|line| line.caught_by.is_some()),
            count(|line| line.caught_by.is_none() && line.equivalent.is_some()),
            count(|line| line.ran && line.caught_by.is_none() && line.equivalent.is_none()),
            count(|line| !line.ran && line.equivalent.is_none()),
        )
    };
    let mut out = String::from(
        "<!-- SPDX-License-Identifier: GPL-2.0 -->\n# Which test notices what\n\n\
         Written by `scripts/mutants report`; how it is made, and what the words mean: [README](README.md).\n\
         (\\*): found before the file was changed elsewhere.\n\n",
    );
    let _ = writeln!(
        out,
        "| mutants | all | caught | no change of behaviour | not noticed yet | not run yet |\n\
         |---|---|---|---|---|---|\n\
         | made by hand | {} |\n| of operators, seed {} | {} |\n",
        row(Origin::Hand),
        report.seed,
        row(Origin::Operator),
    );

    let mut by: BTreeMap<String, usize> = BTreeMap::new();
    for catch in report
        .mutants
        .iter()
        .filter_map(|line| line.caught_by.as_ref())
    {
        *by.entry(format!("{} / {}", catch.machine, catch.suite))
            .or_default() += 1;
    }
    out.push_str("What notices first, in the order in which things are tried:\n\n| machine / suite | mutants |\n|---|---|\n");
    for (name, count) in by {
        let _ = writeln!(out, "| {name} | {count} |");
    }

    out.push_str("\n## Made by hand\n");
    let mut class = "";
    for line in of(Origin::Hand) {
        if line.class != class {
            class = line.class;
            let _ = writeln!(
                out,
                "\n### {class}\n\n| what is broken | file | caught by |\n|---|---|---|"
            );
        }
        let _ = writeln!(
            out,
            "| {} | `{}` | {} |",
            cell(line.change),
            line.file,
            caught(line)
        );
    }

    out.push_str("\n## Of operators\n");
    let mut lines: Vec<_> = of(Origin::Operator).collect();
    lines.sort_by_key(|line| (line.class, line.file, line.place));
    let mut class = "";
    for line in &lines {
        if line.class != class {
            class = line.class;
            let _ = writeln!(
                out,
                "\n### {class}\n\n| file | in | change | caught by |\n|---|---|---|---|"
            );
        }
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            line.file,
            code(line.place),
            cell(line.change),
            caught(line)
        );
    }

    out.push_str("\n## No change of behaviour\n\n");
    for line in lines.iter().filter(|line| line.caught_by.is_none()) {
        if let Some(reason) = line.equivalent {
            let _ = writeln!(
                out,
                "- `{}`, {}: {}. {reason}",
                line.file,
                code(line.place),
                line.change
            );
        }
    }
    out
}
