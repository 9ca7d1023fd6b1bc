// SPDX-License-Identifier: GPL-2.0
//! Virtual functions of PFs that the module owns or shares: turned on and off, never
//! taken for PFs, in VFIO's hands while the PF is ours, gone before their PF goes.

use anyhow::{ensure, Context as _, Result};
use std::time::Duration;

use super::{SEED, STEPS};
use crate::expect;
use crate::host::{Bdf, Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::module::{self, Reloaded, HOSTDRV};
use crate::pci;
use crate::traffic::{beside, Crew, Holder};
use crate::vfio;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        on_and_off,
        never_taken_for_pfs,
        used_through_vfio,
        gone_with_their_pf,
        waited_for_while_a_program_holds_one,
    ]
}

const COUNT: usize = 2;

/// Turns virtual functions on, of which no driver gets hold.
fn turn_on(pf: &Bdf) -> Result<Vec<Bdf>> {
    ensure!(
        pf.most_vfs()? >= COUNT,
        "{} cannot have {COUNT} virtual functions: the machine lacks --vfs",
        pf.0
    );
    pf.set_vfs(COUNT)?;
    let vfs = pf.vfs()?;
    expect::equal("virtual functions", vfs.len(), COUNT)?;
    for vf in &vfs {
        expect::equal("the driver of a virtual function", vf.driver(), None)?;
    }
    Ok(vfs)
}

/// Does something with a PF that is owned and then with one that is shared.
fn as_each(crew: &Crew<'_>, act: impl Fn(usize, Holder) -> Result<()>) -> Result<()> {
    let seat = 0;
    for holder in [Holder::Owned, Holder::Shared] {
        if crew.fleet.holder(seat) != holder {
            crew.fleet.unbind(seat)?;
            crew.fleet.bind(seat, holder)?;
        }
        act(seat, holder).with_context(|| format!("{holder:?}"))?;
    }
    Ok(())
}

/// The PF's own work is not disturbed by it.
fn on_and_off(host: &Host) -> Result<()> {
    let done = beside(host, SEED, |crew| {
        as_each(crew, |seat, _| {
            let pf = &crew.fleet.seats[seat].pf;
            for _ in 0..2 {
                crew.work(STEPS)?;
                let vfs = turn_on(pf)?;
                crew.quiet()?;
                crew.work(STEPS)?;
                expect::holds("2 cannot become 1", pf.set_vfs(1).is_err())?;
                pf.set_vfs(0)?;
                expect::equal("virtual functions", pf.vfs()?.len(), 0)?;
                ensure!(vfs.iter().all(|vf| !vf.exists()), "one is still there");
                crew.quiet()?;
            }
            let most = pf.most_vfs()?;
            expect::holds("more than there can be", pf.set_vfs(most + 1).is_err())?;
            Ok(())
        })?;
        crew.done()
    })?;
    ensure!(done.transfers > 0, "no transfer was compared: {done:?}");
    Ok(())
}

/// Neither by driver_override nor by the driver's `bind`.
fn refused_by_the_module(vf: &Bdf) -> Result<()> {
    vf.want(OWN_DRIVER)?;
    // Nobody takes it, which is no error, or is said to be one.
    let _ = vf.probe();
    expect::equal("its driver", vf.driver(), None)?;
    let bound = std::fs::write(format!("/sys/bus/pci/drivers/{OWN_DRIVER}/bind"), &vf.0);
    expect::holds("bind is refused", bound.is_err())?;
    expect::equal("its driver", vf.driver(), None)?;
    vf.want("")
}

fn never_taken_for_pfs(host: &Host) -> Result<()> {
    beside(host, SEED, |crew| {
        as_each(crew, |seat, _| {
            crew.work(STEPS)?;
            let pf = &crew.fleet.seats[seat].pf;
            for vf in turn_on(pf)? {
                refused_by_the_module(&vf)?;
            }
            crew.quiet()?;
            pf.set_vfs(0)
        })
    })?;
    // Not even where their id is one that the module is told to know.
    let _module = Reloaded::with(host, &["ids=8086:4941"])?;
    let pf = host.pf()?;
    let result = turn_on(&pf).and_then(|vfs| vfs.iter().try_for_each(refused_by_the_module));
    pf.set_vfs(0)?;
    result
}

