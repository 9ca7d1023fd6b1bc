// SPDX-License-Identifier: GPL-2.0
//! Two threads that map and unmap at once, each with a context of its own or both with one, beside one
//! thread alone. Wall-clock time of a machine with two processors, whose time is not counted: only the
//! quotients mean something, and not to the last digit.

use anyhow::{anyhow, Result};
use std::sync::Barrier;
use std::time::Instant;

use crate::guest::AT;
use crate::machine::Machine;
use crate::memory::{Backing, Memory, Span, HUGE, PAGE};
use crate::record::Records;
use crate::ways::{Name, Way};

/// What each thread maps, and how often.
const LOADS: [(&str, usize, u32); 2] = [
    ("parallel-4k", PAGE, 4000),
    ("parallel-2m-scattered", HUGE, 24),
];

/// Several are measured, of which the fastest counts: this machine does other things too.
const TRIES: usize = 5;

pub fn run(machine: &Machine, ways: &[Name], records: &mut Records) -> Result<()> {
    for (row, length, rounds) in LOADS {
        let memory = [
            Memory::new(length, Backing::Scattered)?,
            Memory::new(length, Backing::Scattered)?,
        ];
        let spans = [memory[0].span(), memory[1].span()];
        for name in [Name::Native, Name::Type1] {
            if !ways.contains(&name) {
                continue;
            }
            let mut one = [name.open(machine)?];
            records.add(
                row,
                "alone",
                name.text(),
                fastest(&mut one, &spans, rounds)?,
            );
            let [one] = one;
            if let Some(other) = one.share()? {
                let time = fastest(&mut [one, other], &spans, rounds)?;
                records.add(row, "two, one context", name.text(), time);
            }
            let mut two = [name.open(machine)?, name.open_other(machine)?];
            let time = fastest(&mut two, &spans, rounds)?;
            records.add(row, "two, separate contexts", name.text(), time);
        }
    }
    Ok(())
}

/// Nanoseconds per map and unmap, over all threads.
fn fastest(ways: &mut [Box<dyn Way>], spans: &[Span], rounds: u32) -> Result<u64> {
    let mut all = Vec::new();
    for _ in 0..TRIES {
        all.push(together(ways, spans, rounds)?);
    }
    let operations = u64::from(rounds) * ways.len() as u64;
    Ok(all.into_iter().min().unwrap_or(0) / operations)
}

/// Nanoseconds until every thread has done its rounds.
fn together(ways: &mut [Box<dyn Way>], spans: &[Span], rounds: u32) -> Result<u64> {
    let barrier = Barrier::new(ways.len() + 1);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, (way, span)) in ways.iter_mut().zip(spans).enumerate() {
            let barrier = &barrier;
            threads.push(scope.spawn(move || -> Result<()> {
                let at = AT + index as u64 * (1 << 30);
                barrier.wait();
                for _ in 0..rounds {
                    let iova = way.map(*span, at)?;
                    way.unmap(*span, iova)?;
                }
                Ok(())
            }));
        }
        barrier.wait();
        let start = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        Ok(u64::try_from(start.elapsed().as_nanos())?)
    })
}
