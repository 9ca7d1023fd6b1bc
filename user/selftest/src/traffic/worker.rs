// SPDX-License-Identifier: GPL-2.0
//! One thread: a step is one thing done through its context, chosen at random, and
//! checked against what the PFs were at that moment.
//!
//! An answer of ENODEV is right only if the PF could be gone; a buffer in the owned
//! space is there until it is unmapped, whatever happens to the PFs; what a shared PF
//! had is gone with it, and its context then says ENODEV and can choose another space.

use anyhow::{bail, ensure, Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ops::Add;
use std::time::Duration;

use super::fleet::{Fleet, Holder, Interval};
use super::model::{Classic, Held, Life, Place, User, PAGE_U64};
use super::transfer::Engines;
use crate::abi::{size_of, Context};
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::{Host, Iommu};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::spawn;

/// Buffers of programs that a thread can have mapped at once, and their largest size in pages.
const SLOTS: usize = 24;
const SLOT_PAGES: usize = 4;
/// Pages that it can map by physical address; and places for buffers at an IOVA of its choice.
const PAGES: usize = 6;
const FIXED: usize = 6;
/// How many places it remembers at which something was mapped once.
const GRAVES: usize = 32;

/// How often things were done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub maps: u64,
    pub unmaps: u64,
    pub batches: u64,
    pub lookups: u64,
    /// Transfers of which the data was compared.
    pub transfers: u64,
    /// Transfers while something was done to their PF.
    pub disturbed: u64,
    /// Transfers that had to be refused.
    pub refused: u64,
    /// Answers of ENODEV.
    pub without_pf: u64,
    /// Spaces that ended under a context.
    pub bereaved: u64,
    /// Spaces chosen.
    pub chosen: u64,
}

impl Add<Done> for Done {
    type Output = Done;

    fn add(self, other: Done) -> Done {
        Done {
            maps: self.maps + other.maps,
            unmaps: self.unmaps + other.unmaps,
            batches: self.batches + other.batches,
            lookups: self.lookups + other.lookups,
            transfers: self.transfers + other.transfers,
            disturbed: self.disturbed + other.disturbed,
            refused: self.refused + other.refused,
            without_pf: self.without_pf + other.without_pf,
            bereaved: self.bereaved + other.bereaved,
            chosen: self.chosen + other.chosen,
        }
    }
}

pub struct Worker<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) host: &'a Host,
    number: usize,
    steps: u64,
    pub(super) random: fastrand::Rng,
    /// What its buffers are parts of.
    pub(super) memory: UserMemory,
    pub(super) pages: Vec<Buffer>,
    /// IOVAs that no other thread uses: for its pages, and then for buffers of its choice.
    pub(super) window: u64,
    pub(super) held: Option<Held>,
    /// Where something was mapped once, the latest last.
    pub(super) graves: VecDeque<u64>,
    pub(super) engines: Engines,
    pub(super) done: Done,
}

/// Whether the space of a context could be mapped in during the whole interval.
fn usable_surely(place: Place, interval: &Interval) -> bool {
    match place {
        Place::Nowhere => false,
        Place::Owned => interval.owned_surely(),
        Place::Shared { seat, presence } => {
            interval.steady(seat) == Some(Holder::Shared) && interval.presence(seat) == presence
        }
    }
}

impl<'a> Worker<'a> {
    pub fn new(host: &'a Host, fleet: &'a Fleet, number: usize, seed: u64) -> Result<Self> {
        let memory = UserMemory::scattered(SLOTS * SLOT_PAGES * PAGE)?;
        memory.touch();
        Ok(Self {
            fleet,
            host,
            number,
            steps: 0,
            random: fastrand::Rng::with_seed(seed ^ (number as u64 + 1)),
            memory,
            pages: (0..PAGES).map(|_| Buffer::page()).collect::<Result<_>>()?,
            window: fresh_iova(PAGES + FIXED * SLOT_PAGES),
            held: None,
            graves: VecDeque::new(),
            engines: Engines::default(),
            done: Done::default(),
        })
    }

    pub fn number(&self) -> usize {
        self.number
    }

    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub fn done(&self) -> Done {
        self.done
    }

    /// Closes its context; everything that it held goes.
    pub fn close(&mut self) {
        self.bury();
        spawn::close(self.held.take());
    }

