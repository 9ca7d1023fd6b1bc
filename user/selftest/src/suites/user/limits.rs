// SPDX-License-Identifier: GPL-2.0
//! The limit of locked memory, the privilege to exceed it, and signals in the
//! middle of a map.

use anyhow::{ensure, Result};
use rustix::io::Errno;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

use super::{Rig, PAGE_U64};
use crate::abi::Context;
use crate::expect;
use crate::helper::{user::Task, Helper};
use crate::host::Host;
use crate::ktap::{list_tests, skip, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::PAGE;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        charged_and_uncharged,
        at_the_limit,
        a_batch_at_the_limit,
        the_privileged_exceed_it,
        interrupted_by_a_signal,
        interrupted_early,
    ]
}

/// The few that are worth a second space.
pub fn essential_tests() -> Vec<Test<Host>> {
    list_tests![
        charged_and_uncharged,
        at_the_limit,
        a_batch_at_the_limit,
        the_privileged_exceed_it,
    ]
}

/// For a device that does not mind how many entries there are.
pub fn edu_tests() -> Vec<Test<Host>> {
    list_tests![references_of_a_page_do_not_run_over]
}

/// Each map of a page of 1 GiB counts 262,144 more references of it, in 31 bits. The kernel warns
/// once they run over; the privileged are refused before.
fn references_of_a_page_do_not_run_over(host: &Host) -> Result<()> {
    let memory = UserMemory::gigantic()?;
    let mut rig = Rig::new(host)?;
    let context = Context::open()?;
    let mut mapped = 0;
    let refused = loop {
        match context.map_user(memory.va(), memory.length()) {
            Ok(_) if mapped < 8192 => mapped += 1,
            answer => break answer,
        }
    };
    println!("    # refused after {mapped} times");
    if refused == Err(Errno::NOSPC) {
        return Err(skip("this space has no room for so many"));
    }
    expect::fails("one map too many", refused, Errno::NOMEM)?;
    ensure!(mapped >= 4096, "refused after {mapped} times already");
    drop(context);
    let iova = rig.map(&memory)?;
    rig.reaches(iova, &memory)
}

fn charged_and_uncharged(host: &Host) -> Result<()> {
    let rig = Rig::new(host)?;
    let memory = UserMemory::scattered(64 * PAGE)?;
    let before = ledger::locked()?;
    let locked = |kib: u64| expect::equal("locked KiB", ledger::locked()? - before, kib);
    rig.map(&memory)?;
    locked(256)?;
    let va = memory.va() + 4000;
    let iova = expect::succeeds("map", rig.context().map_user(va, 200))?;
    locked(264)?;
    expect::succeeds("unmap", rig.context().unmap(iova, 200))?;
    locked(256)?;
    rig.unmap(&memory)?;
    locked(0)
}

/// The file is this process's, so that nobody need be let in by the node's mode.
fn as_nobody(host: &Host, task: &Task) -> Result<()> {
    let rig = Rig::new(host)?;
    Helper::succeeds(task, Some(rig.context()))?;
    // What it left mapped goes with the context that both had.
    Ok(())
}

fn at_the_limit(host: &Host) -> Result<()> {
    as_nobody(host, &Task::Limited)
}

fn a_batch_at_the_limit(host: &Host) -> Result<()> {
    as_nobody(host, &Task::LimitedBatch)
}

/// A limit of this process, put back when this goes.
struct Limited(Rlimit);

impl Limited {
    fn new(bytes: u64) -> Result<Self> {
        let before = getrlimit(Resource::Memlock);
        let limit = Rlimit {
            current: Some(bytes),
            maximum: before.maximum,
        };
        setrlimit(Resource::Memlock, limit)?;
        Ok(Self(before))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // Raising it again to what it was is always allowed.
        let _ = setrlimit(Resource::Memlock, self.0);
    }
}

/// What they lock is counted all the same.
fn the_privileged_exceed_it(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(64 * PAGE)?;
    let before = ledger::locked()?;
    let _limit = Limited::new(PAGE_U64)?;
    let iova = rig.map(&memory)?;
    expect::equal("locked KiB", ledger::locked()? - before, 256)?;
    rig.reaches(iova, &memory)?;
    rig.unmap(&memory)
}

/// In a process of its own, as the signal is for whichever thread there is.
fn interrupted(mib: usize, after_ms: u64) -> Result<()> {
    Helper::succeeds(&Task::Interrupted { mib, after_ms }, None)
}

fn interrupted_by_a_signal(_: &Host) -> Result<()> {
    interrupted(768, 60)
}

fn interrupted_early(_: &Host) -> Result<()> {
    interrupted(256, 5)
}
