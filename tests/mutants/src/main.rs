// SPDX-License-Identifier: GPL-2.0
//! Mutation tests of the module: breaks its source a little, builds it, and runs suites until one
//! notices. What no suite notices is either no change of behaviour, and listed as such, or shows
//! that a test is missing. See tests/mutants/README.md.

mod edit;
mod equivalent;
mod handmade;
mod machines;
mod mutant;
mod operators;
mod plan;
mod queue;
mod report;
mod results;
mod run;
mod sample;
mod tap;
mod tree;
mod trial;

use anyhow::{ensure, Result};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

use mutant::{Mutant, Origin};

/// Break the module on purpose, and see which test notices
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The project's folder
    #[arg(long, default_value = ".")]
    project: PathBuf,
    /// What the sample of operator mutants is drawn with
    #[arg(long, default_value_t = sample::SEED)]
    seed: u64,
    /// How many operator mutants
    #[arg(long, default_value_t = sample::COUNT)]
    count: usize,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// List the mutants
    List {
        #[command(flatten)]
        choice: Choice,
        /// Show the text before and after
        #[arg(long)]
        text: bool,
    },
    /// Build and test mutants, but for those whose result is known
    Run(RunArguments),
    /// Write the report of all known results; fails unless every mutant is accounted for
    Report {
        /// Where the report for people goes
        #[arg(long, default_value = "tests/mutants/REPORT.md")]
        markdown: PathBuf,
        /// Where the same for programs goes
        #[arg(long, default_value = "build/mutants/report.json")]
        json: PathBuf,
    },
}

/// Which mutants.
#[derive(clap::Args)]
struct Choice {
    /// Only those whose name contains this
    #[arg(long)]
    only: Vec<String>,
    /// Only those of files whose path contains this
    #[arg(long)]
    file: Vec<String>,
    /// Only those made by hand, or only those of operators
    #[arg(long)]
    origin: Option<Origin>,
}

impl Choice {
    fn has(&self, mutant: &Mutant) -> bool {
        let among = |words: &[String], text: &str| {
            words.is_empty() || words.iter().any(|word| text.contains(word.as_str()))
        };
        among(&self.only, &mutant.name)
            && among(&self.file, &mutant.file)
            && self.origin.is_none_or(|origin| origin == mutant.origin)
    }
}

#[derive(clap::Args)]
struct RunArguments {
    #[command(flatten)]
    choice: Choice,
    /// How many at a time, each in a tree of its own
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// How many are played in one machine at most
    #[arg(long, default_value_t = 10)]
    batch: usize,
    /// One machine at a time, however many mutants are built meanwhile
    #[arg(long)]
    one_machine: bool,
    /// Run each build and each machine through this command
    #[arg(long)]
    through: Option<String>,
    /// Only the first N steps of a file's plan
    #[arg(long)]
    steps: Option<usize>,
    /// Run these steps, whatever the plan says
    #[arg(long)]
    step: Vec<String>,
    /// Test the unchanged module, which every step must pass
    #[arg(long)]
    baseline: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qat-iommu-mutants: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let project = arguments.project.canonicalize()?;
    ensure!(
        project.join("rust_qat_iommu.rs").exists(),
        "{} is not the project's folder (--project)",
        project.display()
    );
    let results = results::Results::open(&project)?;
    let all = sample::mutants(&project, arguments.seed, arguments.count, &results)?;
    match arguments.task {
        Task::List { choice, text } => {
            for mutant in all.iter().filter(|mutant| choice.has(mutant)) {
                println!("{}  {}  {}", mutant.name, mutant.file, mutant.what);
                if text {
                    println!("{}", mutant.difference());
                }
            }
            Ok(())
        }
        Task::Run(how) => {
            let steps = if how.step.is_empty() {
                plan::Choice::Planned(how.steps)
            } else {
                plan::Choice::Named(how.step)
            };
            let bench = run::Bench {
                project,
                jobs: how.jobs,
                batch: how.batch,
                turn: how.one_machine.then(Default::default),
                through: how.through,
                steps,
                results,
            };
            if how.baseline {
                return bench.baseline();
            }
            println!("seed {}", arguments.seed);
            bench.run(
                all.into_iter()
                    .filter(|mutant| how.choice.has(mutant))
                    .collect(),
            )
        }
        Task::Report { markdown, json } => report::write(
            &project,
            arguments.seed,
            &all,
            &results,
            &project.join(markdown),
            &project.join(json),
        ),
    }
}
