// SPDX-License-Identifier: GPL-2.0
//! What can be done to a PF, which of it fits its present state, and doing it.

use anyhow::{ensure, Context as _, Result};
use rustix::io::Errno;

use crate::expect;
use crate::host::{Host, OWN_DRIVER};
use crate::module::{self, HOSTDRV};
use crate::pci;
use crate::slot::{self, Pull};
use crate::traffic::{Crew, Holder};
use crate::vfio;

/// One thing done to one PF.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    Unbind {
        seat: usize,
    },
    Own {
        seat: usize,
    },
    Share {
        seat: usize,
    },
    /// From its driver to the other, by driver_override.
    Swap {
        seat: usize,
    },
    /// To VFIO.
    Claim {
        seat: usize,
    },
    RemoveAndRescan {
        seat: usize,
    },
    Reset {
        seat: usize,
    },
    VfsOn {
        seat: usize,
        count: usize,
    },
    VfsOff {
        seat: usize,
    },
    /// Another type of default domain, which is refused.
    Retype {
        seat: usize,
    },
    /// The module of the shared PFs' driver goes and comes.
    Driver,
    Pull {
        seat: usize,
        how: Pull,
    },
}

impl Event {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unbind { .. } => "unbind",
            Self::Own { .. } => "own",
            Self::Share { .. } => "share",
            Self::Swap { .. } => "swap",
            Self::Claim { .. } => "vfio",
            Self::RemoveAndRescan { .. } => "rescan",
            Self::Reset { .. } => "reset",
            Self::VfsOn { .. } => "vfs-on",
            Self::VfsOff { .. } => "vfs-off",
            Self::Retype { .. } => "type",
            Self::Driver => "driver",
            Self::Pull { .. } => "hot-plug",
        }
    }

    /// One that fits a PF of the crew's, at random. Slots take seconds, so they are rare.
    pub fn choose(crew: &Crew<'_>, random: &mut fastrand::Rng, slots: bool) -> Result<Self> {
        let seat = random.usize(0..crew.fleet.seats.len());
        let pf = &crew.fleet.seats[seat].pf;
        let held = pf.driver().is_some();
        let holder = crew.fleet.holder(seat);
        let (vfs, most) = match pf.most_vfs()? {
            0 => (0, 0),
            most => (pf.count_vfs()?, most),
        };
        let rescan = Self::RemoveAndRescan { seat };
        let reset = Self::Reset { seat };
        let how = if random.bool() {
            Pull::Orderly
        } else {
            Pull::Surprise
        };
        let pull = (if slots { 2 } else { 0 }, Self::Pull { seat, how });
        let mut fitting = vec![(10, rescan), (10, reset), (3, Self::Driver), pull];
        match holder {
            Holder::Nobody if held => fitting.push((40, Self::Unbind { seat })),
            Holder::Nobody => fitting.extend([
                (40, Self::Own { seat }),
                (25, Self::Share { seat }),
                (8, Self::Claim { seat }),
            ]),
            _ => {
                fitting.extend([
                    (25, Self::Unbind { seat }),
                    (20, Self::Swap { seat }),
                    (6, Self::Retype { seat }),
                ]);
                if vfs > 0 {
                    fitting.push((25, Self::VfsOff { seat }));
                } else if most > 0 {
                    let count = random.usize(1..=most);
                    fitting.push((15, Self::VfsOn { seat, count }));
                }
            }
        }
        let all: u32 = fitting.iter().map(|(weight, _)| weight).sum();
        let mut at = random.u32(0..all);
        for (weight, event) in fitting {
            if at < weight {
                return Ok(event);
            }
            at -= weight;
        }
        Ok(reset)
    }

    pub fn play(&self, crew: &Crew<'_>, host: &Host) -> Result<()> {
        let fleet = crew.fleet;
        match *self {
            Self::Unbind { seat } => {
                fleet.unbind(seat)?;
                crew.unreached(seat)
            }
            Self::Own { seat } => fleet.bind(seat, Holder::Owned),
            Self::Share { seat } => fleet.bind(seat, Holder::Shared),
            Self::Swap { seat } => {
                let driver = match fleet.holder(seat) {
                    Holder::Owned => HOSTDRV,
                    _ => OWN_DRIVER,
                };
                let pf = &fleet.seats[seat].pf;
                fleet.change(&[seat], || {
                    pf.want(driver)?;
                    pf.unbind()?;
                    pf.probe()?;
                    pf.wait_for(driver)
                })
            }
            Self::Claim { seat } => {
                let pf = &fleet.seats[seat].pf;
                fleet.change(&[seat], || pf.bind(vfio::DRIVER))?;
                vfio::Device::open(pf)?.moves_data()
            }
            Self::RemoveAndRescan { seat } => {
                let pf = &fleet.seats[seat].pf;
                fleet.change(&[seat], || {
                    pf.remove()?;
                    pci::rescan()?;
                    pf.appears()?;
                    pf.wait_for(HOSTDRV)
                })
            }
            Self::Reset { seat } => fleet.disturb(seat, || fleet.seats[seat].pf.reset()),
            Self::VfsOn { seat, count } => {
                let pf = &fleet.seats[seat].pf;
                pf.set_vfs(count)?;
                expect::equal("virtual functions", pf.vfs()?.len(), count)
            }
            Self::VfsOff { seat } => fleet.seats[seat].pf.set_vfs(0),
            Self::Retype { seat } => {
                let answer = fleet.seats[seat].pf.group()?.set_kind("identity");
                expect::fails("another type of domain", answer, Errno::PERM)
            }
            Self::Driver => {
                let shared = fleet.held(Holder::Shared);
                fleet.change(&shared, || module::unload(HOSTDRV))?;
                for seat in &shared {
                    crew.unreached(*seat)?;
                }
                fleet.change(&shared, || module::load(host, HOSTDRV, &[]))?;
                let back = fleet.held(Holder::Shared);
                ensure!(
                    back == shared,
                    "shared were {shared:?}, and now are {back:?}"
                );
                Ok(())
            }
            Self::Pull { seat, how } => {
                let pf = &fleet.seats[seat].pf;
                fleet
                    .change(&[seat], || slot::pull(seat, pf, how))
                    .with_context(|| format!("{how:?}"))?;
                crew.work(4)?;
                fleet.change(&[seat], || {
                    slot::put(seat, pf)?;
                    pf.wait_for(HOSTDRV)
                })
            }
        }
    }
}
