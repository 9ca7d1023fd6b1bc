// SPDX-License-Identifier: GPL-2.0
//! One worker: it plays operations through contexts of its own and holds each answer against
//! the model. Contexts share one IOVA space and nothing else, so what a worker must get
//! does not depend on the others: each has a zone of IOVAs to itself, and where it goes
//! beyond that the answers that others can cause are allowed for.
//!
//! `batches`, `requests` and `look` are the parts of it that deal in batches, in malformed
//! requests and descriptors, and in DMA.

use anyhow::{bail, ensure, Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;
use std::collections::VecDeque;

use super::model::{pages, Backing, Mapping, Rules, PAGE};
use super::ops::{At, Attach, Buffer, Op, PhysOdd, Place, Step, UnmapOdd};
use super::place::{self, Facts, Places, PHYS};
use super::shared::{Count, Listed, Shared};
use crate::abi::{self, user, Context, EdgePage, BOTH, WRITE};
use crate::dma::pf::Engine;
use crate::expect;
use crate::spawn;

/// Contexts of a worker.
const CONTEXTS: usize = 4;
/// How many places it remembers at which something was mapped once.
const GRAVES: usize = 16;

const FIXED: u32 = uapi::QAT_IOMMU_MAP_FIXED;
const FORCE: u32 = uapi::QAT_IOMMU_UNMAP_FORCE;

/// One worker.
pub struct Player<'a> {
    pub(super) number: usize,
    pub(super) facts: &'a Facts,
    pub(super) shared: &'a Shared,
    /// Through which places are contended for that all workers want.
    pub(super) common: &'a Context,
    pub(super) engine: Engine,
    pub(super) places: Places,
    pub(super) contexts: [Option<Context>; CONTEXTS],
    pub(super) live: Vec<Mapping>,
    /// Where something was mapped in its zone.
    pub(super) graves: VecDeque<u64>,
    sequence: u64,
    /// The PF is away.
    pub(super) away: bool,
    pub(super) edge: EdgePage,
}

/// What an answer may be said to be about; only made for a report.
pub(super) type What<'a> = &'a dyn Fn() -> String;

impl<'a> Player<'a> {
    pub fn new(
        number: usize,
        facts: &'a Facts,
        shared: &'a Shared,
        common: &'a Context,
    ) -> Result<Self> {
        Ok(Self {
            number,
            facts,
            shared,
            common,
            engine: Engine::open(&facts.bdf())?,
            places: Places::new(number, facts)?,
            contexts: Default::default(),
            live: Vec::new(),
            graves: VecDeque::new(),
            sequence: 0,
            away: false,
            edge: EdgePage::new()?,
        })
    }

    /// Plays one step.
    pub fn play(&mut self, step: &Step) -> Result<()> {
        self.shared.add(Count::Operations, 1);
        self.op(&step.op)?;
        match step.check {
            Some(check) if !self.away => self.look(check),
            _ => Ok(()),
        }
    }

