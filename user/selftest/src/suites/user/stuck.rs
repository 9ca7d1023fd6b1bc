// SPDX-License-Identifier: GPL-2.0
//! A program whose page never comes, as with userfaultfd or a file system that does
//! not answer: it waits for it alone. Everyone else maps, PFs come and go, and it
//! can be killed.

use anyhow::Result;
use std::time::{Duration, Instant};

use super::{Rig, PAGE_U64};
use crate::expect;
use crate::helper::{user::Task, Helper};
use crate::host::{Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::PAGE;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![others_go_on, the_same_context_goes_on, pfs_come_and_go,]
}

/// A process that is in the middle of a map and stays there.
fn stuck_process(rig: Option<&Rig>) -> Result<Helper> {
    let mut helper = Helper::doing(&Task::Stuck, rig.map(Rig::context))?;
    expect::equal("what it says", helper.line()?.as_str(), "mapping")?;
    // It has said so just before.
    std::thread::sleep(Duration::from_millis(100));
    Ok(helper)
}

/// It is still there, and goes at once when it is killed.
fn goes(helper: Helper, pins: i64) -> Result<()> {
    let start = Instant::now();
    helper.kill()?;
    expect::holds("it goes at once", start.elapsed() < Duration::from_secs(5))?;
    expect::equal("pins", ledger::pins()?, pins)
}

fn others_go_on(host: &Host) -> Result<()> {
    let pins = ledger::pins()?;
    let helper = stuck_process(None)?;
    {
        let mut rig = Rig::new(host)?;
        let memory = UserMemory::scattered(4 * PAGE)?;
        let iova = rig.map(&memory)?;
        rig.reaches(iova, &memory)?;
        rig.unmap(&memory)?;
        rig.refused(iova, &memory)?;
    }
    goes(helper, pins)
}

fn the_same_context_goes_on(host: &Host) -> Result<()> {
    let pins = ledger::pins()?;
    let mut rig = Rig::new(host)?;
    let helper = stuck_process(Some(&rig))?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let iova = rig.map(&memory)?;
    rig.reaches(iova, &memory)?;
    let found = expect::succeeds("QUERY", rig.context().mappings())?;
    expect::equal("mappings", found.len(), 1)?;
    let batch = rig.context().map_batch(&[(memory.va(), PAGE_U64)]);
    expect::succeeds("batch", batch.map_err(|refused| refused.error))?;
    rig.unmap(&memory)?;
    rig.refused(iova, &memory)?;
    rig.context().info()?;
    expect::succeeds("unmap", rig.context().unmap_user(memory.va(), PAGE_U64))?;
    goes(helper, pins)
}

fn pfs_come_and_go(host: &Host) -> Result<()> {
    let pins = ledger::pins()?;
    let helper = stuck_process(None)?;
    let pf = host.pf()?;
    pf.unbind()?;
    pf.bind(OWN_DRIVER)?;
    let memory = UserMemory::scattered(PAGE)?;
    {
        let mut rig = Rig::new(host)?;
        let iova = rig.map(&memory)?;
        rig.reaches(iova, &memory)?;
    }
    goes(helper, pins)
}
