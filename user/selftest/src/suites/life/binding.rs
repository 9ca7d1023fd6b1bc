// SPDX-License-Identifier: GPL-2.0
//! Binding and unbinding, by the drivers' files and by driver_override, and the modules
//! of the drivers.

use anyhow::{ensure, Result};

use super::{SEED, STEPS};
use crate::expect;
use crate::host::{Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::module::{self, HOSTDRV, QAT_IOMMU};
use crate::traffic::{beside, Holder};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        nothing_is_done,
        each_leaves_and_comes_back,
        all_leave_and_come_back,
        between_owned_and_shared,
        by_driver_override,
        the_driver_of_shared_pfs_is_removed,
        the_module_stays_while_held,
    ]
}

fn nothing_is_done(host: &Host) -> Result<()> {
    let done = beside(host, SEED, |crew| {
        for _ in 0..4 {
            crew.work(3 * STEPS)?;
            crew.quiet()?;
        }
        crew.done()
    })?;
    println!("    # {done:?}");
    ensure!(
        done.maps > 0 && done.batches > 0 && done.lookups > 0,
        "the threads did too little: {done:?}"
    );
    ensure!(
        done.transfers > 0 && done.refused > 0,
        "the threads did too little: {done:?}"
    );
    expect::equal("transfers through a PF that may be gone", done.disturbed, 0)?;
    expect::equal("answers of ENODEV", done.without_pf, 0)
}

fn each_leaves_and_comes_back(host: &Host) -> Result<()> {
    beside(host, SEED, |crew| {
        for seat in 0..crew.fleet.seats.len() {
            crew.work(STEPS)?;
            crew.fleet.unbind(seat)?;
            crew.unreached(seat)?;
            crew.quiet()?;
            crew.work(STEPS)?;
            crew.fleet.bind(seat, Holder::Owned)?;
            crew.quiet()?;
        }
        crew.work(STEPS)
    })
}

fn all_leave_and_come_back(host: &Host) -> Result<()> {
    let done = beside(host, SEED, |crew| {
        for round in 0..2 {
            for seat in 0..crew.fleet.seats.len() {
                crew.work(STEPS)?;
                crew.fleet.unbind(seat)?;
                crew.unreached(seat)?;
            }
            crew.work(STEPS)?;
            crew.quiet()?;
            for seat in 0..crew.fleet.seats.len() {
                crew.fleet.bind(
                    seat,
                    if round == 0 {
                        Holder::Shared
                    } else {
                        Holder::Owned
                    },
                )?;
                crew.quiet()?;
                crew.work(STEPS)?;
            }
        }
        crew.done()
    })?;
    ensure!(
        done.without_pf > 0,
        "no call met a host without a PF: {done:?}"
    );
    Ok(())
}

fn between_owned_and_shared(host: &Host) -> Result<()> {
    let done = beside(host, SEED, |crew| {
        for holder in [Holder::Shared, Holder::Owned, Holder::Shared] {
            for seat in 0..crew.fleet.seats.len() {
                crew.work(2 * STEPS)?;
                crew.fleet.unbind(seat)?;
                crew.unreached(seat)?;
                crew.fleet.bind(seat, holder)?;
                crew.quiet()?;
            }
        }
        crew.work(2 * STEPS)?;
        crew.done()
    })?;
    ensure!(
        done.bereaved > 0,
        "no space ended under a context: {done:?}"
    );
    Ok(())
}

fn by_driver_override(host: &Host) -> Result<()> {
    beside(host, SEED, |crew| {
        for driver in [HOSTDRV, "", OWN_DRIVER] {
            for seat in 0..crew.fleet.seats.len() {
                crew.work(STEPS)?;
                let pf = &crew.fleet.seats[seat].pf;
                crew.fleet.change(&[seat], || {
                    pf.want(driver)?;
                    // A wish alone changes nothing.
                    let before = pf.driver();
                    pf.probe()?;
                    expect::equal("the driver before it is unbound", pf.driver(), before)?;
                    pf.unbind()?;
                    pf.probe()?;
                    // With no wish it goes to the driver that has its id, and never to ours.
                    pf.wait_for(if driver.is_empty() { HOSTDRV } else { driver })
                })?;
                crew.quiet()?;
            }
        }
        crew.work(STEPS)
    })
}

fn the_driver_of_shared_pfs_is_removed(host: &Host) -> Result<()> {
    let done = beside(host, SEED, |crew| {
        let shared: Vec<usize> = (1..crew.fleet.seats.len()).collect();
        for seat in &shared {
            crew.fleet.unbind(*seat)?;
            crew.fleet.bind(*seat, Holder::Shared)?;
        }
        for _ in 0..2 {
            crew.work(3 * STEPS)?;
            crew.fleet.change(&shared, || module::unload(HOSTDRV))?;
            for seat in &shared {
                crew.unreached(*seat)?;
            }
            expect::equal("shared PFs", crew.fleet.held(Holder::Shared).len(), 0)?;
            crew.quiet()?;
            crew.work(STEPS)?;
            crew.fleet
                .change(&shared, || module::load(host, HOSTDRV, &[]))?;
            expect::equal(
                "shared PFs",
                crew.fleet.held(Holder::Shared),
                shared.clone(),
            )?;
            crew.quiet()?;
        }
        crew.work(STEPS)?;
        crew.done()
    })?;
    ensure!(
        done.bereaved > 0,
        "no space ended under a context: {done:?}"
    );
    Ok(())
}

fn the_module_stays_while_held(host: &Host) -> Result<()> {
    beside(host, SEED, |crew| {
        for _ in 0..3 {
            crew.work(STEPS)?;
            let refused = module::unload(QAT_IOMMU);
            ensure!(
                refused.is_err(),
                "the module was removed while contexts are open"
            );
            crew.quiet()?;
        }
        Ok(())
    })
}
