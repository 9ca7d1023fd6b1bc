// SPDX-License-Identifier: GPL-2.0
//! One breakage of the module: a file, and what is changed in it.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::edit::{fingerprint, one_line, Edit};

/// Who thought of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A person, of a rule that must hold.
    Hand,
    /// A rule for changing code.
    Operator,
}

/// One breakage.
#[derive(Clone, Debug)]
pub struct Mutant {
    pub origin: Origin,
    /// Names it in reports and on the command line.
    pub name: String,
    /// Its class (made by hand), or what was done to the code.
    pub class: String,
    /// Relative to the project.
    pub file: String,
    /// On one line: what is wrong now.
    pub what: String,
    /// The function that it is in, or the part of the file.
    pub place: String,
    /// The step that is expected to notice first.
    pub first: Option<String>,
    /// The file as it is.
    pub text: String,
    pub edit: Edit,
}

impl Mutant {
    /// Names the result: the same for as long as the code that changes, and its function, are.
    pub fn key(&self) -> String {
        let key = fingerprint(&[&self.name, &self.identity()]);
        format!("{key:016x}")
    }

    /// Names the file as it is.
    pub fn version(&self) -> String {
        format!("{:016x}", fingerprint(&[&self.text]))
    }

    /// Names the mutant for as long as the code around it says the same, wherever that stands.
    pub fn identity(&self) -> String {
        let gone = one_line(self.edit.gone(&self.text));
        format!(
            "{} | {} | {} | {}",
            self.file,
            self.place,
            gone,
            one_line(&self.edit.with)
        )
    }

    /// The changed file.
    pub fn changed(&self) -> Option<String> {
        self.edit.apply(&self.text)
    }

    /// The lines before and after.
    pub fn difference(&self) -> String {
        let Some(changed) = self.changed() else {
            return String::new();
        };
        let old: Vec<_> = self.text.lines().collect();
        let new: Vec<_> = changed.lines().collect();
        let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        let rest = old[same..]
            .iter()
            .rev()
            .zip(new[same..].iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        let line = |sign: char, text: &&str| format!("    {sign}{text}\n");
        old[same..old.len() - rest]
            .iter()
            .map(|text| line('-', text))
            .chain(
                new[same..new.len() - rest]
                    .iter()
                    .map(|text| line('+', text)),
            )
            .collect()
    }
}
