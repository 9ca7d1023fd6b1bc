// SPDX-License-Identifier: GPL-2.0
//! A PF that nobody holds and that VFIO claims: it is not usable for the module, its
//! program does DMA in a domain of its own, and bound back it is what it was.

use anyhow::{ensure, Result};
use rustix::io::Errno;

use super::{SEED, STEPS};
use crate::expect;
use crate::host::{Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::traffic::{beside, Holder};
use crate::vfio;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![claimed_and_given_back, not_while_it_is_held]
}

fn claimed_and_given_back(host: &Host) -> Result<()> {
    vfio::load(host)?;
    beside(host, SEED, |crew| {
        for (seat, holder) in [(0, Holder::Shared), (0, Holder::Owned)] {
            let pf = &crew.fleet.seats[seat].pf;
            crew.work(STEPS)?;
            crew.fleet.change(&[seat], || {
                pf.unbind()?;
                pf.bind(vfio::DRIVER)
            })?;
            crew.quiet()?;
            {
                let device = vfio::Device::open(pf)?;
                device.moves_data()?;
                crew.work(STEPS)?;
                device.moves_data()?;
                // While its program is there nobody else gets it.
                let group = pf.group()?;
                expect::fails(
                    "type while VFIO has it",
                    group.set_kind("identity"),
                    Errno::PERM,
                )?;
            }
            crew.quiet()?;
            crew.fleet.change(&[seat], || pf.unbind())?;
            crew.unreached(seat)?;
            crew.fleet.bind(seat, holder)?;
            crew.quiet()?;
        }
        crew.work(STEPS)
    })
}

fn not_while_it_is_held(host: &Host) -> Result<()> {
    vfio::load(host)?;
    beside(host, SEED, |crew| {
        let pf = &crew.fleet.seats[0].pf;
        crew.work(STEPS)?;
        pf.want(vfio::DRIVER)?;
        pf.probe()?;
        ensure!(
            pf.driver().as_deref() == Some(OWN_DRIVER),
            "a PF that the module owns was given to VFIO"
        );
        pf.want(OWN_DRIVER)?;
        crew.quiet()
    })
}
