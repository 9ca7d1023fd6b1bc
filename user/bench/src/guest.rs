// SPDX-License-Identifier: GPL-2.0
//! The measuring half: everything that happens in the machine.

use anyhow::{ensure, Result};
use std::path::PathBuf;

use crate::classic::{self, repeat};
use crate::clock::{self, timed, Mark};
use crate::machine::Machine;
use crate::memory::{Backing, Memory, Span, GIANT, HUGE, PAGE};
use crate::record::Records;
use crate::ways::{Floor, Name, Split};
use crate::{flushes, growth, life, parallel};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    machine: Machine,
    /// Only these rows
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Only these ways
    #[arg(long, value_delimiter = ',', value_enum)]
    ways: Vec<Name>,
    /// Rounds, of which the median counts (a quarter of it for the long ones)
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// Where the records go; else to standard output
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A buffer that is mapped as a whole.
pub struct Case {
    pub row: &'static str,
    pub length: usize,
    pub backing: Backing,
}

pub const CASES: [Case; 9] = [
    case("4k", PAGE, Backing::Scattered),
    case("64k-scattered", 16 * PAGE, Backing::Scattered),
    case("2m-thp", HUGE, Backing::Thp),
    case("2m-huge", HUGE, Backing::Huge),
    case("2m-scattered", HUGE, Backing::Scattered),
    case("64m-thp", 32 * HUGE, Backing::Thp),
    case("64m-scattered", 32 * HUGE, Backing::Scattered),
    case("1g-huge", GIANT, Backing::Huge),
    case("1g-giant", GIANT, Backing::Giant),
];

const fn case(row: &'static str, length: usize, backing: Backing) -> Case {
    Case {
        row,
        length,
        backing,
    }
}

/// Where those that choose the address themselves map: aligned for the largest pages, below what
/// any IOMMU can address, clear of the MSI window.
pub const AT: u64 = 64 << 30;

/// How many buffers the rows "many" and "many-batch" are about.
pub const MANY: usize = 1000;

/// The rows that take a function of their own, in their order: what forks comes first, while the
/// process is small, and what counts the kernel's memory while the kernel has none left over from
/// earlier mappings.
const OTHERS: [&str; 6] = ["nothing", "fork", "close", "many", "classic", "lookup"];

pub fn run(arguments: &Arguments) -> Result<()> {
    unlimited()?;
    let mut bench = Bench {
        machine: &arguments.machine,
        ways: arguments.ways(),
        rounds: arguments.rounds,
        records: Records::default(),
    };
    let mut measured = 0;
    let mut wanted = |row: &str| {
        let yes = arguments.rows.is_empty() || arguments.rows.iter().any(|one| one == row);
        measured += usize::from(yes);
        yes
    };
    for row in OTHERS {
        if wanted(row) {
            bench.other(row)?;
        }
    }
    for case in &CASES {
        if wanted(case.row) {
            bench.case(case)?;
        }
    }
    if wanted("growth") {
        growth::run(bench.machine, &bench.ways, bench.rounds, &mut bench.records)?;
    }
    // In machines of their own: only if asked for.
    for row in ["flushes", "parallel"] {
        if arguments.rows.iter().any(|one| one == row) {
            measured += 1;
            match row {
                "flushes" => flushes::run(bench.machine, &bench.ways, &mut bench.records)?,
                _ => parallel::run(bench.machine, &bench.ways, &mut bench.records)?,
            }
        }
    }
    ensure!(
        measured > 0,
        "there is no such row; they are {}",
        row_names().join(", ")
    );
    match &arguments.out {
        Some(path) => bench.records.write(std::fs::File::create(path)?),
        None => bench.records.write(std::io::stdout().lock()),
    }
}

fn row_names() -> Vec<&'static str> {
    let cases = CASES.iter().map(|case| case.row);
    OTHERS
        .into_iter()
        .chain(cases)
        .chain(["growth", "flushes", "parallel"])
        .collect()
}

