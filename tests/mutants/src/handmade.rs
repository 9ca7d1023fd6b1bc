// SPDX-License-Identifier: GPL-2.0
//! The breakages made by hand: the tables under tests/mutants/handmade. Each says which text is
//! replaced by which, and is in error if that text is not in its file exactly once.

use anyhow::{bail, ensure, Context as _, Result};
use serde::Deserialize;
use std::fs;
use std::path::Path;

use crate::edit::Edit;
use crate::mutant::{Mutant, Origin};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    mutant: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    /// What no longer holds.
    breaks: String,
    file: String,
    /// Where `find` is looked for: from this text on. The beginning of the file if empty.
    #[serde(default)]
    within: String,
    find: String,
    replace: String,
    /// A second text of the same file.
    #[serde(default)]
    also_find: String,
    #[serde(default)]
    also_replace: String,
    /// The step that is expected to notice: machine/suite.
    first: String,
}

/// All of them.
pub fn read(project: &Path) -> Result<Vec<Mutant>> {
    rows(project)?
        .into_iter()
        .map(|(class, row)| {
            let name = row.name.clone();
            one(project, &class, row).with_context(|| format!("the breakage {name}"))
        })
        .collect()
}

/// The rows of the tables, each with its class, which is its file's name.
fn rows(project: &Path) -> Result<Vec<(String, Row)>> {
    let mut files: Vec<_> = fs::read_dir(project.join("tests/mutants/handmade"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    files.sort();
    let mut all: Vec<(String, Row)> = Vec::new();
    for path in files {
        let class = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path)?;
        let table: Table =
            toml::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))?;
        for row in table.mutant {
            ensure!(
                all.iter().all(|(_, other)| other.name != row.name),
                "two breakages are called {}",
                row.name
            );
            all.push((class.clone(), row));
        }
    }
    Ok(all)
}

fn one(project: &Path, class: &str, row: Row) -> Result<Mutant> {
    let text = fs::read_to_string(project.join(&row.file)).context(row.file.clone())?;
    let mut edit = place(&text, &row.within, &row.find, row.replace)?;
    if !row.also_find.is_empty() {
        let second = place(&text, "", &row.also_find, row.also_replace)?;
        edit = both(&text, edit, second).context("the two texts overlap")?;
    }
    Ok(Mutant {
        origin: Origin::Hand,
        name: row.name,
        class: class.to_owned(),
        file: row.file,
        what: row.breaks,
        place: row.within,
        first: Some(row.first),
        text,
        edit,
    })
}

fn place(text: &str, within: &str, find: &str, with: String) -> Result<Edit> {
    let Some(from) = text.find(within) else {
        bail!("the file has no text {within:?}");
    };
    let mut found = text[from..].match_indices(find).map(|(at, _)| from + at);
    let Some(start) = found.next() else {
        bail!("the file has no text {find:?}: change the breakage as the code was changed");
    };
    ensure!(
        !within.is_empty() || found.next().is_none(),
        "the text {find:?} is in the file more than once: say `within` which text"
    );
    Ok(Edit {
        range: start..start + find.len(),
        with,
    })
}

/// One edit that makes two, in whichever order they stand.
fn both(text: &str, one: Edit, other: Edit) -> Option<Edit> {
    let (first, second) = if one.range.start <= other.range.start {
        (one, other)
    } else {
        (other, one)
    };
    let between = text.get(first.range.end..second.range.start)?;
    Some(Edit {
        range: first.range.start..second.range.end,
        with: format!("{}{between}{}", first.with, second.with),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_after_another() {
        let edit = place("a(); b(); a();", "b()", "a()", "c()".into()).expect("it is there");
        assert_eq!(edit.range, 10..13);
    }

    #[test]
    fn a_text_that_is_there_twice_needs_a_place() {
        assert!(place("a(); a();", "", "a()", String::new()).is_err());
    }

    #[test]
    fn two_places_are_one_edit() {
        let text = "a(); b(); c();";
        let place = |find: &str, with: &str| place(text, "", find, with.into()).expect("there");
        let edit = both(text, place("c()", "z()"), place("a()", "y()")).expect("they are apart");
        assert_eq!(edit.apply(text).as_deref(), Some("y(); b(); z();"));
    }

    #[test]
    fn a_text_that_is_gone_is_an_error() {
        assert!(place("a();", "", "b()", String::new()).is_err());
    }

    #[test]
    fn the_tables_can_be_read() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let all = rows(&project).expect("the tables can be read");
        assert!(all.len() >= 40, "{} breakages", all.len());
    }
}
