// SPDX-License-Identifier: GPL-2.0
//! tests/mutants/plan.toml: the steps, each some suites in one machine, and in which order they are
//! tried on the mutants of a file.

use anyhow::{bail, ensure, Context as _, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::mutant::Mutant;

/// The module's pure half, built for the build machine.
const PURE: &str = "iova-model";

/// What is run at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The unit tests of a package: the module's pure half is one.
    Unit(String),
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
    /// `machine/suite,suite`, or that and `:test`, or `unit` or `unit:package`.
    pub fn name(&self) -> String {
        match self {
            Self::Unit(package) if package == PURE => "unit".to_owned(),
            Self::Unit(package) => format!("unit:{package}"),
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
            "unit" => Self::Unit(PURE.to_owned()),
            "suspend" => Self::Suspend,
            _ if text.starts_with("unit:") => Self::Unit(text.replacen("unit:", "", 1)),
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
    /// By the names of operator mutants: the step that is expected to notice first.
    #[serde(default)]
    first: BTreeMap<String, String>,
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
        for name in plan.0.files.values().flatten().chain(plan.0.first.values()) {
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
            let first = mutant.first.as_ref().or(self.0.first.get(&mutant.name));
            if let Some(first) = first {
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
        for name in [
            "unit",
            "unit:a-package",
            "suspend",
            "intel/info,owned",
            "intel/owned:twice",
        ] {
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
