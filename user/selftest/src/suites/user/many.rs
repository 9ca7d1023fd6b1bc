// SPDX-License-Identifier: GPL-2.0
//! 300,000 buffers of one page, live at once in one context: the last ones cost
//! what the first ones did. Meant for a machine with deterministic time (one
//! instruction is one nanosecond there), and the device edu: QEMU tells the emulated
//! PF of every entry.

use anyhow::{ensure, Result};
use std::time::{Duration, Instant};

use super::{nothing_mapped, Rig, PAGE_U64};
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::PAGE;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![three_hundred_thousand]
}

/// Live mappings at the peak.
const LIVE: usize = 300_000;
/// Those at each end that are timed, and mapped one by one.
const TIMED: usize = 1000;
/// The others are mapped by so many in a call.
const BATCH: usize = 16_384;
/// Pages that they share.
const SHARED: usize = 64;

/// The last ones may cost this much for each hundred that the first ones cost.
const PERCENT: u32 = 150;

struct Run {
    rig: Rig,
    memory: UserMemory,
    live: Vec<u64>,
}

impl Run {
    fn place(&self, index: usize) -> (u64, u64) {
        let page = u64::try_from(index % SHARED).expect("a small number");
        (self.memory.va() + page * PAGE_U64, PAGE_U64)
    }

    /// Maps some more, one by one; how long that took.
    fn map(&mut self, count: usize) -> Result<Duration> {
        let start = Instant::now();
        for _ in 0..count {
            let (va, length) = self.place(self.live.len());
            let answer = self.rig.context().map_user(va, length);
            self.live.push(expect::succeeds("map", answer)?);
        }
        Ok(start.elapsed())
    }

    fn map_batches(&mut self, until: usize) -> Result<()> {
        while self.live.len() < until {
            let first = self.live.len();
            let last = until.min(first + BATCH);
            let places: Vec<_> = (first..last).map(|index| self.place(index)).collect();
            let mapped = self.rig.context().map_batch(&places);
            let mapped = mapped.map_err(|refused| refused.error);
            self.live.extend(expect::succeeds("batch", mapped)?);
        }
        Ok(())
    }

    /// Unmaps the newest, one by one; how long that took.
    fn unmap(&mut self, count: usize) -> Result<Duration> {
        let start = Instant::now();
        for _ in 0..count {
            let iova = self.live.pop().unwrap_or_default();
            let answer = self.rig.context().unmap(iova, PAGE_U64);
            expect::succeeds("unmap", answer)?;
        }
        Ok(start.elapsed())
    }

    fn unmap_batches(&mut self, until: usize) -> Result<()> {
        while self.live.len() > until {
            let first = until.max(self.live.len().saturating_sub(BATCH));
            let ranges: Vec<_> = self.live[first..]
                .iter()
                .map(|iova| (*iova, PAGE_U64))
                .collect();
            let unmapped = self.rig.context().unmap_batch(&ranges);
            let unmapped = unmapped.map_err(|refused| refused.error);
            expect::succeeds("batch unmap", unmapped)?;
            self.live.truncate(first);
        }
        Ok(())
    }

    /// The device reaches the page of one of them.
    fn reaches(&mut self, index: usize) -> Result<()> {
        let (va, _) = self.place(index);
        let offset = va - self.memory.va();
        let start = self.live[index].wrapping_sub(offset);
        self.rig
            .reaches_at(start, &self.memory, usize::try_from(offset)?)
    }
}

fn no_dearer(what: &str, first: Duration, last: Duration) -> Result<()> {
    let each = |time: Duration| time.as_nanos() / TIMED as u128;
    println!(
        "    # {what}: the first {TIMED} cost {} ns each, the last {TIMED} of {LIVE} cost {} ns each",
        each(first),
        each(last)
    );
    ensure!(
        last * 100 <= first * PERCENT,
        "{what}: the last {TIMED} of {LIVE} cost {last:?}, the first {first:?}"
    );
    Ok(())
}

fn three_hundred_thousand(host: &Host) -> Result<()> {
    let memory = UserMemory::scattered(SHARED * PAGE)?;
    memory.touch();
    let mut run = Run {
        rig: Rig::new(host)?,
        memory,
        live: Vec::with_capacity(LIVE),
    };
    // Whatever is done for the first time in this machine is no part of what is compared.
    run.map(TIMED)?;
    run.unmap(TIMED)?;

    let pins = ledger::pins()?;
    let first = run.map(TIMED)?;
    run.map_batches(LIVE - TIMED)?;
    let last = run.map(TIMED)?;
    expect::equal("pins", ledger::pins()? - pins, i64::try_from(LIVE)?)?;
    let mut iovas = run.live.clone();
    iovas.sort_unstable();
    let close = iovas.windows(2).all(|pair| pair[1] - pair[0] == PAGE_U64);
    expect::holds("each takes one page of IOVA and no more", close)?;
    for index in [0, LIVE / 2, LIVE - 1] {
        run.reaches(index)?;
    }

    let last_unmap = run.unmap(TIMED)?;
    run.unmap_batches(TIMED)?;
    run.reaches(TIMED - 1)?;
    let first_unmap = run.unmap(TIMED)?;
    nothing_mapped(run.rig.context())?;
    let gone = UserMemory::scattered(PAGE)?;
    for iova in [iovas[0], iovas[LIVE / 2], iovas[LIVE - 1]] {
        run.rig.refused_at(iova, &gone, 0)?;
    }
    no_dearer("map", first, last)?;
    no_dearer("unmap", first_unmap, last_unmap)
}