fn used_through_vfio(host: &Host) -> Result<()> {
    vfio::load(host)?;
    beside(host, SEED, |crew| {
        as_each(crew, |seat, _| {
            let pf = &crew.fleet.seats[seat].pf;
            let vfs = turn_on(pf)?;
            for vf in &vfs {
                vf.bind(vfio::DRIVER)?;
            }
            crew.work(STEPS)?;
            let devices = vfs
                .iter()
                .map(vfio::Device::open)
                .collect::<Result<Vec<_>>>()?;
            for device in &devices {
                device.moves_data()?;
            }
            crew.quiet()?;
            // The PF's mappings are not the VF's, in which only its program has some.
            let mut mappings = crew.some_pages(seat)?;
            for _ in 0..10 {
                // At one moment there may be none.
                if mappings.is_empty() {
                    crew.work(STEPS)?;
                    mappings = crew.some_pages(seat)?;
                }
            }
            ensure!(!mappings.is_empty(), "nothing is mapped for the PF");
            for iova in mappings {
                ensure!(
                    !devices[0].reads(iova)?,
                    "a VF reads at {iova:#x}, which is the PF's"
                );
            }
            crew.work(STEPS)?;
            drop(devices);
            // The PF's reset is its VFs' too: a program begins anew.
            crew.fleet.disturb(seat, || pf.reset())?;
            for vf in &vfs {
                vfio::Device::open(vf)?.moves_data()?;
            }
            crew.quiet()?;
            pf.set_vfs(0)?;
            crew.quiet()
        })
    })
}

fn gone_with_their_pf(host: &Host) -> Result<()> {
    vfio::load(host)?;
    beside(host, SEED, |crew| {
        as_each(crew, |seat, holder| {
            let pf = &crew.fleet.seats[seat].pf;
            let vfs = turn_on(pf)?;
            vfs[0].bind(vfio::DRIVER)?;
            crew.work(STEPS)?;
            crew.fleet.unbind(seat)?;
            expect::equal(
                "virtual functions without their PF's driver",
                pf.count_vfs()?,
                0,
            )?;
            ensure!(vfs.iter().all(|vf| !vf.exists()), "one is still there");
            crew.unreached(seat)?;
            crew.quiet()?;
            crew.fleet.bind(seat, holder)?;

            let vfs = turn_on(pf)?;
            crew.work(STEPS)?;
            crew.fleet.change(&[seat], || pf.remove())?;
            ensure!(vfs.iter().all(|vf| !vf.exists()), "one is still there");
            crew.quiet()?;
            crew.fleet.change(&[seat], || {
                pci::rescan()?;
                pf.appears()?;
                pf.wait_for(HOSTDRV)
            })?;
            crew.quiet()?;
            if holder == Holder::Shared {
                turn_on(pf)?;
                crew.work(STEPS)?;
                crew.fleet.change(&[seat], || module::unload(HOSTDRV))?;
                expect::equal("virtual functions", pf.count_vfs()?, 0)?;
                crew.quiet()?;
                crew.fleet
                    .change(&[seat], || module::load(host, HOSTDRV, &[]))?;
            }
            Ok(())
        })
    })
}

/// The PF's driver cannot let it go before a program has let go of its VF; nobody else waits.
fn waited_for_while_a_program_holds_one(host: &Host) -> Result<()> {
    vfio::load(host)?;
    beside(host, SEED, |crew| {
        as_each(crew, |seat, holder| {
            let pf = &crew.fleet.seats[seat].pf;
            let vfs = turn_on(pf)?;
            vfs[0].bind(vfio::DRIVER)?;
            let device = vfio::Device::open(&vfs[0])?;
            crew.work(STEPS)?;
            std::thread::scope(|scope| -> Result<()> {
                let leaving = scope.spawn(|| crew.fleet.unbind(seat));
                std::thread::sleep(Duration::from_millis(200));
                let early = leaving.is_finished();
                let worked = crew.work(STEPS);
                let moved = device.moves_data();
                drop(device);
                leaving.join().expect("threads return their errors")?;
                worked?;
                moved?;
                ensure!(!early, "the PF left while a program holds its VF");
                Ok(())
            })?;
            expect::equal("virtual functions", pf.count_vfs()?, 0)?;
            crew.unreached(seat)?;
            crew.quiet()?;
            crew.fleet.bind(seat, holder)
        })
    })
}
