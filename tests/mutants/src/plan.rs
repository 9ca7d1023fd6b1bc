// SPDX-License-Identifier: GPL-2.0
//! tests/mutants/plan.toml: the steps, each some suites in one machine, and in which order they are
//! tried on the mutants of a file.

use anyhow::{bail, ensure, Context as _, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::mutant::Mutant;

/// What is run at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The unit tests of the module's pure half.
    Unit,
    /// The machine that is suspended.
    Suspend,
    /// Suites, in a machine; only the tests whose names contain `only`.
    Machine {
        name: String,
        suites: Vec<String>,
        only: Option<String>,
    },
}

impl Step {
    /// `machine/suite,suite`, or that and `:test`, or `unit`.
    pub fn name(&self) -> String {
        match self {
            Self::Unit => "unit".to_owned(),
            Self::Suspend => "suspend".to_owned(),
            Self::Machine { name, suites, only } => {
                let only = only
                    .as_ref()
                    .map_or(String::new(), |only| format!(":{only}"));
                format!("{name}/{}{only}", suites.join(","))
            }
        }
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "unit" => Self::Unit,
            "suspend" => Self::Suspend,
            _ => {
                let Some((name, suites)) = text.split_once('/') else {
                    bail!("the step {text} is no machine/suite");
                };
                let (suites, only) = match suites.split_once(':') {
                    Some((suites, only)) => (suites, Some(only.to_owned())),
                    None => (suites, None),
                };
                let suites = suites.split(',').map(str::to_owned).collect();
                Self::Machine {
                    name: name.to_owned(),
                    suites,
                    only,
                }
            }
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Short names of steps.
    steps: BTreeMap<String, String>,
    /// By the beginnings of files' paths, the longest that fits: steps, in their order.
    files: BTreeMap<String, Vec<String>>,
}

/// Which steps of the plan are run.
pub enum Choice {
    /// As planned, or only the first few.
    Planned(Option<usize>),
    /// These.
    Named(Vec<String>),
}

pub struct Plan(Table);

impl Plan {
    pub fn read(project: &Path) -> Result<Self> {
        let text = fs::read_to_string(project.join("tests/mutants/plan.toml"))?;
        let plan = Self(toml::from_str(&text).context("tests/mutants/plan.toml")?);
        for name in plan.0.files.values().flatten() {
            plan.step(name)?;
        }
        Ok(plan)
    }

    /// A step by its short or its whole name.
    pub fn step(&self, name: &str) -> Result<Step> {
        Step::parse(self.0.steps.get(name).map_or(name, String::as_str))
    }

    /// Every step that has a short name.
    pub fn all(&self) -> Result<Vec<Step>> {
        self.0
            .steps
            .values()
            .map(|text| Step::parse(text))
            .collect()
    }

    /// What is run for a mutant, in its order: what is expected to notice it, then the plan of its
    /// file.
    pub fn of(&self, mutant: &Mutant, choice: &Choice) -> Result<Vec<Step>> {
        let names = match choice {
            Choice::Named(names) => names,
            Choice::Planned(_) => {
                let fits = |prefix: &&String| mutant.file.starts_with(prefix.as_str());
                let prefix = self
                    .0
                    .files
                    .keys()
                    .filter(fits)
                    .max_by_key(|prefix| prefix.len());
                let prefix = prefix.with_context(|| format!("no plan for {}", mutant.file))?;
                &self.0.files[prefix]
            }
        };
        let mut steps = Vec::new();
        if let Choice::Planned(_) = choice {
            if let Some(first) = &mutant.first {
                steps.push(self.step(first)?);
            }
        }
        for name in names {
            let step = self.step(name)?;
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        ensure!(!steps.is_empty(), "no step for {}", mutant.file);
        if let Choice::Planned(Some(most)) = choice {
            steps.truncate(*most);
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_keeps_its_name() {
        for name in ["unit", "suspend", "intel/info,owned", "intel/owned:twice"] {
            assert_eq!(Step::parse(name).expect("a step").name(), name);
        }
    }

    #[test]
    fn the_plan_can_be_read() {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let plan = Plan::read(&project).expect("the plan can be read");
        assert!(!plan.all().expect("its steps can be read").is_empty());
    }
}