    /// Remembers where buffers are that go.
    fn bury(&mut self) {
        let users = self.held.iter().flat_map(|held| &held.users);
        self.graves.extend(users.map(|user| user.range().0));
        let excess = self.graves.len().saturating_sub(GRAVES);
        self.graves.drain(..excess);
    }

    /// Between two things that are done to PFs: forgets what went with a shared PF, and undoes
    /// what may or may not have gone.
    pub fn settle(&mut self) -> Result<()> {
        let barren = self.fleet.glance().barren;
        self.bury();
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        if let Place::Shared { seat, presence } = held.place {
            if self.fleet.presence(seat) != presence {
                held.users.clear();
            }
        }
        let (kept, doubtful) = held
            .classics
            .drain(..)
            .partition(|classic| classic.surely_there(barren));
        held.classics = kept;
        for classic in doubtful {
            let answer = held.context.unmap(classic.iova, PAGE_U64);
            if !matches!(answer, Ok(()) | Err(Errno::NOENT | Errno::NODEV)) {
                expect::succeeds("unmap of a page that may be gone", answer)?;
            }
        }
        Ok(())
    }

    pub fn step(&mut self) -> Result<()> {
        self.steps += 1;
        let Some(held) = &self.held else {
            self.held = Some(Held::new(Context::open()?));
            return Ok(());
        };
        match held.place {
            Place::Nowhere => return self.choose(),
            Place::Shared { seat, presence } if self.fleet.presence(seat) != presence => {
                return self.bereaved(seat);
            }
            _ => {}
        }
        match self.random.u32(0..100) {
            0..20 => self.map(),
            20..27 => self.map_fixed(),
            27..34 => self.map_page(),
            34..40 => self.map_batch(),
            40..58 => self.unmap(),
            58..62 => self.unmap_batch(),
            62..68 => self.list(),
            68..76 => self.look_up(),
            76..92 => self.transfer(),
            92..95 => self.refused(),
            95..99 => self.leave(),
            _ => {
                self.close();
                Ok(())
            }
        }
    }

    pub(super) fn held(&mut self) -> Result<&mut Held> {
        self.held.as_mut().context("no context")
    }

    /// A buffer that is not mapped.
    fn free_buffer(&mut self) -> Option<(usize, u64, u64)> {
        let users = &self.held.as_ref()?.users;
        let free: Vec<usize> = (0..SLOTS)
            .filter(|slot| users.iter().all(|user| user.slot != *slot))
            .collect();
        let slot = *self.random.choice(&free)?;
        let room = SLOT_PAGES * PAGE;
        // Half of them whole pages, half anything.
        let (offset, length) = if self.random.bool() {
            (0, PAGE * self.random.usize(1..=SLOT_PAGES))
        } else {
            let offset = self.random.usize(0..PAGE / 8) * 8;
            (offset, self.random.usize(8..=room - offset))
        };
        let va = self.memory.va() + u64::try_from(slot * room + offset).ok()?;
        Some((slot, va, u64::try_from(length).ok()?))
    }

    /// What a map that was answered like this has mapped.
    fn mapped<T>(
        &mut self,
        what: &str,
        answer: Result<T, Errno>,
        interval: &Interval,
    ) -> Result<Option<T>> {
        let place = self.held()?.place;
        match answer {
            Err(Errno::NODEV) if !usable_surely(place, interval) => {
                self.done.without_pf += 1;
                Ok(None)
            }
            answer => {
                let value = expect::succeeds(what, answer)
                    .with_context(|| format!("in {place:?}, {interval:x?}"))?;
                self.done.maps += 1;
                Ok(Some(value))
            }
        }
    }

    fn map(&mut self) -> Result<()> {
        let Some((slot, va, length)) = self.free_buffer() else {
            return self.unmap_batch();
        };
        let aligned = self.random.u8(0..4) == 0;
        let fleet = self.fleet;
        let context = &self.held()?.context;
        let (answer, interval) = fleet.during(|| match aligned {
            true => context.map_user_aligned(va, length, 0x8000),
            false => context.map_user(va, length),
        });
        if let Some(iova) = self.mapped("map", answer, &interval)? {
            let user = User {
                slot,
                va,
                length,
                iova,
            };
            ensure!(
                !aligned || user.range().0 % 0x8000 == 0,
                "an alignment was asked for, and the buffer is at {iova:#x}"
            );
            self.held()?.users.push(user);
        }
        Ok(())
    }

