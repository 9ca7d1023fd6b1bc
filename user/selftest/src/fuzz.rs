// SPDX-License-Identifier: GPL-2.0
//! The fuzzer: random operations of every kind on contexts of several threads and processes,
//! each answer held against a model, and what the PF really reaches against both.
//!
//! `ops` what can be done, as data; `model` what must come of it; `place` where; `player`,
//! `batches`, `requests`, `look` doing it; `shared` what the workers share; `shorten` the
//! shortest list of operations that still fails. This file leads through rounds:
//!
//! In a round each worker plays a list of operations; in some rounds the PF is taken from its
//! driver for a third of it. Then all wait while one compares everything that is mapped with the
//! PF's own record and with the kernel's count of pins. Then each closes its contexts, and nothing
//! may be left. The lists follow from the seed, so that a seed plays the same lists again; what
//! the workers' threads do at the same moment is left to the machine.

mod batches;
mod look;
mod model;
mod ops;
mod place;
mod player;
mod requests;
mod shared;
mod shorten;

pub use ops::Step;

use anyhow::{bail, ensure, Context as _, Result};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::fd::{FromRawFd, OwnedFd};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::abi::{Context, READ, WRITE};
use crate::dma::pf::Engine;
use crate::expect;
use crate::host::{Host, OWN_DRIVER};
use crate::ktap::panic_text;
use crate::ledger;
use model::PAGE;
use place::Facts;
use player::Player;
use rustix::io::Errno;
use shared::{Count, Shared, CONTENDED, COUNTS};

/// Operations that a worker plays in a round.
const LENGTH: usize = 240;
/// Every so many rounds the PF is away for a while.
const AWAY: u64 = 12;
/// Threads of each process.
const THREADS: usize = 2;
const PROCESSES: usize = 2;
/// How many mappings are looked at by DMA at the end of a round, where the PF has a record.
const LOOKS: usize = 12;

/// What is to be played.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub seed: u64,
    rounds: u64,
    facts: Facts,
}

/// What happens between the operations, while all workers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Leave,
    Return,
    Quiet,
    Empty,
}

/// A list of operations.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// What it once showed, or what it is for.
    #[serde(default)]
    pub about: String,
    /// The PF is away during the middle third.
    #[serde(default)]
    pub away: bool,
    pub steps: Vec<Step>,
}

impl Plan {
    fn workers(&self) -> usize {
        self.facts.workers
    }

    /// Whether the PF is away for a while in a round.
    fn away(&self, round: u64) -> bool {
        // What a shared PF has goes with it, for good.
        round % AWAY == 2 && !self.facts.shared
    }

    /// What a worker plays in a round.
    fn case(&self, round: u64, worker: usize) -> Result<Case> {
        let number = (round << 8) | u64::try_from(worker)?;
        let mut seed = [0; 16];
        seed[..8].copy_from_slice(&mixed(self.seed).to_le_bytes());
        seed[8..].copy_from_slice(&mixed(mixed(number) ^ self.seed).to_le_bytes());
        // There is a generator of its own for each part of an operation that might be chosen: cheap
        // ones, and nothing to be kept on a disk.
        let random = TestRng::from_seed(RngAlgorithm::XorShift, &seed);
        let config = Config {
            failure_persistence: None,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, random);
        let steps = ops::steps(LENGTH).new_tree(&mut runner);
        let steps = steps.map_err(|reason| anyhow::anyhow!("no operations: {reason}"))?;
        Ok(Case {
            about: String::new(),
            away: self.away(round),
            steps: steps.current(),
        })
    }
}

/// A number that has nothing to do with those of its neighbours.
fn mixed(number: u64) -> u64 {
    let mut word = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Plays one case; `meet` is called where others take part.
fn play(player: &mut Player<'_>, case: &Case, meet: &dyn Fn(Event) -> Result<()>) -> Result<()> {
    let third = case.steps.len() / 3;
    for (number, step) in case.steps.iter().enumerate() {
        if player.shared.stopped() {
            bail!("another worker has failed");
        }
        if case.away && number == third {
            meet(Event::Leave)?;
            player.away = true;
        }
        if case.away && number == 2 * third {
            player.away = false;
            meet(Event::Return)?;
        }
        player
            .play(step)
            .with_context(|| format!("at operation {number}, {:?}", step.op))?;
    }
    let most = if player.facts.records {
        LOOKS
    } else {
        usize::MAX
    };
    player.look_at_all(most).context("at the end of a round")?;
    player.publish()?;
    meet(Event::Quiet)?;
    player.end()?;
    meet(Event::Empty)
}

/// Who acts while the workers wait.
struct Leader<'a> {
    facts: &'a Facts,
    shared: &'a Shared,
    /// Pins that were held before.
    pins: i64,
}

