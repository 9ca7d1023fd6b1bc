// SPDX-License-Identifier: GPL-2.0
//! Runs mutants: the steps of each one's plan until one notices. Mutants whose next step is in the same
//! machine are built one after the other and played in one boot of it.

use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::edit::one_line;
use crate::machines::{self, Kernel, Machine};
use crate::mutant::Mutant;
use crate::plan::{Choice, Plan, Step};
use crate::queue::{Job, Queue};
use crate::results::{Catch, Results, Step as Done, Verdict};
use crate::tree::{changed, Tree};
use crate::trial::{self, Outcome, Play};

pub struct Bench {
    pub project: PathBuf,
    pub jobs: usize,
    /// How many are played in one machine at most.
    pub batch: usize,
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
            let outcome = match &step {
                Step::Machine { name, suites, only } => {
                    let machine = machine(&machines, name)?;
                    if machine.kernel == Kernel::Debug {
                        tree.prepare_kernel(Kernel::Debug)?;
                    }
                    let play = Play {
                        key: "base".to_owned(),
                        module: tree.base(machine.kernel),
                        suites,
                        only: only.as_deref(),
                    };
                    let mut done = trial::machine(&tree, name, machine, &[play])?;
                    done.remove("base").map(|(outcome, _)| outcome)
                }
                _ => Some(outside(&tree, &step)?),
            };
            let word = match &outcome {
                Some(Outcome::Passed) => "passed".to_owned(),
                Some(Outcome::Caught(catch)) => describe(catch),
                Some(Outcome::Doubtful(why)) => why.clone(),
                None => "no result".to_owned(),
            };
            println!("{}: {word} ({} s)", step.name(), start.elapsed().as_secs());
            failed += usize::from(outcome != Some(Outcome::Passed));
        }
        anyhow::ensure!(failed == 0, "{failed} steps fail on the module as it is");
        Ok(())
    }

    pub fn run(&self, mutants: Vec<Mutant>) -> Result<()> {
        let plan = Plan::read(&self.project)?;
        let machines = machines::read(&self.project)?;
        let mut jobs = Vec::new();
        for mutant in mutants {
            let steps = plan.of(&mutant, &self.steps)?;
            let record = self.results.get(&mutant);
            jobs.push(Job::new(mutant, steps, record));
        }
        let queue = Mutex::new(Queue::new(jobs, self.batch));
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs)
                .map(|number| {
                    let (queue, machines) = (&queue, &machines);
                    scope.spawn(move || self.work(number, queue, machines))
                })
                .collect();
            workers.into_iter().try_for_each(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::Error::msg("a worker panicked")))
            })
        })
    }

    fn work(
        &self,
        number: usize,
        queue: &Mutex<Queue>,
        machines: &HashMap<String, Machine>,
    ) -> Result<()> {
        let tree = Tree::prepare(&self.project, number, self.through.as_deref())?;
        let locked = || {
            queue
                .lock()
                .map_err(|_| anyhow::Error::msg("a worker panicked"))
        };
        loop {
            let Some(mut jobs) = locked()?.take() else {
                return Ok(());
            };
            if jobs.is_empty() {
                // What is left is with another worker, and may come back.
                thread::sleep(Duration::from_secs(1));
                continue;
            }
            let result = match jobs[0].next() {
                Some(Step::Machine { name, .. }) => {
                    let name = name.clone();
                    self.batch(&tree, &name, machine(machines, &name)?, &mut jobs)
                }
                Some(step) => {
                    let step = step.clone();
                    self.one(&tree, &step, &mut jobs[0])
                }
                None => Ok(()),
            };
            for job in &jobs {
                if let Some(said) = ended(job) {
                    println!("{} {}: {said}", job.mutant.name, job.mutant.file);
                }
            }
            locked()?.give_back(jobs);
            result?;
        }
    }

    /// The next step of each of these, which is in one machine.
    fn batch(&self, tree: &Tree, name: &str, machine: &Machine, jobs: &mut [Job]) -> Result<()> {
        let kernel = machine.kernel;
        if kernel == Kernel::Debug {
            tree.prepare_kernel(kernel)?;
        }
        for job in jobs.iter_mut() {
            self.build(tree, kernel, job)?;
        }
        let mut plays = Vec::new();
        for job in jobs.iter() {
            let Some(Step::Machine { suites, only, .. }) = job.next() else {
                continue;
            };
            plays.push(Play {
                module: tree.mutant(kernel, &job.mutant.key()),
                key: job.mutant.key(),
                suites,
                only: only.as_deref(),
            });
        }
        if plays.is_empty() {
            return Ok(());
        }
        let turn = self.turn.as_ref().map(Mutex::lock);
        let done = trial::machine(tree, name, machine, &plays)?;
        drop(turn);
        for (at, job) in jobs.iter_mut().enumerate() {
            let outcome = done.get(&job.mutant.key());
            match outcome {
                Some((Outcome::Doubtful(why), _)) => {
                    println!("{}: tried in vain: {why}", job.mutant.name);
                    job.in_vain += 1;
                }
                Some((outcome, seconds)) => self.note(job, outcome, *seconds)?,
                // Whoever came first had every chance.
                None if at == 0 => job.in_vain += 1,
                None => {}
            }
        }
        Ok(())
    }

    /// Builds a mutant for a machine, or notes that it cannot be built.
    fn build(&self, tree: &Tree, kernel: Kernel, job: &mut Job) -> Result<()> {
        if let Err(error) = tree.build_mutant(kernel, &job.mutant)? {
            job.record.unbuildable = Some(one_line(&error));
            self.results.put(&job.mutant, &job.record)?;
        }
        Ok(())
    }

    /// A step that is in no machine of the table.
    fn one(&self, tree: &Tree, step: &Step, job: &mut Job) -> Result<()> {
        let start = Instant::now();
        let outcome = match step {
            // The unit tests build what they need.
            Step::Unit(_) => {
                let mutant = &job.mutant;
                tree.write(&mutant.file, &changed(mutant)?)?;
                let outcome = outside(tree, step);
                tree.write(&mutant.file, &mutant.text)?;
                outcome?
            }
            _ => {
                self.build(tree, Kernel::Stock, job)?;
                if job.next().is_none() {
                    return Ok(());
                }
                tree.put(
                    Kernel::Stock,
                    &tree.mutant(Kernel::Stock, &job.mutant.key()),
                )?;
                let outcome = outside(tree, step)?;
                if outcome != Outcome::Passed {
                    // As in other machines: is it the mutant, or the load?
                    tree.put(Kernel::Stock, &tree.base(Kernel::Stock))?;
                    if outside(tree, step)? != Outcome::Passed {
                        println!("{}: tried in vain", job.mutant.name);
                        job.in_vain += 1;
                        return Ok(());
                    }
                }
                outcome
            }
        };
        self.note(job, &outcome, start.elapsed().as_secs())
    }

    fn note(&self, job: &mut Job, outcome: &Outcome, seconds: u64) -> Result<()> {
        let Some(step) = job.next() else {
            return Ok(());
        };
        let name = step.name();
        let caught = match outcome {
            Outcome::Caught(catch) => Some(catch.clone()),
            _ => None,
        };
        job.in_vain = 0;
        job.record.steps.push(Done {
            name,
            seconds,
            caught,
        });
        self.results.put(&job.mutant, &job.record)
    }
}

