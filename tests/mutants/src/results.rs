// SPDX-License-Identifier: GPL-2.0
//! What is known of each mutant: one file each under build/mutants/results, named by the text that
//! changes and its function. So a run that was ended goes on where it was, and what was found holds
//! until that text becomes another; the report tells which files have changed around it.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

use crate::mutant::Mutant;

/// What noticed a mutant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catch {
    /// The machine, or `unit`.
    pub machine: String,
    pub suite: String,
    pub test: String,
    /// The first line of what it said.
    pub said: String,
}

/// One step that was run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub seconds: u64,
    pub caught: Option<Catch>,
}

/// All that is known of one mutant.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    pub file: String,
    pub what: String,
    /// The file as it was; see [`Mutant::version`].
    #[serde(default)]
    pub version: String,
    /// Why it does not build.
    pub unbuildable: Option<String>,
    pub steps: Vec<Step>,
}

/// What a record comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was run yet.
    Unknown,
    Unbuildable,
    Caught(Catch),
    Survived,
}

impl Record {
    pub fn verdict(&self) -> Verdict {
        if self.unbuildable.is_some() {
            return Verdict::Unbuildable;
        }
        match self.steps.iter().find_map(|step| step.caught.clone()) {
            Some(catch) => Verdict::Caught(catch),
            None if self.steps.is_empty() => Verdict::Unknown,
            None => Verdict::Survived,
        }
    }

    pub fn has(&self, step: &str) -> bool {
        self.steps.iter().any(|done| done.name == step)
    }
}

pub struct Results {
    folder: PathBuf,
}

impl Results {
    pub fn open(project: &Path) -> Result<Self> {
        let folder = project.join("build/mutants/results");
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, mutant: &Mutant) -> PathBuf {
        self.folder.join(format!("{}.json", mutant.key()))
    }

    /// What is known; nothing, if that cannot be read.
    pub fn get(&self, mutant: &Mutant) -> Record {
        let known = fs::read(self.path(mutant)).ok();
        known
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_else(|| Record {
                name: mutant.name.clone(),
                file: mutant.file.clone(),
                what: mutant.what.clone(),
                version: mutant.version(),
                ..Record::default()
            })
    }

    pub fn verdict(&self, mutant: &Mutant) -> Verdict {
        self.get(mutant).verdict()
    }

    /// Keeps a record, whole or not at all.
    pub fn put(&self, mutant: &Mutant, record: &Record) -> Result<()> {
        let path = self.path(mutant);
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec_pretty(record)?)?;
        Ok(fs::rename(new, path)?)
    }
}