impl Leader<'_> {
    fn act(&self, event: Event) -> Result<()> {
        match event {
            Event::Leave => self.facts.bdf().unbind(),
            Event::Return => self.facts.bdf().bind(OWN_DRIVER),
            Event::Quiet | Event::Empty => self.compare().with_context(|| format!("{event:?}")),
        }
    }

    /// What is mapped, by all, is what the PF's record and the kernel's counters say.
    fn compare(&self) -> Result<()> {
        let mut want = BTreeMap::new();
        let mut pinned = 0;
        for one in self.shared.published()? {
            for page in 0..one.length / PAGE {
                want.insert(one.first + page * PAGE, one.flags);
            }
            pinned += if one.user { one.length / PAGE } else { 0 };
        }
        for slot in 0..CONTENDED {
            if self.shared.contest(slot)? {
                want.insert(place::contended(slot), READ | WRITE);
                pinned += u64::from(slot >= CONTENDED / 2);
            }
        }
        let pins = ledger::pins()? - self.pins;
        ensure!(
            pins == i64::try_from(pinned)?,
            "{pins} pins are held for {pinned} pages that are mapped"
        );
        if !self.facts.records {
            return Ok(());
        }
        let engine = Engine::open(&self.facts.bdf())?;
        let mut found = BTreeMap::new();
        for (range, read, write) in engine.recorded() {
            let pages = (range.end - range.start) / PAGE;
            ensure!(pages < 1 << 16, "the PF's record has {range:x?}");
            for page in 0..pages {
                found.insert(range.start + page * PAGE, (read, write));
            }
        }
        let mut more: Vec<u64> = Vec::new();
        for (page, (read, write)) in &found {
            match want.get(page) {
                None => more.push(*page),
                Some(flags) => ensure!(
                    // Some IOMMUs let a device read what it may write.
                    (flags & READ == 0 || *read) && (flags & WRITE != 0) == *write,
                    "the PF's record has {page:#x} with read {read}, write {write}; mapped with {flags}"
                ),
            }
        }
        // Its own driver has a page.
        let own = usize::from(self.facts.shared);
        ensure!(
            more.len() == own,
            "the PF's record has {more:x?} besides what is mapped; {own} may be"
        );
        let missing: Vec<_> = want
            .keys()
            .filter(|page| !found.contains_key(page))
            .collect();
        // QEMU's AMD IOMMU does not always tell a PF that joins what is mapped already.
        ensure!(
            missing.is_empty() || self.facts.small_tables,
            "the PF's record lacks {missing:x?}, which are mapped"
        );
        Ok(())
    }
}

/// One worker, through all rounds.
fn work(plan: &Plan, shared: &Shared, common: &Context, number: usize) -> Result<()> {
    let mut player = Player::new(number, &plan.facts, shared, common)?;
    // Nobody begins before all are there: what they open and pin is not counted.
    shared.meet()?;
    shared.meet()?;
    for round in 0..plan.rounds {
        let case = plan.case(round, number)?;
        let meet = |_| {
            shared.meet()?;
            shared.meet()
        };
        play(&mut player, &case, &meet).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

/// The workers of one process.
fn work_here(plan: &Plan, shared: &Shared, process: usize) -> Result<()> {
    let common = Context::open()?;
    let numbers = process * THREADS..(process + 1) * THREADS;
    std::thread::scope(|scope| {
        let all: Vec<_> = numbers
            .map(|number| {
                let common = &common;
                let one = move || {
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        work(plan, shared, common, number)
                    }));
                    let result = result
                        .unwrap_or_else(|payload| Err(anyhow::anyhow!(panic_text(&*payload))));
                    // Who was stopped by another's failure has nothing to tell.
                    let first = !shared.stopped();
                    if result.is_err() {
                        shared.stop();
                    }
                    result
                        .with_context(|| format!("worker {number}"))
                        .or_else(|error| if first { Err(error) } else { Ok(()) })
                };
                scope.spawn(one)
            })
            .collect();
        let mut result = Ok(());
        for one in all {
            let joined = one.join();
            result = result.and(joined.unwrap_or_else(|_| bail!("a worker panicked")));
        }
        result
    })
}

/// A second process: its workers.
pub fn second(fd: i32, process: usize, plan: &str) -> Result<()> {
    let plan: Plan = serde_json::from_str(plan)?;
    ensure!(fd > 2, "not a descriptor of its own");
    // SAFETY: the parent left this descriptor open for this process alone.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    let shared = Shared::open(file, plan.workers())?;
    work_here(&plan, &shared, process)
}

