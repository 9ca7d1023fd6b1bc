// SPDX-License-Identifier: GPL-2.0
//! PFs that the kernel forgets and finds again, and functions that are reset.

use anyhow::{ensure, Result};

use super::{SEED, STEPS};
use crate::expect;
use crate::host::{Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::module::HOSTDRV;
use crate::pci;
use crate::traffic::{beside, Holder};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![removed_and_found_again, all_removed_at_once, reset]
}

fn removed_and_found_again(host: &Host) -> Result<()> {
    beside(host, SEED, |crew| {
        for holder in [Holder::Owned, Holder::Shared] {
            for seat in 0..crew.fleet.seats.len() {
                if crew.fleet.holder(seat) != holder {
                    crew.fleet.unbind(seat)?;
                    crew.fleet.bind(seat, holder)?;
                }
                crew.work(2 * STEPS)?;
                let pf = &crew.fleet.seats[seat].pf;
                crew.fleet.change(&[seat], || pf.remove())?;
                crew.quiet()?;
                crew.work(STEPS)?;
                crew.fleet.change(&[seat], || {
                    pci::rescan()?;
                    pf.appears()?;
                    // It is as good as new: nothing is left of driver_override.
                    pf.wait_for(HOSTDRV)
                })?;
                crew.quiet()?;
                if holder == Holder::Owned {
                    crew.fleet.unbind(seat)?;
                    crew.unreached(seat)?;
                    crew.fleet.bind(seat, holder)?;
                    crew.quiet()?;
                }
            }
        }
        crew.work(STEPS)
    })
}

fn all_removed_at_once(host: &Host) -> Result<()> {
    let done = beside(host, SEED, |crew| {
        let all: Vec<usize> = (0..crew.fleet.seats.len()).collect();
        crew.work(2 * STEPS)?;
        crew.fleet.change(&all, || {
            all.iter()
                .try_for_each(|seat| crew.fleet.seats[*seat].pf.remove())
        })?;
        crew.quiet()?;
        crew.work(STEPS)?;
        crew.fleet.change(&all, || {
            pci::rescan()?;
            all.iter().try_for_each(|seat| {
                let pf = &crew.fleet.seats[*seat].pf;
                pf.appears()?;
                pf.wait_for(HOSTDRV)?;
                pf.unbind()?;
                pf.bind(OWN_DRIVER)
            })
        })?;
        crew.quiet()?;
        crew.work(STEPS)?;
        crew.done()
    })?;
    ensure!(
        done.without_pf > 0,
        "no call met a host without a PF: {done:?}"
    );
    Ok(())
}

/// A reset ends transfers; nothing that is mapped is lost by it.
fn reset(host: &Host) -> Result<()> {
    let done = beside(host, SEED, |crew| {
        for holder in [Holder::Owned, Holder::Shared] {
            for seat in 0..crew.fleet.seats.len() {
                if crew.fleet.holder(seat) != holder {
                    crew.fleet.unbind(seat)?;
                    crew.fleet.bind(seat, holder)?;
                }
                let pf = &crew.fleet.seats[seat].pf;
                for _ in 0..2 {
                    crew.work(STEPS)?;
                    crew.fleet.disturb(seat, || pf.reset())?;
                    crew.quiet()?;
                }
                expect::equal("its holder", crew.fleet.holder(seat), holder)?;
                expect::holds("it does DMA", pf.command()? & 4 != 0)?;
            }
        }
        crew.work(STEPS)?;
        crew.done()
    })?;
    ensure!(done.transfers > 0, "no transfer was compared: {done:?}");
    Ok(())
}
