// SPDX-License-Identifier: GPL-2.0
//! What was there: every unmap leaves a record that says when, whose and why, and the
//! last few thousand are kept.

use anyhow::{ensure, Context as _, Result};
use rustix::time::{clock_gettime, ClockId};

use super::PAGE_U64;
use crate::abi::Context;
use crate::dma::fresh_iova;
use crate::expect;
use crate::helper::{user::Task, Helper};
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::module::HOSTDRV;
use crate::watching::{fdinfo, listing, unmap_at, Record};

/// How many unmaps are remembered.
const KEPT: usize = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        an_unmap_is_remembered,
        a_close_is_remembered,
        a_batch_that_failed_is_remembered,
        of_a_process_that_is_gone,
        in_order_and_on_the_clock_of_the_log,
        finer_than_a_tick,
        bounded,
    ]
}

pub fn shared_tests() -> Vec<Test<Host>> {
    list_tests![an_unmap_is_remembered, an_unbind_is_remembered]
}

fn ours(record: &Record, kind: &str, length: u64, backing: u64, why: &str) -> Result<()> {
    let first = record.number("first")?;
    expect::equal("last", record.number("last")?, first + length - 1)?;
    expect::equal("kind", record.text("kind")?, kind)?;
    expect::equal("backing", record.number("backing")?, backing)?;
    expect::equal("access", record.text("access")?, "rw")?;
    expect::equal("why", record.text("why")?, why)?;
    expect::equal("pid", record.number("pid")?, u64::from(std::process::id()))?;
    expect::equal(
        "the last of its keys",
        record.keys().last().copied(),
        Some("comm"),
    )
}

fn an_unmap_is_remembered(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let number = fdinfo(&context)?.context;
    let memory = UserMemory::scattered(2 * PAGE)?;
    let answer = context.map_user(memory.va(), memory.length());
    let user_iova = expect::succeeds("map", answer)?;
    let (page, iova) = (Buffer::page()?, fresh_iova(1));
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    let answer = context.unmap_user(memory.va(), memory.length());
    expect::succeeds("unmap", answer)?;
    expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
    let record = unmap_at(user_iova)?;
    ours(&record, "user", 2 * PAGE_U64, memory.va(), "unmap")?;
    expect::equal("context", record.number("context")?, number)?;
    let record = unmap_at(iova)?;
    ours(&record, "phys", PAGE_U64, page.phys(), "unmap")?;
    expect::equal("context", record.number("context")?, number)
}

fn a_close_is_remembered(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    let user_iova = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
    let (page, iova) = (Buffer::page()?, fresh_iova(1));
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    drop(context);
    ours(
        &unmap_at(user_iova)?,
        "user",
        PAGE_U64,
        memory.va(),
        "close",
    )?;
    ours(&unmap_at(iova)?, "phys", PAGE_U64, page.phys(), "close")
}

/// What was mapped before the element that failed was in the IOMMU for a moment.
fn a_batch_that_failed_is_remembered(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let before = listing("history")?.len();
    let places: Vec<_> = (0..4)
        .map(|page| (memory.va() + page * PAGE_U64, PAGE_U64))
        .chain([(0x1000, PAGE_U64)])
        .collect();
    expect::holds("the batch fails", context.map_batch(&places).is_err())?;
    let after = listing("history")?;
    // Nothing, if it failed before any was made.
    for record in &after[before.min(after.len())..] {
        expect::equal("why", record.text("why")?, "failed")?;
    }
    Ok(())
}

fn an_unbind_is_remembered(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    let iova = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
    pf.unbind()?;
    let record = unmap_at(iova);
    pf.bind(HOSTDRV)?;
    ours(&record?, "user", PAGE_U64, memory.va(), "unbind")
}

fn of_a_process_that_is_gone(_: &Host) -> Result<()> {
    let mut helper = Helper::doing(&Task::Hold { count: 2 }, None)?;
    let iovas = helper.numbers()?;
    let pid = helper.pid();
    helper.kill()?;
    for iova in iovas {
        let record = unmap_at(iova)?;
        expect::equal("why", record.text("why")?, "close")?;
        expect::equal("pid", record.number("pid")?, u64::from(pid))?;
        // The helper is this program again, under the name that /proc/self/exe gave it.
        expect::equal("comm", record.text("comm")?, "exe")?;
    }
    Ok(())
}

/// Nanoseconds since the start.
fn now() -> Result<u64> {
    let now = clock_gettime(ClockId::Monotonic);
    Ok(u64::try_from(now.tv_sec)? * 1_000_000_000 + u64::try_from(now.tv_nsec)?)
}

fn finer_than_a_tick(_: &Host) -> Result<()> {
    // Shorter than any tick; and by how much the clocks may go apart meanwhile.
    const PAUSE: u64 = 300_000;
    const SLACK: u64 = 200_000;
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    let unmap = || -> Result<(u64, u64, u64)> {
        let iova = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
        let before = now()?;
        expect::succeeds("unmap", context.unmap_user(memory.va(), PAGE_U64))?;
        Ok((iova, before, now()?))
    };
    for _ in 0..20 {
        let (iova, first_before, first_after) = unmap()?;
        let first = unmap_at(iova)?.number("when")?;
        while now()? < first_after + PAUSE {}
        let (iova, second_before, second_after) = unmap()?;
        let second = unmap_at(iova)?.number("when")?;
        let told = second.saturating_sub(first) + SLACK;
        ensure!(
            told >= second_before - first_after && told <= second_after - first_before + 2 * SLACK,
            "unmaps at {first} and {second} were {} apart, and at most {}",
            second_before - first_after,
            second_after - first_before
        );
    }
    Ok(())
}

fn in_order_and_on_the_clock_of_the_log(_: &Host) -> Result<()> {
    // The two clocks differ by less than this.
    const NEAR: u64 = 2_000_000_000;
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    let before = now()?;
    let mut mine = Vec::new();
    for _ in 0..10 {
        mine.push(expect::succeeds(
            "map",
            context.map_user(memory.va(), PAGE_U64),
        )?);
        expect::succeeds("unmap", context.unmap_user(memory.va(), PAGE_U64))?;
    }
    let after = now()?;
    let records = listing("history")?;
    let tail = &records[records.len().checked_sub(10).context("ten records")?..];
    let mut last = 0;
    for (record, iova) in tail.iter().zip(mine) {
        expect::equal("first", record.number("first")?, iova)?;
        let when = record.number("when")?;
        // By as much as it takes to read the clock they may be off, and that differs.
        ensure!(
            when + 100_000 >= last,
            "{record:?} is older than the one before"
        );
        ensure!(
            when + NEAR > before && when < after + NEAR,
            "{when} is not between {before} and {after}"
        );
        last = when;
    }
    Ok(())
}

fn bounded(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    let mark = expect::succeeds(
        "map",
        context.map_user_at(memory.va(), PAGE_U64, fresh_iova(1)),
    )?;
    expect::succeeds("unmap", context.unmap_user(memory.va(), PAGE_U64))?;
    let mut last = 0;
    for _ in 0..KEPT {
        last = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
        expect::succeeds("unmap", context.unmap_user(memory.va(), PAGE_U64))?;
    }
    let records = listing("history")?;
    expect::equal("records", records.len(), KEPT)?;
    expect::equal("the newest", records[KEPT - 1].number("first")?, last)?;
    expect::holds("the oldest is forgotten", unmap_at(mark).is_err())
}
