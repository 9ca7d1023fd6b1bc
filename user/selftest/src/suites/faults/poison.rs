// SPDX-License-Identifier: GPL-2.0
//! virtio-iommu cannot undo a mapping without memory. What it failed to undo is poisoned: its
//! pages stay pinned and charged, its range belongs to nobody and is never used again.

use anyhow::{ensure, Context as _, Result};
use rustix::io::Errno;

use super::state::State;
use crate::abi::Context;
use crate::expect;
use crate::faults::Faults;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::PAGE;
use crate::suites::user::Rig;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![unmap_user, unmap_by_iova, unmap_batch, close]
}

/// What is done to a page of a context's: its address, and where it is mapped.
type Undoing = fn(&mut Option<Context>, u64, u64) -> Result<(), Errno>;

fn sweep(host: &Host, undo: Undoing) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let (mut nth, mut poisoned) = (0, 0);
    loop {
        nth += 1;
        let faults = Faults::at(nth)?;
        let before = State::now(&rig)?;
        let memory = UserMemory::scattered(PAGE)?;
        let mut context = Some(Context::open()?);
        let map = |context: &Option<Context>| {
            let context = context.as_ref().context("it is open")?;
            expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))
        };
        let iova = map(&context)?;
        rig.reaches(iova, &memory)?;
        let prepared = State::now(&rig)?;
        let answer = faults.during(|| undo(&mut context, memory.va(), iova))?;
        let now = State::now(&rig)?;
        let more = now.poisoned()?.len() - before.poisoned()?.len();
        if more == 0 {
            match answer {
                Ok(()) => rig.refused(iova, &memory)?,
                // As for any other IOMMU.
                Err(error) => {
                    ensure!(
                        faults.reached(),
                        "{}, though nothing failed",
                        expect::name(error)
                    );
                    now.is(&prepared).with_context(|| expect::name(error))?;
                    expect::succeeds("again", undo(&mut context, memory.va(), iova))?;
                    rig.refused(iova, &memory)?;
                }
            }
            drop(context);
            State::now(&rig)?.is(&before)?;
        } else {
            is_kept(&rig, &before, &now, answer, iova)?;
            poisoned += 1;
            // Others go on, here and with another context; nobody gets that range.
            let other = Some(Context::open()?);
            let elsewhere = map(&other)?;
            ensure!(elsewhere != iova, "a poisoned range was given away");
            rig.reaches(elsewhere, &memory)?;
            let fixed = rig.context().map_user_at(memory.va(), PAGE_U64, iova);
            expect::fails("map over it", fixed, Errno::EXIST)?;
            drop(other);
            rig.refused(elsewhere, &memory)?;
            drop(context);
            // It stays for good.
            expect::equal("pins", ledger::pins()?, now.pins())?;
            ledger::lose(now.pins() - before.pins(), now.locked() - before.locked());
        }
        if !faults.reached() {
            println!(
                "    # {} failures were made, of which {poisoned} poisoned the range",
                nth - 1
            );
            ensure!(poisoned > 0, "nothing was poisoned");
            return Ok(());
        }
    }
}

/// One page is pinned and charged for good, and the caller knows.
fn is_kept(
    rig: &Rig,
    before: &State,
    now: &State,
    answer: Result<(), Errno>,
    iova: u64,
) -> Result<()> {
    if let Err(error) = answer {
        expect::equal("what the caller is told", error, Errno::IO)?;
    }
    let range = (iova, iova + PAGE_U64 - 1);
    expect::holds("the range is listed", now.poisoned()?.contains(&range))?;
    expect::equal("pins", now.pins() - before.pins(), 1)?;
    expect::equal("charged KiB", now.locked() - before.locked(), 4)?;
    expect::fails(
        "QUERY",
        rig.context().query(iova).map(|found| found.kind),
        Errno::NOENT,
    )
}

fn unmap_user(host: &Host) -> Result<()> {
    sweep(host, |context, va, _| {
        context
            .as_ref()
            .map_or(Ok(()), |context| context.unmap_user(va, PAGE_U64))
    })
}

fn unmap_by_iova(host: &Host) -> Result<()> {
    sweep(host, |context, _, iova| {
        context
            .as_ref()
            .map_or(Ok(()), |context| context.unmap(iova, PAGE_U64))
    })
}

fn unmap_batch(host: &Host) -> Result<()> {
    sweep(host, |context, _, iova| {
        let answer = context
            .as_ref()
            .map(|context| context.unmap_batch(&[(iova, PAGE_U64)]));
        answer.map_or(Ok(()), |answer| answer.map_err(|refused| refused.error))
    })
}

fn close(host: &Host) -> Result<()> {
    sweep(host, |context, _, _| {
        *context = None;
        Ok(())
    })
}
