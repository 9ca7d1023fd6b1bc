// SPDX-License-Identifier: GPL-2.0
//! Which operator mutants are tested: so many, the same share of each kind, drawn with a seed. The
//! draw goes by the text of a place, so that the sample stays what it is where the code does.

use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::edit;
use crate::handmade;
use crate::mutant::{Mutant, Origin};
use crate::operators::{self, Kind};
use crate::results::{Results, Verdict};

pub const SEED: u64 = 20_261_121;
pub const COUNT: usize = 100;

/// Those made by hand, and the sample. A mutant that is known not to build has another in its
/// place.
pub fn mutants(project: &Path, seed: u64, count: usize, results: &Results) -> Result<Vec<Mutant>> {
    let mut all = handmade::read(project)?;
    let mut kinds = ranked(project, seed)?;
    let mut drawn = 0;
    while drawn < count && kinds.iter().any(|(_, ranked)| !ranked.is_empty()) {
        for (_, ranked) in &mut kinds {
            while let Some(mutant) = ranked.pop() {
                if results.verdict(&mutant) == Verdict::Unbuildable {
                    continue;
                }
                if drawn < count {
                    all.push(mutant);
                    drawn += 1;
                }
                break;
            }
        }
    }
    Ok(all)
}

/// The Rust sources of the module, in the order of their names.
fn sources(project: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::from("rust_qat_iommu.rs")];
    let mut folders = vec![PathBuf::from("iova"), PathBuf::from("remap")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(project.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Every mutant of each kind, the first of the draw last.
fn ranked(project: &Path, seed: u64) -> Result<Vec<(Kind, Vec<Mutant>)>> {
    let mut kinds: Vec<(Kind, Vec<(u64, Mutant)>)> = Kind::ALL
        .into_iter()
        .map(|kind| (kind, Vec::new()))
        .collect();
    for path in sources(project)? {
        let file = path.to_string_lossy().into_owned();
        let text = fs::read_to_string(project.join(&path))?;
        let found = operators::candidates(&text).with_context(|| file.clone())?;
        // The same change of the same text in one function: told apart by its number.
        let mut seen: HashMap<String, usize> = HashMap::new();
        for candidate in found {
            let mut mutant = Mutant {
                origin: Origin::Operator,
                name: String::new(),
                class: candidate.kind.name().to_owned(),
                file: file.clone(),
                what: candidate.what,
                place: candidate.place,
                first: None,
                text: text.clone(),
                edit: candidate.edit,
            };
            let identity = format!("{} | {}", mutant.identity(), mutant.what);
            let number = seen.entry(identity.clone()).or_default();
            *number += 1;
            let draw = edit::draw(&[&seed.to_string(), &identity, &number.to_string()]);
            mutant.name = format!("{}-{:08x}", mutant.class, draw >> 32);
            if let Some((_, list)) = kinds.iter_mut().find(|(kind, _)| *kind == candidate.kind) {
                list.push((draw, mutant));
            }
        }
    }
    Ok(kinds
        .into_iter()
        .map(|(kind, mut list)| {
            list.sort_by(|one, two| two.0.cmp(&one.0));
            (kind, list.into_iter().map(|(_, mutant)| mutant).collect())
        })
        .collect())
}
