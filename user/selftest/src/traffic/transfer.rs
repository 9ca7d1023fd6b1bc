// SPDX-License-Identifier: GPL-2.0
//! DMA of one thread: copies from one of its mappings to another, through any PF that
//! sees both. If nothing was done to the PF meanwhile the data must have arrived; else
//! each byte is what it was or what it was to be.

use anyhow::{bail, ensure, Context as _, Result};
use std::collections::BTreeMap;

use super::fleet::{Holder, Interval};
use super::model::{Classic, Place, User, PAGE_U64};
use super::worker::Worker;
use crate::dma::pf::{Attempt, Engine, Verdict};
use crate::host::Bdf;
use crate::mem::{fresh_bytes, Memory, PAGE};

/// The engines that a thread has opened; each is good for as long as its PF stays.
#[derive(Default)]
pub struct Engines(BTreeMap<usize, (u64, Engine)>);

impl Engines {
    /// That of a PF, or why it could not be opened.
    fn get(&mut self, seat: usize, presence: u64, pf: &Bdf) -> Result<&Engine> {
        if self
            .0
            .get(&seat)
            .is_none_or(|(opened, _)| *opened != presence)
        {
            self.0.remove(&seat);
            self.0.insert(seat, (presence, Engine::open(pf)?));
        }
        let (_, engine) = self.0.get(&seat).context("opened just now")?;
        Ok(engine)
    }
}

/// Bytes that a PF reaches: their IOVA, and where they are for this thread.
#[derive(Clone, Copy, Debug)]
struct Spot {
    iova: u64,
    length: usize,
    at: At,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// Offset in the memory for buffers.
    Memory(usize),
    /// A page.
    Page(usize),
}