    fn op(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::MapUser {
                ctx,
                buffer,
                flags,
                place,
            } => self.map_user(*ctx, buffer, *flags, place),
            Op::MapPhys {
                ctx,
                page,
                pages,
                flags,
                slot,
                odd,
            } => self.map_phys(*ctx, (*page, *pages), *flags, *slot, odd),
            Op::Unmap { target, odd } => self.unmap(*target, odd),
            Op::UnmapUser { target, odd } => self.unmap_user(*target, odd),
            Op::MapBatch {
                ctx,
                buffers,
                flags,
                alignment,
                odd,
            } => self.map_batch(*ctx, buffers, *flags, *alignment, odd),
            Op::UnmapBatch { target, count, odd } => self.unmap_batch(*target, *count, odd),
            Op::Query { ctx, at } => self.query(*ctx, at),
            Op::List { ctx } => self.list(*ctx),
            Op::Info { ctx, pfs, ranges } => self.info(*ctx, *pfs, *ranges),
            Op::Attach { ctx, how } => self.attach(*ctx, how),
            Op::Malformed {
                ctx,
                command,
                shape,
            } => self.malformed(*ctx, *command, shape),
            Op::Unknown { ctx, command } => self.unknown(*ctx, *command),
            Op::Close { ctx } => {
                self.close(usize::from(*ctx) % CONTEXTS);
                Ok(())
            }
            Op::Duplicate { ctx } => self.duplicate(*ctx),
            Op::Pass { ctx } => self.pass(*ctx),
            Op::Fork {
                target,
                act,
                page,
                slot,
            } => self.fork(*target, *act, *page, *slot),
            Op::Contend { slot, map } => self.contend(usize::from(*slot), *map),
        }
    }

    /// The number of a context, which is open then.
    pub(super) fn open(&mut self, ctx: u8) -> Result<usize> {
        let index = usize::from(ctx) % CONTEXTS;
        if self.contexts[index].is_none() {
            self.contexts[index] = Some(Context::open()?);
        }
        Ok(index)
    }

    pub(super) fn context(&self, index: usize) -> Result<&Context> {
        self.contexts[index].as_ref().context("the context is open")
    }

    /// Makes an ioctl.
    pub(super) fn ioctl<T>(
        &self,
        index: usize,
        command: u32,
        request: &mut T,
    ) -> Result<Result<(), Errno>> {
        Ok(self.context(index)?.ioctl(command, request))
    }

    /// Whether a call succeeded, which is as the rules say.
    pub(super) fn judge(
        &self,
        what: What<'_>,
        got: Result<(), Errno>,
        rules: &Rules,
    ) -> Result<bool> {
        let errno = got.err().map_or(0, Errno::raw_os_error);
        self.shared.answered(errno);
        match got {
            Ok(()) if rules.broken.is_empty() => Ok(true),
            Err(error) if rules.broken.contains(&error) || rules.perhaps.contains(&error) => {
                Ok(false)
            }
            got => bail!(
                "{}: expected {}, got {}",
                what(),
                rules,
                got.map_or_else(expect::name, |()| "success".to_owned())
            ),
        }
    }

    /// One of the live mappings.
    pub(super) fn pick(&self, target: u16) -> Option<Mapping> {
        let index = usize::from(target).checked_rem(self.live.len())?;
        self.live.get(index).copied()
    }

    pub(super) fn record(
        &mut self,
        ctx: usize,
        span: (u64, u64),
        flags: u32,
        backing: Backing,
    ) -> Mapping {
        self.sequence += 1;
        let mapping = Mapping {
            ctx,
            first: span.0,
            length: span.1 - span.0 + 1,
            flags: flags & BOTH,
            sequence: self.sequence,
            backing,
        };
        self.live.push(mapping);
        mapping
    }

    /// Forgets a mapping.
    pub(super) fn forget(&mut self, gone: &Mapping) {
        self.live.retain(|one| one.sequence != gone.sequence);
        if place::is_zone(self.number, gone.first) {
            self.graves.push_front(gone.first);
            self.graves.truncate(GRAVES);
        }
    }

    /// The rules for the memory of a buffer.
    pub(super) fn memory_rules(&self, rules: &mut Rules, va: u64, length: u64, flags: u32) {
        rules.bytes(va, length);
        if let Some((first, last)) = pages(va, length) {
            let (read, write) = self.places.access(first, last);
            rules.rule(!read || (flags & WRITE != 0 && !write), Errno::FAULT);
            // As many bytes as there are numbers: rounded to pages, the length wraps.
            rules.rule(last - first == u64::MAX, Errno::OVERFLOW);
            // Enough to be beyond every limit.
            rules.perhaps((last - first) >> 40 != 0, Errno::NOMEM);
        }
    }

    pub(super) fn alignment_rules(rules: &mut Rules, alignment: u64) {
        let good = alignment.is_power_of_two() && alignment >= PAGE;
        rules
            .rule(alignment != 0 && !good, Errno::INVAL)
            .rule(good && alignment >> 47 != 0, Errno::NOSPC);
    }

    /// An IOVA that the kernel chose is a good one.
    pub(super) fn chosen(
        &self,
        iova: u64,
        va: u64,
        length: u64,
        alignment: u64,
    ) -> Result<(u64, u64)> {
        let span = pages(iova, length).context("the IOVA wraps")?;
        let mut rules = Rules::default();
        rules.fixed(self.facts, &self.live, iova, length);
        let shared = self.facts.shared && span.0 < 1 << 32;
        ensure!(
            iova % PAGE == va % PAGE
                && span.0 % alignment.max(PAGE) == 0
                && (rules.broken.is_empty() || shared && rules.broken == [Errno::ADDRNOTAVAIL])
                && span.1 >> 48 == 0,
            "the kernel chose {iova:#x} for {length:#x} bytes at {va:#x}, alignment {alignment:#x}; where others are: {rules}"
        );
        Ok(span)
    }

    fn map_user(&mut self, ctx: u8, buffer: &Buffer, flags: u32, place: &Place) -> Result<()> {
        let ctx = self.open(ctx)?;
        let (va, length) = self.places.find(buffer);
        let mut request = user::map_request(va, length);
        request.flags = flags;
        let mut rules = Rules::default();
        rules.access(flags, 0).rule(self.away, Errno::NODEV);
        self.memory_rules(&mut rules, va, length, flags);
        let at = |page: u64| page.wrapping_add(va % PAGE);
        let iova = match *place {
            Place::Any { alignment } => {
                request.alignment = alignment;
                Self::alignment_rules(&mut rules, alignment);
                None
            }
            Place::Slot(slot) => Some(at(place::slot(self.number, slot))),
            Place::On(target, by) => {
                let first = self.pick(target).map_or(0, |live| live.first);
                rules.perhaps(true, Errno::EXIST);
                Some(at(first.wrapping_add_signed(i64::from(by) * PAGE as i64)))
            }
            Place::Wild(iova) => {
                rules.perhaps(true, Errno::EXIST);
                Some(iova)
            }
            Place::Contradictory {
                slot,
                alignment,
                skew,
            } => {
                request.alignment = alignment;
                rules.rule(alignment != 0, Errno::INVAL);
                Some(place::slot(self.number, slot) + u64::from(skew))
            }
        };
        if let Some(iova) = iova {
            request.flags |= FIXED;
            request.iova = iova;
            rules.rule(iova % PAGE != va % PAGE, Errno::INVAL).fixed(
                self.facts,
                &self.live,
                iova & !(PAGE - 1),
                pages(va, length).map_or(0, |(first, last)| (last - first).wrapping_add(1)),
            );
        }
        let asked = request;
        let got = self.ioctl(ctx, uapi::QAT_IOMMU_MAP_USER, &mut request)?;
        if self.judge(&|| format!("{asked:x?}"), got, &rules)? {
            let span = match iova {
                None => self.chosen(request.iova, va, length, request.alignment)?,
                Some(iova) => {
                    ensure!(
                        request.iova == iova,
                        "mapped at {:#x}, not {iova:#x}",
                        request.iova
                    );
                    pages(iova, length).context("the IOVA wraps")?
                }
            };
            let here = true;
            self.record(ctx, span, flags, Backing::User { va, length, here });
            self.shared.add(Count::Maps, 1);
        }
        Ok(())
    }

    fn map_phys(
        &mut self,
        ctx: u8,
        (page, count): (u8, u8),
        flags: u32,
        slot: u16,
        odd: &PhysOdd,
    ) -> Result<()> {
        let ctx = self.open(ctx)?;
        let page = usize::from(page) % PHYS;
        let count = usize::from(count).clamp(1, PHYS - page);
        let mut phys = self.places.phys.phys() + page as u64 * PAGE;
        let mut iova = place::slot(self.number, slot);
        let mut length = count as u64 * PAGE;
        let mut rules = Rules::default();
        match *odd {
            PhysOdd::None => {}
            PhysOdd::Short(by) => length -= u64::from(by) % PAGE,
            PhysOdd::Misaligned {
                phys: by,
                iova: also,
            } => {
                phys += u64::from(by);
                iova += u64::from(also);
            }
            PhysOdd::Phys(value) => phys = value,
            PhysOdd::Iova(value) => {
                iova = value;
                rules.perhaps(true, Errno::EXIST);
            }
            PhysOdd::Length(value) => length = value,
            PhysOdd::On(target, by) => {
                let first = self.pick(target).map_or(0, |live| live.first);
                iova = first.wrapping_add_signed(i64::from(by) * PAGE as i64);
                rules.perhaps(true, Errno::EXIST);
            }
        }
        rules
            .access(flags, 0)
            .rule(self.away, Errno::NODEV)
            .rule(phys % PAGE != 0 || iova % PAGE != 0, Errno::INVAL)
            .bytes(phys, length)
            .rule(length > u64::MAX - (PAGE - 1), Errno::OVERFLOW)
            .physical(self.facts, phys, length)
            .fixed(self.facts, &self.live, iova, length);
        let mut request = abi::map_request(phys, iova, length);
        request.flags = flags;
        let asked = request;
        let got = self.ioctl(ctx, uapi::QAT_IOMMU_MAP_PHYS, &mut request)?;
        if self.judge(&|| format!("{asked:x?}"), got, &rules)? {
            let span = pages(iova, length).context("mapped, and it wraps")?;
            let mapped = span.1 - span.0 + 1;
            ensure!(
                request.mapped == mapped,
                "mapped {:#x} bytes of {mapped:#x}",
                request.mapped
            );
            let own = phys.wrapping_sub(self.places.phys.phys()) / PAGE;
            let page = usize::try_from(own).ok().filter(|page| *page < PHYS);
            self.record(ctx, span, flags, Backing::Phys { phys, page });
            self.shared.add(Count::Maps, 1);
        }
        Ok(())
    }

    /// Spoils what names a mapping: address, length and flags.
    fn spoil(odd: &UnmapOdd, address: u64, length: u64) -> (u64, u64, u32) {
        match *odd {
            UnmapOdd::None | UnmapOdd::Foreign(_) => (address, length, 0),
            UnmapOdd::Rounded => match pages(address, length) {
                Some((first, last)) => (first, last - first + 1, 0),
                None => (address, length, 0),
            },
            UnmapOdd::Longer(by) => (address, length.wrapping_add(by.into()), 0),
            UnmapOdd::Shorter(by) => (address, length.saturating_sub(by.into()), 0),
            UnmapOdd::Shifted(by) => (address.wrapping_add_signed(by.into()), length, 0),
            UnmapOdd::Length(length) => (address, length, 0),
            UnmapOdd::Address(address) => (address, length, 0),
            UnmapOdd::Force => (address, length, FORCE),
            UnmapOdd::Flags(flags) => (address, length, flags),
        }
    }

    /// Whose mapping an unmap names; what to name if nothing is mapped.
    fn named(&mut self, target: u16, odd: &UnmapOdd) -> Result<(usize, Option<Mapping>)> {
        let mapping = self.pick(target);
        let own = mapping.map_or(0, |one| one.ctx);
        let ctx = match *odd {
            UnmapOdd::Foreign(other) => usize::from(other),
            _ => own,
        };
        Ok((self.open(u8::try_from(ctx % CONTEXTS)?)?, mapping))
    }

    fn unmap(&mut self, target: u16, odd: &UnmapOdd) -> Result<()> {
        let (ctx, mapping) = self.named(target, odd)?;
        let (iova, length) = mapping.map_or_else(
            || (place::slot(self.number, target), PAGE),
            |one| one.named(),
        );
        let (iova, length, flags) = Self::spoil(odd, iova, length);
        let span = pages(iova, length);
        let exact = |one: &&Mapping| {
            one.ctx == ctx
                && span == Some((one.first, one.last()))
                && (one.is_user() || iova % PAGE == 0)
        };
        let found = self.live.iter().find(exact).copied();
        let found = found.filter(|_| flags == 0);
        let mut rules = Rules::default();
        rules.rule(flags & !FORCE != 0, Errno::OPNOTSUPP);
        if found.is_none() {
            rules
                .rule(true, Errno::NOENT)
                .rule(self.away, Errno::NODEV)
                .rule(iova % PAGE != 0, Errno::INVAL)
                .rule(length > u64::MAX - (PAGE - 1), Errno::OVERFLOW)
                .bytes(iova, length);
        }
        let mut request = abi::unmap_request(iova, length);
        request.flags = flags;
        let got = self.ioctl(ctx, uapi::QAT_IOMMU_UNMAP, &mut request)?;
        if self.judge(&|| format!("{request:x?}"), got, &rules)? {
            if let Some(found) = found {
                self.forget(&found);
            }
            self.shared.add(Count::Unmaps, 1);
        }
        Ok(())
    }

    fn unmap_user(&mut self, target: u16, odd: &UnmapOdd) -> Result<()> {
        let users: Vec<Mapping> = self
            .live
            .iter()
            .filter(|one| one.is_user())
            .copied()
            .collect();
        let index = usize::from(target).checked_rem(users.len());
        let mapping = index.and_then(|index| users.get(index));
        let (own, va, length) = match mapping {
            Some(Mapping {
                ctx,
                backing: Backing::User { va, length, .. },
                ..
            }) => (*ctx, *va, *length),
            _ => (0, self.places.find(&Buffer::Hole { before: 1 }).0, PAGE),
        };
        let ctx = match *odd {
            UnmapOdd::Foreign(other) => usize::from(other),
            _ => own,
        };
        let ctx = self.open(u8::try_from(ctx % CONTEXTS)?)?;
        let (va, length, flags) = Self::spoil(odd, va, length);
        let span = pages(va, length);
        let exact = |one: &&Mapping| match one.backing {
            Backing::User { va, length, .. } => {
                one.ctx == ctx && span.is_some() && span == pages(va, length)
            }
            Backing::Phys { .. } => false,
        };
        let newest = self
            .live
            .iter()
            .filter(exact)
            .max_by_key(|one| one.sequence);
        let found = newest.copied().filter(|_| flags == 0);
        let mut rules = Rules::default();
        rules.rule(flags != 0, Errno::OPNOTSUPP);
        if found.is_none() {
            rules
                .rule(true, Errno::NOENT)
                .bytes(va, length)
                .perhaps(self.away, Errno::NODEV);
        }
        let mut request = user::unmap_request(va, length);
        request.flags = flags;
        let got = self.ioctl(ctx, uapi::QAT_IOMMU_UNMAP_USER, &mut request)?;
        if self.judge(&|| format!("{request:x?}"), got, &rules)? {
            if let Some(found) = found {
                self.forget(&found);
            }
            self.shared.add(Count::Unmaps, 1);
        }
        Ok(())
    }

    /// The mapping that QUERY finds from an IOVA on.
    fn next(&self, ctx: usize, iova: u64) -> Option<&Mapping> {
        let own = self.live.iter().filter(|one| one.ctx == ctx);
        own.filter(|one| one.last() >= iova)
            .min_by_key(|one| one.first)
    }

    /// Asks for the mapping from an IOVA on; where to go on.
    fn ask(&self, ctx: usize, iova: u64) -> Result<Option<u64>> {
        let want = self.next(ctx, iova);
        let mut rules = Rules::default();
        rules
            .rule(want.is_none(), Errno::NOENT)
            // A context that has not chosen a space cannot choose one now.
            .perhaps(self.away, Errno::NODEV);
        let mut request = user::query_request(iova);
        let got = self.ioctl(ctx, uapi::QAT_IOMMU_QUERY, &mut request)?;
        if !self.judge(&|| format!("QUERY {iova:#x}"), got, &rules)? {
            return Ok(None);
        }
        let want = want.context("found")?;
        let (kind, backing) = match want.backing {
            Backing::Phys { phys, .. } => (uapi::QAT_IOMMU_QUERY_PHYS, phys),
            Backing::User { va, .. } => (uapi::QAT_IOMMU_QUERY_USER, va & !(PAGE - 1)),
        };
        let told = (
            request.iova,
            request.length,
            request.backing,
            request.kind,
            request.map_flags,
        );
        let known = (want.first, want.length, backing, kind, want.flags);
        ensure!(
            told == known,
            "QUERY {iova:#x}: expected {known:x?}, got {told:x?} (IOVA, length, backing, kind, flags)"
        );
        Ok(want.last().checked_add(1))
    }

    fn query(&mut self, ctx: u8, at: &At) -> Result<()> {
        let (ctx, iova) = match *at {
            At::Any(iova) => (self.open(ctx)?, iova),
            At::Target(target, by) => match self.pick(target) {
                Some(one) => (one.ctx, one.first.wrapping_add_signed(by.into())),
                None => (self.open(ctx)?, 0),
            },
        };
        self.ask(ctx, iova).map(|_| ())
    }

    fn list(&mut self, ctx: u8) -> Result<()> {
        let ctx = self.open(ctx)?;
        let mut from = Some(0);
        while let Some(iova) = from {
            from = self.ask(ctx, iova)?;
        }
        Ok(())
    }

    fn info(&mut self, ctx: u8, pfs: u8, ranges: u8) -> Result<()> {
        let ctx = self.open(ctx)?;
        let (pfs, ranges) = (usize::from(pfs), usize::from(ranges));
        let info = self.context(ctx)?.info_with_room(pfs, ranges);
        let info = expect::succeeds("INFO", info)?;
        self.shared.answered(0);
        let fixed = &info.fixed;
        if self.away {
            return expect::equal("PFs while it is away", fixed.num_pfs, 0);
        }
        expect::equal("PFs", fixed.num_pfs, 1)?;
        expect::equal("PFs listed", info.pfs.len(), pfs.min(1))?;
        let aperture = (fixed.aperture_first, fixed.aperture_last);
        expect::equal("aperture", aperture, self.facts.aperture)?;
        let reserved: Vec<(u64, u64)> = info
            .reserved
            .iter()
            .map(|range| (range.first, range.last))
            .collect();
        let known = &self.facts.reserved;
        expect::equal(
            "reserved ranges",
            usize::try_from(fixed.num_reserved_ranges)?,
            known.len(),
        )?;
        expect::equal("reserved", &reserved[..], &known[..ranges.min(known.len())])
    }

    fn attach(&mut self, ctx: u8, how: &Attach) -> Result<()> {
        let ctx = self.open(ctx)?;
        let mut request = abi::attach_request();
        let mut rules = Rules::default();
        rules.rule(self.away, Errno::NODEV);
        match how {
            Attach::Default => {}
            Attach::Address | Attach::Nobody(_) => {
                request.flags = 0;
                (
                    request.segment,
                    request.bus,
                    request.device,
                    request.function,
                ) = self.facts.bdf().numbers()?;
            }
        }
        if let Attach::Nobody(bus) = how {
            request.bus ^= bus | 1;
            rules.rule(true, Errno::NODEV);
        }
        let got = self.ioctl(ctx, uapi::QAT_IOMMU_ATTACH, &mut request)?;
        self.judge(&|| format!("{request:x?}"), got, &rules)?;
        Ok(())
    }

    /// Closes a context; everything in it goes.
    pub(super) fn close(&mut self, ctx: usize) {
        spawn::close(self.contexts[ctx].take());
        let gone: Vec<Mapping> = self
            .live
            .iter()
            .filter(|one| one.ctx == ctx)
            .copied()
            .collect();
        for one in &gone {
            self.forget(one);
        }
    }

    /// Tells the others what is mapped.
    pub fn publish(&self) -> Result<()> {
        let all = self.live.iter().map(|one| Listed {
            first: one.first,
            length: one.length,
            flags: one.flags,
            user: one.is_user(),
        });
        self.shared.publish(self.number, all)
    }

    /// Ends a round: nothing is mapped any more.
    pub fn end(&mut self) -> Result<()> {
        for ctx in 0..CONTEXTS {
            self.close(ctx);
        }
        self.leave_contests()?;
        self.publish()
    }
}
