// SPDX-License-Identifier: GPL-2.0
//! The PFs, what holds each of them, and what is being done to them at the moment. One
//! thread changes PFs, others glance at them before and after what they do: what did
//! not change between two glances is certain.

use anyhow::{Context as _, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, Ordering::SeqCst};
use std::sync::Mutex;

use crate::host::{Bdf, Host, PfState, OWN_DRIVER};
use crate::module::{self, HOSTDRV};
use crate::pci;
use crate::slot;

/// Under this name no driver exists: a PF that is kept for it is bound to none.
pub const NOBODY: &str = "nobody";

/// Whose a PF is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// No driver's, or one's that has nothing to do with the module; or it is not there.
    Nobody,
    Owned,
    Shared,
}

impl Holder {
    fn number(self) -> u8 {
        match self {
            Self::Nobody => 0,
            Self::Owned => 1,
            Self::Shared => 2,
        }
    }

    fn of(number: u8) -> Self {
        match number {
            1 => Self::Owned,
            2 => Self::Shared,
            _ => Self::Nobody,
        }
    }
}

/// One PF.
pub struct Seat {
    pub pf: Bdf,
    holder: AtomicU8,
    /// Odd while its holder may change; grows with every change.
    presence: AtomicU64,
    /// Odd while the function is disturbed.
    function: AtomicU64,
    /// Whoever uses its engine holds this.
    pub engine: Mutex<()>,
}

impl Seat {
    /// The driver that holds it now, as far as that matters.
    fn look(&self) -> Holder {
        match self.pf.driver().as_deref() {
            Some(OWN_DRIVER) => Holder::Owned,
            Some(HOSTDRV) => Holder::Shared,
            _ => Holder::Nobody,
        }
    }
}

/// All PFs.
pub struct Fleet {
    pub seats: Vec<Seat>,
    /// Grows whenever there may have been no usable PF.
    barren: AtomicU64,
    /// This loaded the driver of shared PFs.
    loaded: AtomicBool,
}

/// What could be seen at one moment: holder, presence and function of each PF.
#[derive(Clone, Debug)]
pub struct Glance {
    seats: Vec<(Holder, u64, u64)>,
    pub barren: u64,
}

/// Two glances, and what held between them.
#[derive(Debug)]
pub struct Interval {
    pub before: Glance,
    pub after: Glance,
}

impl Interval {
    /// The holder of a PF, if it did not change.
    pub fn steady(&self, seat: usize) -> Option<Holder> {
        let ((holder, before, _), (_, after, _)) =
            (self.before.seats[seat], self.after.seats[seat]);
        (before == after && before % 2 == 0).then_some(holder)
    }

    /// The presence of a PF at the end.
    pub fn presence(&self, seat: usize) -> u64 {
        self.after.seats[seat].1
    }

    /// Whether a PF was held by the same driver and not disturbed.
    pub fn untouched(&self, seat: usize) -> bool {
        let ((_, _, before), (_, _, after)) = (self.before.seats[seat], self.after.seats[seat]);
        self.steady(seat).is_some() && before == after && before % 2 == 0
    }

    fn any(&self, so: impl Fn(Option<Holder>) -> bool) -> bool {
        (0..self.before.seats.len()).any(|seat| so(self.steady(seat)))
    }

    /// There was an owned PF all the time.
    pub fn owned_surely(&self) -> bool {
        self.any(|holder| holder == Some(Holder::Owned))
    }

    /// There was a usable PF all the time.
    pub fn usable_surely(&self) -> bool {
        self.any(|holder| matches!(holder, Some(Holder::Owned | Holder::Shared)))
    }

    /// There may have been a shared PF.
    pub fn shared_perhaps(&self) -> bool {
        self.any(|holder| matches!(holder, None | Some(Holder::Shared)))
    }
}

impl Fleet {
    /// The PFs of the machine, with a driver for shared ones at hand.
    pub fn new(host: &Host) -> Result<Self> {
        let mut seats = Vec::new();
        for pf in host.all_pfs()? {
            let seat = Seat {
                pf,
                holder: AtomicU8::new(0),
                presence: AtomicU64::new(0),
                function: AtomicU64::new(0),
                engine: Mutex::new(()),
            };
            seat.holder.store(seat.look().number(), SeqCst);
            seats.push(seat);
        }
        let loaded = !module::is_loaded(HOSTDRV);
        if loaded {
            module::load(host, HOSTDRV, &[]).context("the driver of shared PFs")?;
        }
        Ok(Self {
            seats,
            barren: AtomicU64::new(0),
            loaded: AtomicBool::new(loaded),
        })
    }