/// Leads through all rounds.
fn lead(plan: &Plan, shared: &Shared) -> Result<()> {
    shared.meet()?;
    let leader = Leader {
        facts: &plan.facts,
        shared,
        pins: ledger::pins()?,
    };
    shared.meet()?;
    for round in 0..plan.rounds {
        let away: &[Event] = if plan.away(round) {
            &[Event::Leave, Event::Return]
        } else {
            &[]
        };
        for event in away.iter().chain(&[Event::Quiet, Event::Empty]) {
            shared.meet()?;
            leader
                .act(*event)
                .with_context(|| format!("round {round}"))?;
            shared.meet()?;
        }
    }
    Ok(())
}

/// Plays about so many operations from a seed, and says what was done.
pub fn run(host: &Host, seed: u64, operations: u64) -> Result<()> {
    let workers = THREADS * PROCESSES;
    let each = u64::try_from(workers * LENGTH)?;
    let plan = Plan {
        seed,
        rounds: operations.div_ceil(each),
        facts: Facts::new(host, workers)?,
    };
    let shared = Shared::new(workers)?;
    let start = Instant::now();
    let fd = shared.inherit()?.to_string();
    let text = serde_json::to_string(&plan)?;
    let mut children = Vec::new();
    for process in 1..PROCESSES {
        let child = Command::new("/proc/self/exe")
            .args(["helper", "fuzz", "--fd", &fd, "--process"])
            .args([&process.to_string(), "--plan", &text])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start a second process")?;
        children.push(child);
    }
    let mut result = std::thread::scope(|scope| {
        let here = scope.spawn(|| work_here(&plan, &shared, 0));
        let led = lead(&plan, &shared);
        let told = !shared.stopped();
        if led.is_err() {
            shared.stop();
        }
        // Who was stopped by another's failure has nothing to tell.
        let led = if told { led } else { Ok(()) };
        let worked = here.join();
        led.and(worked.unwrap_or_else(|_| bail!("a worker panicked")))
    });
    for child in children {
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            result = result.and(Err(anyhow::anyhow!("the second process: {}", said.trim())));
        }
    }
    if result.is_ok() && shared.stopped() {
        result = Err(anyhow::anyhow!("a worker failed and did not say why"));
    }
    // Whatever failed, the PF is back for what comes next.
    if plan.facts.bdf().driver().is_none() {
        plan.facts.bdf().bind(OWN_DRIVER)?;
    }
    report(&shared, start);
    result
        .and_then(|()| enough(&shared))
        .map_err(|error| shorten::explain(&plan, error))
}

fn report(shared: &Shared, start: Instant) {
    let seconds = start.elapsed().as_secs_f32();
    let operations = shared.count(Count::Operations);
    for (what, name) in COUNTS {
        println!("    # {} {name}", shared.count(what));
    }
    let errnos: Vec<String> = shared
        .errnos()
        .into_iter()
        .map(|(errno, count)| match errno {
            0 => format!("success {count}"),
            errno => format!("{} {count}", expect::name(Errno::from_raw_os_error(errno))),
        })
        .collect();
    println!("    # answers: {}", errnos.join(", "));
    println!(
        "    # {seconds:.0} s, {:.0} operations/s",
        operations as f32 / seconds
    );
}

/// A run in which little succeeds shows little.
fn enough(shared: &Shared) -> Result<()> {
    let operations = shared.count(Count::Operations);
    let successes = shared.count(Count::Maps) + shared.count(Count::Unmaps);
    let checks = shared.count(Count::Checks);
    ensure!(
        successes * 2 >= operations,
        "{successes} of {operations} operations were maps and unmaps that succeeded: less than half"
    );
    ensure!(
        checks * 10 >= operations,
        "{checks} DMA checks after {operations} operations: less than one in ten"
    );
    Ok(())
}

/// Plays one case alone.
pub fn replay(host: &Host, case: &Case) -> Result<()> {
    let facts = Facts::new(host, 1)?;
    replay_with(&facts, case)
}

fn replay_with(facts: &Facts, case: &Case) -> Result<()> {
    let shared = Shared::new(1)?;
    let common = Context::open()?;
    let result = {
        let mut player = Player::new(0, facts, &shared, &common)?;
        let leader = Leader {
            facts,
            shared: &shared,
            pins: ledger::pins()?,
        };
        play(&mut player, case, &|event| leader.act(event))
    };
    if facts.bdf().driver().is_none() {
        facts.bdf().bind(OWN_DRIVER)?;
    }
    result
}