impl Worker<'_> {
    fn spot_of(&self, user: &User) -> Result<Spot> {
        Ok(Spot {
            iova: user.iova,
            length: usize::try_from(user.length)?,
            at: At::Memory(self.offset(user)?),
        })
    }

    fn write(&self, at: At, data: &[u8]) {
        match at {
            At::Memory(offset) => self.memory.write(offset, data),
            At::Page(page) => self.pages[page].write(0, data),
        }
    }

    fn read(&self, at: At, length: usize) -> Vec<u8> {
        match at {
            At::Memory(offset) => self.memory.read(offset, length),
            At::Page(page) => self.pages[page].read(0, length),
        }
    }

    /// Two different mappings of this context, at random, and one length for both.
    fn two_spots(&mut self) -> Result<Option<(Spot, Spot)>> {
        let barren = self.fleet.glance().barren;
        let Some(held) = &self.held else {
            return Ok(None);
        };
        let mut spots = Vec::new();
        for user in &held.users {
            spots.push(self.spot_of(user)?);
        }
        // A shared PF behind virtio-iommu has none of them, and one that joins can lack some.
        if held.place == Place::Owned {
            let there = |classic: &&Classic| classic.surely_there(barren);
            spots.extend(held.classics.iter().filter(there).map(|classic| Spot {
                iova: classic.iova,
                length: PAGE,
                at: At::Page(classic.page),
            }));
        }
        if spots.len() < 2 {
            return Ok(None);
        }
        let first = spots.swap_remove(self.random.usize(0..spots.len()));
        let second = spots.swap_remove(self.random.usize(0..spots.len()));
        let most = first.length.min(second.length).min(2 * PAGE);
        // In whole words, as memory is looked at here.
        let length = 8 * self.random.usize(1..=most / 8);
        let cut = |spot| Spot { length, ..spot };
        Ok(Some((cut(first), cut(second))))
    }

    /// A PF that sees this context's space, as far as can be told.
    fn any_seat(&mut self) -> Option<usize> {
        match self.held.as_ref()?.place {
            Place::Nowhere => None,
            Place::Shared { seat, .. } => Some(seat),
            Place::Owned => {
                let owned = self.fleet.held(Holder::Owned);
                self.random.choice(owned)
            }
        }
    }

    /// Whether a PF saw this context's space, undisturbed, all the time.
    fn saw(&self, seat: usize, interval: &Interval) -> bool {
        let Some(held) = &self.held else {
            return false;
        };
        interval.untouched(seat)
            && match held.place {
                Place::Nowhere => false,
                Place::Owned => interval.steady(seat) == Some(Holder::Owned),
                Place::Shared { presence, .. } => interval.presence(seat) == presence,
            }
    }

    pub(super) fn transfer(&mut self) -> Result<()> {
        let Some(seat) = self.any_seat() else {
            return Ok(());
        };
        let Some((from, to)) = self.two_spots()? else {
            // The next steps map more.
            return Ok(());
        };
        let (sent, old) = (fresh_bytes(from.length), fresh_bytes(to.length));
        self.write(from.at, &sent);
        self.write(to.at, &old);
        let length = u64::try_from(from.length)?;
        let (attempt, interval) = self.run(seat, from.iova, to.iova, length)?;
        let found = self.read(to.at, to.length);
        if self.saw(seat, &interval) {
            let Some(Attempt::Ended(Verdict::Done)) = attempt else {
                bail!("a transfer from {from:x?} to {to:x?} was {attempt:x?}, {interval:x?}");
            };
            ensure!(
                found == sent,
                "the PF was to copy {length} bytes from {from:x?} to {to:x?}, and {}",
                match (0..found.len()).find(|at| found[*at] != sent[*at]) {
                    _ if found == old => "none came".to_owned(),
                    Some(at) => format!("from the {at}th on others came"),
                    None => "too few came".to_owned(),
                }
            );
            self.done.transfers += 1;
        } else {
            let known = |at: usize| found[at] == sent[at] || found[at] == old[at];
            ensure!(
                (0..to.length).all(known),
                "a transfer from {from:x?} to {to:x?} through a PF that may be gone wrote \
                 something else"
            );
            self.done.disturbed += 1;
        }
        Ok(())
    }

    /// Has a PF copy; nothing if it cannot be driven now.
    fn run(
        &mut self,
        seat: usize,
        from: u64,
        to: u64,
        length: u64,
    ) -> Result<(Option<Attempt>, Interval)> {
        let fleet = self.fleet;
        let chair = &fleet.seats[seat];
        let _mine = chair
            .engine
            .lock()
            .ok()
            .context("another thread panicked")?;
        let engines = &mut self.engines;
        let (attempt, interval) = fleet.during(|| {
            let engine = engines.get(seat, fleet.presence(seat), &chair.pf)?;
            anyhow::Ok(engine.try_copy(from, to, length))
        });
        match attempt {
            Ok(attempt) => Ok((Some(attempt), interval)),
            // A PF that nobody holds may not even be there.
            Err(error)
                if interval.untouched(seat) && interval.steady(seat) != Some(Holder::Nobody) =>
            {
                Err(error.context(format!("cannot drive {}", chair.pf.0)))
            }
            Err(_) => Ok((None, interval)),
        }
    }

    /// Where nothing is mapped, in the part of the space that is this thread's alone, the PF is
    /// refused.
    pub(super) fn refused(&mut self) -> Result<()> {
        let Some(seat) = self.any_seat() else {
            return Ok(());
        };
        let Some((_, to)) = self.two_spots()? else {
            return Ok(());
        };
        let start = self.window;
        let held = self.held()?;
        let used = |iova: u64| {
            let pages = held.classics.iter().map(Classic::range);
            let users = held.users.iter().map(User::range);
            pages
                .chain(users)
                .any(|(first, bytes)| (first..first + bytes).contains(&iova))
        };
        let free: Vec<u64> = (0..12)
            .map(|page| start + page * PAGE_U64)
            .filter(|iova| !used(*iova))
            .collect();
        let Some(iova) = self.random.choice(free) else {
            return Ok(());
        };
        let old = fresh_bytes(to.length);
        self.write(to.at, &old);
        let (attempt, interval) = self.run(seat, iova, to.iova, u64::try_from(to.length)?)?;
        ensure!(
            self.read(to.at, to.length) == old,
            "a transfer from {iova:#x}, where nothing is mapped, wrote something"
        );
        if self.saw(seat, &interval) {
            ensure!(
                attempt == Some(Attempt::Ended(Verdict::SourceFault(iova))),
                "a transfer from {iova:#x}, where nothing is mapped, was {attempt:x?}"
            );
            self.done.refused += 1;
        }
        Ok(())
    }
}