    /// Whether ranges at an IOVA of one's choice can be had in a space.
    fn takes_fixed(&self, place: Place) -> bool {
        place == Place::Owned || self.host.iommu != Iommu::Virtio
    }

    fn map_fixed(&mut self) -> Result<()> {
        let number = self.random.usize(0..FIXED);
        let first = self.window + ((PAGES + number * SLOT_PAGES) as u64) * PAGE_U64;
        let Some((slot, va, length)) = self.free_buffer() else {
            return Ok(());
        };
        let held = self.held()?;
        let place = held.place;
        let taken = held.users.iter().any(|user| user.range().0 == first);
        if !self.takes_fixed(place) {
            return Ok(());
        }
        let iova = first | (va & (PAGE_U64 - 1));
        let fleet = self.fleet;
        let context = &self.held()?.context;
        let (answer, interval) = fleet.during(|| context.map_user_at(va, length, iova));
        if taken {
            // What is there is this context's own, and stays.
            if usable_surely(place, &interval) {
                expect::fails("map where something is", answer, Errno::EXIST)?;
            }
            return Ok(());
        }
        if let Some(iova) = self.mapped("map at an IOVA", answer, &interval)? {
            let user = User {
                slot,
                va,
                length,
                iova,
            };
            self.held()?.users.push(user);
        }
        Ok(())
    }

    fn map_page(&mut self) -> Result<()> {
        let page = self.random.usize(0..PAGES);
        let iova = self.window + page as u64 * PAGE_U64;
        let phys = self.pages[page].phys();
        let virtio = self.host.iommu == Iommu::Virtio;
        let fleet = self.fleet;
        let held = self.held()?;
        if held.classics.iter().any(|classic| classic.page == page) {
            return self.unmap();
        }
        let context = &held.context;
        let (answer, interval) = fleet.during(|| context.map(phys, iova, PAGE_U64));
        let life = match answer {
            Ok(_) if virtio || interval.owned_surely() => Life::Long,
            Ok(_) if interval.usable_surely() => Life::Until(interval.before.barren),
            Ok(_) => Life::Doubtful,
            Err(Errno::OPNOTSUPP) if virtio && interval.shared_perhaps() => return Ok(()),
            Err(Errno::NODEV) if !interval.usable_surely() => {
                self.done.without_pf += 1;
                return Ok(());
            }
            Err(_) => {
                return expect::succeeds("map of a page", answer.map(|_| ()))
                    .with_context(|| format!("{interval:x?}"))
            }
        };
        held.classics.push(Classic { page, iova, life });
        self.done.maps += 1;
        Ok(())
    }

    fn map_batch(&mut self) -> Result<()> {
        let mut chosen: Vec<(usize, u64, u64)> = Vec::new();
        for _ in 0..self.random.usize(2..8) {
            match self.free_buffer() {
                Some(buffer) if chosen.iter().all(|(slot, ..)| *slot != buffer.0) => {
                    chosen.push(buffer);
                }
                _ => {}
            }
        }
        let places: Vec<_> = chosen
            .iter()
            .map(|(_, va, length)| (*va, *length))
            .collect();
        let fleet = self.fleet;
        let context = &self.held()?.context;
        let (answer, interval) = fleet.during(|| context.map_batch(&places));
        let answer = answer.map_err(|refused| refused.error);
        if let Some(iovas) = self.mapped("map of a batch", answer, &interval)? {
            self.done.batches += 1;
            let users = chosen
                .into_iter()
                .zip(iovas)
                .map(|((slot, va, length), iova)| User {
                    slot,
                    va,
                    length,
                    iova,
                });
            self.held()?.users.extend(users);
        }
        Ok(())
    }

    /// What an unmap that was answered like this has done; `false` if the space has ended.
    fn unmapped(&mut self, answer: Result<(), Errno>, interval: &Interval) -> Result<bool> {
        let place = self.held()?.place;
        let ending = matches!(place, Place::Shared { .. }) && !usable_surely(place, interval);
        match answer {
            // The next step sees it.
            Err(Errno::NODEV) if ending => {
                self.done.without_pf += 1;
                Ok(false)
            }
            answer => {
                expect::succeeds("unmap", answer)
                    .with_context(|| format!("in {place:?}, {interval:x?}"))?;
                self.done.unmaps += 1;
                Ok(true)
            }
        }
    }

