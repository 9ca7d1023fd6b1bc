// SPDX-License-Identifier: GPL-2.0
//! Random things done to the PFs, one after the other, beside four threads that map, unmap,
//! look up and have the PFs do DMA; see `traffic`. The seed is printed, and the same seed
//! does the same things.
//!
//! `QAT_IOMMU_CHURN_EVENTS` says how many (48), `QAT_IOMMU_CHURN_SEED` which (random).

mod events;

use anyhow::{ensure, Context as _, Result};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::slot;
use crate::traffic::{beside, Crew};
use crate::vfio;
use events::Event;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![random_events]
}

/// How many events there are without a word of anybody's.
const EVENTS: u64 = 48;
/// How many events there are from one quiet point to the next.
const QUIET: u64 = 8;
/// The most steps that each thread is given between two events.
const STEPS: u64 = 12;
/// How many of the latest events a failure shows.
const SHOWN: usize = 12;

/// A number from the environment.
fn number(name: &str) -> Result<Option<u64>> {
    match std::env::var(name) {
        Ok(text) => {
            let value = text
                .parse()
                .with_context(|| format!("{name}={text}: no number"))?;
            Ok(Some(value))
        }
        Err(_) => Ok(None),
    }
}

fn random_events(host: &Host) -> Result<()> {
    let events = number("QAT_IOMMU_CHURN_EVENTS")?.unwrap_or(EVENTS);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = match number("QAT_IOMMU_CHURN_SEED")? {
        Some(seed) => seed,
        None => u64::from(now.subsec_nanos()),
    };
    println!("    # {events} events, QAT_IOMMU_CHURN_SEED={seed}");
    vfio::load(host)?;
    let mut latest = VecDeque::new();
    beside(host, seed, |crew| {
        churn(crew, host, seed, events, &mut latest)
    })
    .with_context(|| {
        let list: Vec<String> = latest.into();
        format!("with seed {seed}, after the events\n{}", list.join("\n"))
    })
}

fn churn(
    crew: &Crew<'_>,
    host: &Host,
    seed: u64,
    events: u64,
    latest: &mut VecDeque<String>,
) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let slots = slot::there();
    let start = Instant::now();
    for number in 1..=events {
        crew.work(random.u64(0..STEPS))?;
        let event = Event::choose(crew, &mut random, slots)?;
        *counts.entry(event.name()).or_default() += 1;
        latest.push_back(format!("{number}: {event:?}"));
        latest.drain(..latest.len().saturating_sub(SHOWN));
        event.play(crew, host)?;
        if number % QUIET == 0 {
            crew.quiet()?;
        }
    }
    crew.quiet()?;
    let done = crew.done()?;
    println!(
        "    # {events} events in {:.0} s: {counts:?}",
        start.elapsed().as_secs_f32()
    );
    println!("    # {done:?}");
    // A run in which little happened shows little.
    ensure!(
        done.transfers > 0 && done.maps > events && done.lookups > 0 && done.batches > 0,
        "the threads did too little: {done:?}"
    );
    Ok(())
}