impl Arguments {
    fn ways(&self) -> Vec<Name> {
        let wanted = if self.ways.is_empty() {
            Name::ALL.to_vec()
        } else {
            self.ways.clone()
        };
        let there = wanted
            .into_iter()
            .filter(|name| name.available(&self.machine));
        there.collect()
    }
}

/// Locked memory without a limit, for all ways alike.
fn unlimited() -> Result<()> {
    use rustix::process::{setrlimit, Resource, Rlimit};
    let none = Rlimit {
        current: None,
        maximum: None,
    };
    Ok(setrlimit(Resource::Memlock, none)?)
}

struct Bench<'a> {
    machine: &'a Machine,
    ways: Vec<Name>,
    rounds: usize,
    records: Records,
}

impl Bench<'_> {
    fn other(&mut self, row: &str) -> Result<()> {
        let (machine, ways, rounds) = (self.machine, &self.ways[..], self.rounds);
        match row {
            "nothing" => self.nothing(),
            "fork" => life::fork(machine, ways, rounds, &mut self.records),
            "many" => self.many(),
            "classic" => classic::run(machine, ways, rounds, &mut self.records),
            "lookup" => growth::lookup(machine, ways, &mut self.records),
            _ => life::close(machine, ways, &mut self.records),
        }
    }

    /// Fewer rounds of what takes long.
    fn rounds_of(&self, length: usize) -> usize {
        if length > 8 * HUGE {
            self.rounds.div_ceil(4)
        } else {
            self.rounds
        }
    }

    /// What reading the clock costs, which is in every value, and entering the kernel.
    fn nothing(&mut self) -> Result<()> {
        let empty = (0..self.rounds)
            .map(|_| timed(Mark::Other, || ()).1)
            .collect();
        self.records
            .add("nothing", "clock", "user", clock::median(empty));
        if self.ways.contains(&Name::Floor) {
            let floor = Floor::new()?;
            let mut all = Vec::new();
            for _ in 0..self.rounds {
                let (done, time) = timed(Mark::Other, || floor.nothing());
                done?;
                all.push(time);
            }
            self.records
                .add("nothing", "ioctl", "floor", clock::median(all));
        }
        Ok(())
    }

    fn case(&mut self, case: &Case) -> Result<()> {
        let memory = Memory::new(case.length, case.backing)?;
        self.records
            .add(case.row, "runs", "memory", memory.runs()? as u64);
        let rounds = self.rounds_of(case.length);
        for name in self.ways.clone() {
            if name == Name::Batch {
                continue;
            }
            let mut way = name.open(self.machine)?;
            let all = repeat(rounds, || way.round(memory.span(), AT))?;
            self.records.add_rounds(case.row, name.text(), &all, 1);
        }
        if self.ways.contains(&Name::Floor) {
            self.floor(case.row, memory.span(), rounds)?;
        }
        Ok(())
    }

    /// What the floor is made of.
    fn floor(&mut self, row: &str, span: Span, rounds: usize) -> Result<()> {
        let floor = Floor::new()?;
        let mut all = Vec::new();
        for _ in 0..=rounds {
            all.push(floor.split(span, AT)?);
        }
        let mut part = |op: &str, of: fn(&Split) -> u64| {
            let value = clock::median(all[1..].iter().map(of).collect());
            self.records.add(row, op, "floor", value);
        };
        part("floor-pin", |split| split.pin);
        part("floor-map", |split| split.map);
        part("floor-unmap", |split| split.unmap);
        part("floor-unpin", |split| split.unpin);
        Ok(())
    }

    /// Separate small buffers, one by one and as a batch: per buffer.
    fn many(&mut self) -> Result<()> {
        let memory = Memory::new(2 * MANY * PAGE, Backing::Scattered)?;
        let buffers: Vec<Span> = (0..MANY).map(|index| memory.page(2 * index)).collect();
        let rounds = self.rounds.div_ceil(4);
        for name in self.ways.clone() {
            let mut way = name.open(self.machine)?;
            let all = repeat(rounds, || way.round_of_many(&buffers, AT))?;
            self.records
                .add_rounds("many", name.text(), &all, MANY as u64);
        }
        Ok(())
    }
}