    fn unmap(&mut self) -> Result<()> {
        let by_address = self.random.bool();
        let (users, classics) = (self.held()?.users.len(), self.held()?.classics.len());
        if users + classics == 0 {
            return Ok(());
        }
        let index = self.random.usize(0..users + classics);
        if index >= users {
            return self.unmap_page(index - users);
        }
        let fleet = self.fleet;
        let held = self.held()?;
        let user = held.users.swap_remove(index);
        let context = &held.context;
        let (answer, interval) = fleet.during(|| match by_address {
            true => context.unmap_user(user.va, user.length),
            false => context.unmap(user.iova, user.length),
        });
        self.graves.push_back(user.range().0);
        self.unmapped(answer, &interval)?;
        Ok(())
    }

    fn unmap_page(&mut self, index: usize) -> Result<()> {
        let fleet = self.fleet;
        let held = self.held()?;
        let classic = held.classics.swap_remove(index);
        let context = &held.context;
        let (answer, interval) = fleet.during(|| context.unmap(classic.iova, PAGE_U64));
        self.done.unmaps += 1;
        match answer {
            Err(Errno::NOENT | Errno::NODEV) if !classic.surely_there(interval.after.barren) => {
                Ok(())
            }
            answer => expect::succeeds("unmap of a page", answer)
                .with_context(|| format!("{classic:x?}, {interval:x?}")),
        }
    }

    fn unmap_batch(&mut self) -> Result<()> {
        self.bury();
        let keep = self.random.usize(0..SLOTS);
        let fleet = self.fleet;
        let held = self.held()?;
        let keep = keep.min(held.users.len());
        let users: Vec<User> = held.users.drain(keep..).collect();
        let ranges: Vec<_> = users.iter().map(|user| (user.iova, user.length)).collect();
        let context = &held.context;
        let (answer, interval) = fleet.during(|| context.unmap_batch(&ranges));
        self.unmapped(answer.map_err(|refused| refused.error), &interval)?;
        self.done.batches += 1;
        Ok(())
    }

    /// The context's own list is what the thread has mapped, no more and no less.
    pub(super) fn list(&mut self) -> Result<()> {
        let fleet = self.fleet;
        let held = self.held()?;
        let (answer, interval) = fleet.during(|| held.context.mappings());
        if held.place != Place::Owned && !usable_surely(held.place, &interval) {
            return Ok(());
        }
        let (users, pages): (Vec<_>, Vec<_>) = expect::succeeds("QUERY", answer)?
            .into_iter()
            .partition(|found| found.kind == uapi::QAT_IOMMU_QUERY_USER);
        let mut found: Vec<_> = users.iter().map(|one| (one.iova, one.length)).collect();
        let mut want: Vec<_> = held.users.iter().map(User::range).collect();
        found.sort_unstable();
        want.sort_unstable();
        ensure!(
            found == want,
            "QUERY lists the buffers {found:x?}, mapped are {want:x?}"
        );
        for page in pages {
            let range = (page.iova, page.length);
            ensure!(
                held.classics.iter().any(|classic| classic.range() == range),
                "QUERY lists the page {range:x?}, which is not mapped"
            );
        }
        self.done.lookups += 1;
        Ok(())
    }

    /// Any byte of a mapped buffer leads to it.
    fn look_up(&mut self) -> Result<()> {
        let fleet = self.fleet;
        let users = self.held()?.users.len();
        if users == 0 {
            return Ok(());
        }
        let index = self.random.usize(0..users);
        let offset = self.random.u64(..);
        let held = self.held()?;
        let user = &held.users[index];
        let at = user.iova + offset % user.length;
        let (answer, interval) = fleet.during(|| held.context.query(at));
        if held.place != Place::Owned && !usable_surely(held.place, &interval) {
            return Ok(());
        }
        let found = expect::succeeds("QUERY of a buffer", answer)?;
        expect::equal(
            "QUERY of a buffer",
            (found.iova, found.length),
            user.range(),
        )?;
        self.done.lookups += 1;
        Ok(())
    }

    /// Gives up its buffers, or not, and chooses another space.
    fn leave(&mut self) -> Result<()> {
        if self.random.u8(0..4) != 0 {
            let fleet = self.fleet;
            let held = self.held()?;
            let users: Vec<User> = held.users.drain(..).collect();
            let ranges: Vec<_> = users.iter().map(|user| (user.iova, user.length)).collect();
            let (answer, interval) = fleet.during(|| held.context.unmap_batch(&ranges));
            if !self.unmapped(answer.map_err(|refused| refused.error), &interval)? {
                return Ok(());
            }
        }
        self.choose()
    }

