// SPDX-License-Identifier: GPL-2.0
//! tests/mutants/equivalent.toml: the operator mutants that change nothing that anyone could
//! notice, each with the reason. Named by the text that changes and the function it is in, so that
//! an entry holds for as long as that text does.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::fs;
use std::path::Path;

use crate::mutant::Mutant;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    equivalent: Vec<Equivalent>,
}

/// One mutant, or several of one place, that change no behaviour.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Equivalent {
    pub file: String,
    /// The function.
    pub place: String,
    /// Its description, as `list` has it.
    pub what: String,
    pub reason: String,
}

impl Equivalent {
    pub fn is(&self, mutant: &Mutant) -> bool {
        self.file == mutant.file && self.place == mutant.place && self.what == mutant.what
    }
}

pub fn read(project: &Path) -> Result<Vec<Equivalent>> {
    let path = project.join("tests/mutants/equivalent.toml");
    let text = fs::read_to_string(&path).context("tests/mutants/equivalent.toml")?;
    let table: Table = toml::from_str(&text).context("tests/mutants/equivalent.toml")?;
    Ok(table.equivalent)
}