    pub fn glance(&self) -> Glance {
        // What is about to change says so first, and its holder is set before it says that it is
        // done; so presence is read on both sides of the holder.
        let one = |seat: &Seat| loop {
            let presence = seat.presence.load(SeqCst);
            let holder = Holder::of(seat.holder.load(SeqCst));
            let function = seat.function.load(SeqCst);
            if presence == seat.presence.load(SeqCst) {
                return (holder, presence, function);
            }
        };
        Glance {
            barren: self.barren.load(SeqCst),
            seats: self.seats.iter().map(one).collect(),
        }
    }

    /// Does something, and tells what held meanwhile.
    pub fn during<T>(&self, act: impl FnOnce() -> T) -> (T, Interval) {
        let before = self.glance();
        let value = act();
        let after = self.glance();
        (value, Interval { before, after })
    }

    /// The present holder; certain for the thread that changes PFs.
    pub fn holder(&self, seat: usize) -> Holder {
        Holder::of(self.seats[seat].holder.load(SeqCst))
    }

    pub fn presence(&self, seat: usize) -> u64 {
        self.seats[seat].presence.load(SeqCst)
    }

    /// The PFs with this holder.
    pub fn held(&self, holder: Holder) -> Vec<usize> {
        (0..self.seats.len())
            .filter(|seat| self.holder(*seat) == holder)
            .collect()
    }

    fn note_barren(&self) {
        let usable =
            |seat: &Seat| seat.presence.load(SeqCst) % 2 == 0 && seat.holder.load(SeqCst) != 0;
        if !self.seats.iter().any(usable) {
            self.barren.fetch_add(1, SeqCst);
        }
    }

    /// Does something after which other drivers hold these PFs. A space of a shared one among
    /// them ends.
    pub fn change<T>(&self, seats: &[usize], act: impl FnOnce() -> Result<T>) -> Result<T> {
        for seat in seats {
            self.seats[*seat].presence.fetch_add(1, SeqCst);
        }
        self.note_barren();
        let result = act();
        for seat in seats {
            let seat = &self.seats[*seat];
            seat.holder.store(seat.look().number(), SeqCst);
            seat.presence.fetch_add(1, SeqCst);
        }
        self.note_barren();
        result
    }

    /// Does something that ends the transfers of a PF and leaves the rest as it is.
    pub fn disturb<T>(&self, seat: usize, act: impl FnOnce() -> Result<T>) -> Result<T> {
        self.seats[seat].function.fetch_add(1, SeqCst);
        let result = act();
        self.seats[seat].function.fetch_add(1, SeqCst);
        result
    }

    /// Takes a PF from whatever holds it.
    pub fn unbind(&self, seat: usize) -> Result<()> {
        let pf = &self.seats[seat].pf;
        self.change(&[seat], || {
            pf.want(NOBODY)?;
            pf.release()
        })
    }

    /// Has a PF, which nobody holds, owned or shared.
    pub fn bind(&self, seat: usize, holder: Holder) -> Result<()> {
        let driver = match holder {
            Holder::Nobody => return self.unbind(seat),
            Holder::Owned => OWN_DRIVER,
            Holder::Shared => HOSTDRV,
        };
        self.change(&[seat], || self.seats[seat].pf.bind(driver))
    }

    /// Has the PFs as the machine was booted.
    pub fn restore(&self, host: &Host) -> Result<()> {
        pci::rescan()?;
        for (number, seat) in self.seats.iter().enumerate() {
            let pf = &seat.pf;
            if !pf.exists() && slot::there() {
                slot::put(number, pf)?;
            }
            pf.appears()?;
            if pf.most_vfs()? > 0 && pf.count_vfs()? > 0 {
                pf.set_vfs(0)?;
            }
            let (driver, keep) = match host.pf_state {
                PfState::Owned => (Some(OWN_DRIVER), OWN_DRIVER),
                PfState::Shared => (Some(HOSTDRV), ""),
                PfState::Unbound => (None, ""),
            };
            if pf.driver().as_deref() != driver {
                pf.release()?;
                driver.map_or(Ok(()), |driver| pf.bind(driver))?;
            }
            pf.want(keep)?;
        }
        if self.loaded.load(SeqCst) && module::is_loaded(HOSTDRV) {
            module::unload(HOSTDRV)?;
        }
        Ok(())
    }
}
