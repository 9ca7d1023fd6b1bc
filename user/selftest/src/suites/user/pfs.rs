// SPDX-License-Identifier: GPL-2.0
//! PFs that leave and come back while buffers are mapped: the owned space keeps the
//! buffers and their pins, and they hold again.

use anyhow::Result;
use rustix::io::Errno;

use super::{Rig, PAGE_U64};
use crate::abi::Context;
use crate::expect;
use crate::host::{Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::{fresh_bytes, Memory, HUGE, PAGE};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        buffers_hold_again,
        unmapped_meanwhile,
        closed_meanwhile,
        nothing_maps_meanwhile,
    ]
}

/// Of a host without a usable PF.
pub fn nopf_tests() -> Vec<Test<Host>> {
    list_tests![no_buffer_can_be_mapped]
}

fn no_buffer_can_be_mapped(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    let va = memory.va();
    let answer = context.map_user(va, PAGE_U64);
    expect::fails("map", answer, Errno::NODEV)?;
    let answer = context.map_user_at(va, PAGE_U64, crate::dma::fresh_iova(1));
    expect::fails("map at an IOVA", answer, Errno::NODEV)?;
    let answer = context.map_batch(&[(va, PAGE_U64)]);
    let answer = answer.map_err(|refused| refused.error);
    expect::fails("batch", answer, Errno::NODEV)?;
    let answer = context.query(0).map(|found| found.iova);
    expect::fails("QUERY", answer, Errno::NODEV)?;
    expect::holds(
        "there is nothing to unmap",
        context.unmap_user(va, PAGE_U64).is_err(),
    )
}

/// Every PF without a driver while `act` runs.
fn without_pfs<T>(host: &Host, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let pfs = host.all_pfs()?;
    for pf in &pfs {
        pf.unbind()?;
    }
    let result = act();
    for pf in &pfs {
        pf.bind(OWN_DRIVER)?;
    }
    result
}

fn buffers_hold_again(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let (small, huge) = (UserMemory::scattered(5 * PAGE)?, UserMemory::huge(HUGE)?);
    let map = |memory: &UserMemory| {
        let answer = context.map_user(memory.va(), memory.length());
        expect::succeeds("map", answer)
    };
    let (small_iova, huge_iova) = (map(&small)?, map(&huge)?);
    let (pins, locked) = (ledger::pins()?, ledger::locked()?);
    let written = fresh_bytes(64);
    without_pfs(host, || {
        expect::equal("pins", ledger::pins()?, pins)?;
        expect::equal("locked KiB", ledger::locked()?, locked)?;
        small.write(0, &written);
        Ok(())
    })?;
    let mut rig = Rig::new(host)?;
    rig.sees(small_iova, &written)?;
    rig.reaches(small_iova, &small)?;
    rig.reaches(huge_iova, &huge)?;
    let answer = context.unmap_user(small.va(), small.length());
    expect::succeeds("unmap", answer)?;
    rig.refused(small_iova, &small)?;
    rig.reaches(huge_iova, &huge)
}

fn unmapped_meanwhile(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let (gone, kept) = (
        UserMemory::scattered(3 * PAGE)?,
        UserMemory::scattered(PAGE)?,
    );
    let answer = context.map_user(gone.va(), gone.length());
    let gone_iova = expect::succeeds("map", answer)?;
    let kept_iova = expect::succeeds("map", context.map_user(kept.va(), PAGE_U64))?;
    let pins = ledger::pins()?;
    without_pfs(host, || {
        let answer = context.unmap_user(gone.va(), PAGE_U64);
        expect::fails("unmap of a part", answer, Errno::NOENT)?;
        let answer = context.unmap_user(gone.va(), gone.length());
        expect::succeeds("unmap without a PF", answer)?;
        expect::equal("pins", ledger::pins()?, pins - 3)
    })?;
    let mut rig = Rig::new(host)?;
    rig.refused(gone_iova, &gone)?;
    rig.reaches(kept_iova, &kept)
}

fn closed_meanwhile(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(3 * PAGE)?;
    let pins = ledger::pins()?;
    let answer = context.map_user(memory.va(), memory.length());
    let iova = expect::succeeds("map", answer)?;
    without_pfs(host, || {
        drop(context);
        expect::equal("pins", ledger::pins()?, pins)
    })?;
    Rig::new(host)?.refused(iova, &memory)
}

fn nothing_maps_meanwhile(host: &Host) -> Result<()> {
    let (used, fresh) = (Context::open()?, Context::open()?);
    let memory = UserMemory::scattered(PAGE)?;
    expect::succeeds("map", used.map_user(memory.va(), PAGE_U64))?;
    let pins = ledger::pins()?;
    without_pfs(host, || {
        for context in [&used, &fresh] {
            let answer = context.map_user(memory.va(), PAGE_U64);
            expect::fails("map without a PF", answer, Errno::NODEV)?;
            let batch = context.map_batch(&[(memory.va(), PAGE_U64)]);
            let batch = batch.map_err(|refused| refused.error);
            expect::fails("batch without a PF", batch, Errno::NODEV)?;
        }
        expect::equal("pins", ledger::pins()?, pins)
    })?;
    expect::succeeds("map then", fresh.map_user(memory.va(), PAGE_U64))?;
    Ok(())
}