    fn choose(&mut self) -> Result<()> {
        let fleet = self.fleet;
        let seat = self.random.usize(0..fleet.seats.len());
        let (segment, bus, device, function) = fleet.seats[seat].pf.numbers()?;
        let mut request = uapi::qat_iommu_attach {
            size: size_of::<uapi::qat_iommu_attach>(),
            segment,
            bus,
            device,
            function,
            ..Default::default()
        };
        let held = self.held()?;
        let context = &held.context;
        let (answer, interval) =
            fleet.during(|| context.ioctl(uapi::QAT_IOMMU_ATTACH, &mut request));
        let presence = interval.presence(seat);
        let wanted = match interval.steady(seat) {
            Some(Holder::Owned) => Place::Owned,
            Some(Holder::Shared) => Place::Shared { seat, presence },
            Some(Holder::Nobody) => {
                self.done.without_pf += 1;
                // Whoever brings one needs the processor more.
                std::thread::sleep(Duration::from_millis(1));
                return expect::fails("ATTACH to a PF that is not usable", answer, Errno::NODEV);
            }
            None => {
                // It may have come or gone before or after.
                match answer {
                    Ok(()) => self.close(),
                    Err(Errno::NODEV | Errno::BUSY) => {}
                    answer => expect::succeeds("ATTACH", answer)?,
                }
                return Ok(());
            }
        };
        let busy = !held.users.is_empty() && held.place != wanted;
        match held.place {
            Place::Shared { seat, presence } if fleet.presence(seat) != presence => {
                // The space that it leaves ends at the moment.
                if answer.is_ok() {
                    self.close();
                }
                return Ok(());
            }
            _ if busy => return expect::fails("ATTACH with buffers", answer, Errno::BUSY),
            _ => {}
        }
        expect::succeeds("ATTACH", answer).with_context(|| format!("{interval:x?}"))?;
        held.place = wanted;
        self.done.chosen += 1;
        Ok(())
    }

    /// The space of this context ends, or has ended, with its shared PF.
    fn bereaved(&mut self, seat: usize) -> Result<()> {
        let buffer = self.free_buffer();
        let fleet = self.fleet;
        let held = self.held()?;
        if fleet.presence(seat) % 2 != 0 {
            // Just now. Whatever is mapped goes, or does not come.
            if let Some((_, va, length)) = buffer {
                let answer = held.context.map_user(va, length);
                if !matches!(answer, Ok(_) | Err(Errno::NODEV)) {
                    expect::succeeds("map in a space that ends", answer)?;
                }
            }
            return Ok(());
        }
        let gone = |what: &str, answer: Result<(), Errno>| {
            let what = format!("{what} in a space that has ended");
            expect::fails(&what, answer, Errno::NODEV)
        };
        let context = &held.context;
        if let Some((_, va, length)) = buffer {
            gone("map", context.map_user(va, length).map(|_| ()))?;
            let batch = context.map_batch(&[(va, length)]);
            gone("batch", batch.map(|_| ()).map_err(|refused| refused.error))?;
        }
        gone("QUERY", context.query(0).map(|_| ()))?;
        if let Some(user) = held.users.pop() {
            gone("unmap by address", context.unmap_user(user.va, user.length))?;
        }
        if let Some(user) = held.users.pop() {
            gone("unmap", context.unmap(user.iova, user.length))?;
        }
        if let Some(user) = held.users.pop() {
            let batch = context.unmap_batch(&[(user.iova, user.length)]);
            gone("batch of unmaps", batch.map_err(|refused| refused.error))?;
        }
        held.users.clear();
        held.place = Place::Nowhere;
        self.done.bereaved += 1;
        if self.random.u8(0..4) == 0 {
            self.close();
        }
        Ok(())
    }

    /// Where a buffer is in the thread's memory.
    pub(super) fn offset(&self, user: &User) -> Result<usize> {
        match user.va.checked_sub(self.memory.va()) {
            Some(offset) => Ok(usize::try_from(offset)?),
            None => bail!("a buffer that is not this thread's"),
        }
    }
}
