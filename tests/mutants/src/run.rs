// SPDX-License-Identifier: GPL-2.0
//! Runs mutants: each is written into a copy of the project and built, and the steps of its plan
//! are run until one notices.

use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crate::edit::one_line;
use crate::machines::{self, Machine};
use crate::mutant::Mutant;
use crate::plan::{Choice, Plan, Step};
use crate::results::{Catch, Results, Step as Done, Verdict};
use crate::tree::Tree;
use crate::trial;

pub struct Bench {
    pub project: PathBuf,
    pub jobs: usize,
    /// Held while a machine runs, if there is to be one at a time.
    pub turn: Option<Mutex<()>>,
    pub through: Option<String>,
    pub steps: Choice,
    pub results: Results,
}

impl Bench {
    /// Every step on the module as it is.
    pub fn baseline(&self) -> Result<()> {
        let plan = Plan::read(&self.project)?;
        let machines = machines::read(&self.project)?;
        let tree = Tree::prepare(&self.project, 0, self.through.as_deref())?;
        tree.build()?.map_err(anyhow::Error::msg)?;
        let steps = match &self.steps {
            Choice::Planned(_) => plan.all()?,
            Choice::Named(names) => names
                .iter()
                .map(|name| plan.step(name))
                .collect::<Result<_>>()?,
        };
        let mut failed = 0;
        for step in steps {
            let start = Instant::now();
            let caught = step_on(&tree, &machines, &step)?;
            let word = caught.as_ref().map_or("passed".to_owned(), describe);
            println!("{}: {word} ({} s)", step.name(), start.elapsed().as_secs());
            failed += usize::from(caught.is_some());
        }
        anyhow::ensure!(failed == 0, "{failed} steps fail on the module as it is");
        Ok(())
    }

    pub fn run(&self, mutants: Vec<Mutant>) -> Result<()> {
        let plan = Plan::read(&self.project)?;
        let machines = machines::read(&self.project)?;
        let count = mutants.len();
        let queue = Mutex::new(mutants.into_iter().enumerate());
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs)
                .map(|number| {
                    let (queue, plan, machines) = (&queue, &plan, &machines);
                    scope.spawn(move || -> Result<()> {
                        let tree = Tree::prepare(&self.project, number, self.through.as_deref())?;
                        loop {
                            let next = queue.lock().ok().and_then(|mut queue| queue.next());
                            let Some((at, mutant)) = next else {
                                return Ok(());
                            };
                            let said = self.one(&tree, plan, machines, &mutant)?;
                            println!(
                                "[{}/{count}] {} {}: {said}",
                                at + 1,
                                mutant.name,
                                mutant.file
                            );
                        }
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::Error::msg("a worker panicked")))
            })
        })
    }

    /// Runs what is not known yet of one mutant.
    fn one(
        &self,
        tree: &Tree,
        plan: &Plan,
        machines: &HashMap<String, Machine>,
        mutant: &Mutant,
    ) -> Result<String> {
        let mut record = self.results.get(mutant);
        let steps = plan.of(mutant, &self.steps)?;
        let known = matches!(record.verdict(), Verdict::Caught(_) | Verdict::Unbuildable);
        if !known && steps.iter().any(|step| !record.has(&step.name())) {
            let changed = mutant.changed().context("the place is not in the file")?;
            tree.write(&mutant.file, &changed)?;
            let result = self.steps_on(tree, machines, mutant, &steps, &mut record);
            tree.write(&mutant.file, &mutant.text)?;
            result?;
        }
        Ok(match record.verdict() {
            Verdict::Unbuildable => "does not build".to_owned(),
            Verdict::Caught(catch) => describe(&catch),
            Verdict::Survived | Verdict::Unknown => {
                format!("SURVIVED: {}: {}", mutant.place, mutant.what)
            }
        })
    }

    fn steps_on(
        &self,
        tree: &Tree,
        machines: &HashMap<String, Machine>,
        mutant: &Mutant,
        steps: &[Step],
        record: &mut crate::results::Record,
    ) -> Result<()> {
        let mut built = false;
        for step in steps {
            if record.has(&step.name()) {
                continue;
            }
            // The unit tests build what they need.
            if !built && *step != Step::Unit {
                if let Err(error) = tree.build()? {
                    record.unbuildable = Some(one_line(&error));
                    return self.results.put(mutant, record);
                }
                built = true;
            }
            let turn = self.turn.as_ref().map(Mutex::lock);
            let start = Instant::now();
            let mut caught = step_on(tree, machines, step)?;
            drop(turn);
            // A unit test program that could not be built has noticed nothing.
            if caught
                .as_ref()
                .is_some_and(|catch| catch.test == "(the program failed)")
            {
                caught = None;
            }
            let found = caught.is_some();
            record.steps.push(Done {
                name: step.name(),
                seconds: start.elapsed().as_secs(),
                caught,
            });
            self.results.put(mutant, record)?;
            if found {
                break;
            }
        }
        Ok(())
    }
}

fn step_on(tree: &Tree, machines: &HashMap<String, Machine>, step: &Step) -> Result<Option<Catch>> {
    match step {
        Step::Unit => trial::unit(tree),
        Step::Suspend => trial::suspend(tree),
        Step::Machine { name, suites, only } => {
            let machine = machines
                .get(name)
                .with_context(|| format!("no machine {name}"))?;
            trial::machine(tree, name, machine, suites, only.as_deref())
        }
    }
}

fn describe(catch: &Catch) -> String {
    let said: String = catch.said.chars().take(120).collect();
    format!(
        "caught by {}/{}: {} ({said})",
        catch.machine, catch.suite, catch.test
    )
}
