// SPDX-License-Identifier: GPL-2.0
//! PFs that are pulled out of their slots, in good order and without warning, and put
//! in again.

use anyhow::{ensure, Result};

use super::{SEED, STEPS};
use crate::expect;
use crate::host::{self, Host};
use crate::ktap::{list_tests, Test};
use crate::module::HOSTDRV;
use crate::slot;
use crate::traffic::{beside, Crew, Holder};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![orderly, by_surprise, all_at_once]
}

/// In the kernel log, around what is done to a PF. (That is read when no thread works any more: a child
/// would hold its contexts open.)
const PULLS: &str = "qat-iommu-selftest pulls a PF";
const PULLED: &str = "qat-iommu-selftest has pulled a PF";

/// What is not there any more is not reset.
fn nothing_was_reset(log: &str) -> Result<()> {
    let mut pulling = false;
    for line in log.lines() {
        pulling = (pulling || line.contains(PULLS)) && !line.contains(PULLED);
        ensure!(!pulling || !line.contains("resetting"), "{line}");
    }
    Ok(())
}

fn pulled_and_put_back(crew: &Crew<'_>, seat: usize, how: slot::Pull) -> Result<()> {
    let pf = &crew.fleet.seats[seat].pf;
    crew.work(STEPS)?;
    host::say(PULLS)?;
    crew.fleet.change(&[seat], || slot::pull(seat, pf, how))?;
    host::say(PULLED)?;
    crew.quiet()?;
    crew.work(STEPS)?;
    crew.fleet.change(&[seat], || {
        slot::put(seat, pf)?;
        pf.wait_for(HOSTDRV)
    })?;
    crew.quiet()
}

fn each_way(host: &Host, how: slot::Pull) -> Result<()> {
    slot::needed()?;
    let work = |crew: &Crew<'_>| {
        for holder in [Holder::Owned, Holder::Shared] {
            let seat = 0;
            if crew.fleet.holder(seat) != holder {
                crew.fleet.unbind(seat)?;
                crew.fleet.bind(seat, holder)?;
            }
            pulled_and_put_back(crew, seat, how)?;
            // One that is new in its slot is as good as one that was always there.
            crew.fleet.unbind(seat)?;
            crew.unreached(seat)?;
            crew.fleet.bind(seat, holder)?;
            crew.quiet()?;
        }
        crew.work(STEPS)?;
        crew.done()
    };
    let (done, log) = host::logged(|| beside(host, SEED, work))?;
    if how == slot::Pull::Surprise {
        nothing_was_reset(&log)?;
    }
    ensure!(done.transfers > 0, "no transfer was compared: {done:?}");
    Ok(())
}

fn orderly(host: &Host) -> Result<()> {
    each_way(host, slot::Pull::Orderly)
}

fn by_surprise(host: &Host) -> Result<()> {
    each_way(host, slot::Pull::Surprise)
}

fn all_at_once(host: &Host) -> Result<()> {
    slot::needed()?;
    let done = beside(host, SEED, |crew| {
        let all: Vec<usize> = (0..crew.fleet.seats.len()).collect();
        crew.work(2 * STEPS)?;
        crew.fleet.change(&all, || {
            all.iter().try_for_each(|seat| {
                slot::pull(*seat, &crew.fleet.seats[*seat].pf, slot::Pull::Surprise)
            })
        })?;
        expect::equal("owned PFs", crew.fleet.held(Holder::Owned).len(), 0)?;
        crew.quiet()?;
        crew.work(STEPS)?;
        for seat in all {
            let pf = &crew.fleet.seats[seat].pf;
            crew.fleet.change(&[seat], || {
                slot::put(seat, pf)?;
                pf.wait_for(HOSTDRV)
            })?;
            crew.fleet.unbind(seat)?;
            crew.fleet.bind(seat, Holder::Owned)?;
            crew.quiet()?;
        }
        crew.work(STEPS)?;
        crew.done()
    })?;
    ensure!(
        done.without_pf > 0,
        "no call met a host without a PF: {done:?}"
    );
    Ok(())
}