fn machine<'a>(machines: &'a HashMap<String, Machine>, name: &str) -> Result<&'a Machine> {
    machines
        .get(name)
        .with_context(|| format!("no machine {name}"))
}

/// A step that needs no machine of the table, on what is built.
fn outside(tree: &Tree, step: &Step) -> Result<Outcome> {
    let caught = match step {
        Step::Unit(package) => trial::unit(tree, package)?,
        _ => trial::suspend(tree)?,
    };
    Ok(caught.map_or(Outcome::Passed, Outcome::Caught))
}

/// What is said of a job once nothing is left to do for it.
fn ended(job: &Job) -> Option<String> {
    if job.next().is_some() {
        return job.in_vain().then(|| "GIVEN UP".to_owned());
    }
    Some(match job.record.verdict() {
        Verdict::Unbuildable => "does not build".to_owned(),
        Verdict::Caught(catch) => describe(&catch),
        Verdict::Survived | Verdict::Unknown => {
            format!("SURVIVED: {}: {}", job.mutant.place, job.mutant.what)
        }
    })
}

fn describe(catch: &Catch) -> String {
    let said: String = catch.said.chars().take(120).collect();
    format!(
        "caught by {}/{}: {} ({said})",
        catch.machine, catch.suite, catch.test
    )
}
