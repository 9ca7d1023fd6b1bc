// SPDX-License-Identifier: GPL-2.0
//! Batches: all or none, and the element named that was refused.

use anyhow::{bail, ensure, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;

use super::model::{pages, Backing, Mapping, Rules, PAGE};
use super::ops::{BatchOdd, Buffer};
use super::player::Player;
use super::shared::Count;
use crate::abi::{self, user, EdgePage};

/// The most elements that are put before an edge.
const SHORT: usize = 24;

/// What is expected of a batch: its own rules, and those of each element.
struct Verdicts {
    whole: Rules,
    each: Vec<Rules>,
}

impl Verdicts {
    /// Whether the batch succeeded, as it should.
    fn judge(
        &self,
        player: &Player<'_>,
        what: &dyn Fn() -> String,
        got: Result<(), Errno>,
        failed: u32,
    ) -> Result<bool> {
        let first = self.each.iter().position(|rules| !rules.broken.is_empty());
        let mut rules = self.whole.clone();
        let own = rules.broken.clone();
        if let Some(bad) = first.and_then(|first| self.each.get(first)) {
            rules.broken.extend(&bad.broken);
            rules.perhaps.extend(&bad.perhaps);
        }
        let good = player.judge(what, got, &rules)?;
        if let (Err(error), Some(first)) = (got, first) {
            // Else it was not because of an element.
            if !own.contains(&error) && !self.whole.perhaps.contains(&error) {
                ensure!(
                    usize::try_from(failed)? == first,
                    "{}: element {failed} failed, and it should be {first}",
                    what()
                );
            }
        }
        Ok(good)
    }
}

/// Puts an array where it cannot be written, if it is short.
fn read_only(words: &[u64]) -> Result<Option<(EdgePage, u64)>> {
    let mut block = [0u64; SHORT];
    if words.is_empty() || words.len() > SHORT {
        return Ok(None);
    }
    block[..words.len()].copy_from_slice(words);
    let page = EdgePage::new()?;
    let place = abi::address(page.put_before_edge(block, words.len() * 8));
    page.make_read_only()?;
    Ok(Some((page, place)))
}

impl Player<'_> {
    pub(super) fn map_batch(
        &mut self,
        ctx: u8,
        buffers: &[Buffer],
        flags: u32,
        alignment: u64,
        odd: &BatchOdd,
    ) -> Result<()> {
        let ctx = self.open(ctx)?;
        let mut places: Vec<(u64, u64)> = buffers.iter().map(|one| self.places.find(one)).collect();
        let mut whole = Rules::default();
        whole.access(flags, 0).rule(self.away, Errno::NODEV);
        match *odd {
            BatchOdd::Spoilt(at) => {
                let index = usize::from(at) % places.len().max(1);
                if let Some(place) = places.get_mut(index) {
                    *place = match at % 4 {
                        0 => (place.0, 0),
                        1 => (place.0, u64::MAX),
                        2 => self.places.find(&Buffer::Hole { before: at % 8 }),
                        _ => (0, PAGE),
                    };
                }
            }
            BatchOdd::Empty => {
                places.clear();
                // Nothing needs a PF.
                whole = Rules::default();
                whole.access(flags, 0).perhaps(self.away, Errno::NODEV);
            }
            _ => {}
        }
        let mut each = Vec::new();
        for (va, length) in &places {
            let mut rules = Rules::default();
            self.memory_rules(&mut rules, *va, *length, flags);
            Self::alignment_rules(&mut rules, alignment);
            each.push(rules);
        }
        // Whether the space has room is known when all are pinned.
        let full = each
            .iter()
            .any(|rules| rules.broken.contains(&Errno::NOSPC));
        if full {
            each.iter_mut()
                .for_each(|rules| rules.broken.retain(|error| *error != Errno::NOSPC));
            whole.rule(true, Errno::NOSPC);
        }
        let mut list = user::buffers(&places);
        let mut request = user::map_batch_request(&mut list);
        request.flags = flags;
        request.alignment = alignment;
        let mut kept = None;
        match *odd {
            BatchOdd::Count(count) => {
                request.count = count;
                whole.rule(true, Errno::TOOBIG);
            }
            BatchOdd::Pointer(pointer) if !places.is_empty() => {
                request.buffers = pointer;
                whole.rule(true, Errno::FAULT);
            }
            BatchOdd::ReadOnly => {
                let words: Vec<u64> = list
                    .iter()
                    .flat_map(|one| [one.va, one.length, 0])
                    .collect();
                kept = read_only(&words)?;
                if let Some((_, place)) = &kept {
                    request.buffers = *place;
                    whole.rule(true, Errno::FAULT);
                }
            }
            _ => {}
        }
        let got = self.ioctl(ctx, uapi::QAT_IOMMU_MAP_USER_BATCH, &mut request)?;
        drop(kept);
        let what = || format!("MAP_USER_BATCH of {places:x?}, {request:x?}");
        let verdicts = Verdicts { whole, each };
        if verdicts.judge(self, &what, got, request.failed)? && !places.is_empty() {
            for ((va, length), buffer) in places.iter().zip(&list) {
                let span = self.chosen(buffer.iova, *va, *length, alignment)?;
                let backing = Backing::User {
                    va: *va,
                    length: *length,
                    here: true,
                };
                self.record(ctx, span, flags, backing);
            }
            self.shared.add(Count::Maps, 1);
            self.shared.add(Count::Batches, 1);
        }
        Ok(())
    }

    pub(super) fn unmap_batch(&mut self, target: u16, count: u8, odd: &BatchOdd) -> Result<()> {
        let ctx = match self.pick(target) {
            Some(one) => one.ctx,
            None => self.open(0)?,
        };
        let users = self
            .live
            .iter()
            .filter(|one| one.ctx == ctx && one.is_user());
        let mut chosen: Vec<Mapping> = users.copied().collect();
        let start = usize::from(target).checked_rem(chosen.len()).unwrap_or(0);
        chosen.rotate_left(start);
        chosen.truncate(usize::from(count));
        let mut places: Vec<(u64, u64)> = chosen.iter().map(Mapping::named).collect();
        let mut each = vec![Rules::default(); places.len()];
        let mut whole = Rules::default();
        match *odd {
            BatchOdd::Spoilt(at) if !places.is_empty() => {
                let index = usize::from(at) % places.len();
                self.spoil_range(ctx, &mut places[index], at, &mut each[index]);
            }
            BatchOdd::Twice(at) if !places.is_empty() => {
                let index = usize::from(at) % places.len();
                places.push(places[index]);
                let mut rules = Rules::default();
                rules.rule(true, Errno::NOENT);
                each.push(rules);
            }
            BatchOdd::Empty => {
                places.clear();
                each.clear();
            }
            _ => {}
        }
        let list = user::ranges(&places);
        let mut request = user::unmap_batch_request(&list);
        match *odd {
            BatchOdd::Count(count) => {
                request.count = count;
                whole.rule(true, Errno::TOOBIG);
            }
            BatchOdd::Pointer(pointer) if !places.is_empty() => {
                request.ranges = pointer;
                whole.rule(true, Errno::FAULT);
            }
            _ => {}
        }
        let words: Vec<u64> = list.iter().flat_map(|one| [one.iova, one.length]).collect();
        let kept = match odd {
            // It is not written to.
            BatchOdd::ReadOnly => read_only(&words)?,
            _ => None,
        };
        if let Some((_, place)) = &kept {
            request.ranges = *place;
        }
        let got = self.ioctl(ctx, uapi::QAT_IOMMU_UNMAP_BATCH, &mut request)?;
        drop(kept);
        let what = || format!("UNMAP_BATCH of {places:x?}, {request:x?}");
        let verdicts = Verdicts { whole, each };
        if verdicts.judge(self, &what, got, request.failed)? && !places.is_empty() {
            self.shared.add(Count::Unmaps, 1);
            self.shared.add(Count::Batches, 1);
            for one in &chosen {
                self.forget(one);
            }
        }
        Ok(())
    }

    /// Makes a range one that cannot be unmapped in a batch.
    fn spoil_range(&self, ctx: usize, place: &mut (u64, u64), at: u8, rules: &mut Rules) {
        let classic = self
            .live
            .iter()
            .find(|one| one.ctx == ctx && !one.is_user());
        match (at % 4, classic) {
            (0, _) => place.1 = 0,
            (1, _) => place.1 = u64::MAX,
            (2, Some(classic)) => *place = classic.named(),
            _ => place.1 += PAGE,
        }
        rules.bytes(place.0, place.1);
        if rules.broken.is_empty() {
            let span = pages(place.0, place.1);
            let there = |one: &Mapping| {
                one.ctx == ctx && one.is_user() && span == Some((one.first, one.last()))
            };
            rules.rule(!self.live.iter().any(there), Errno::NOENT);
        }
    }

    /// Maps or unmaps a place that all workers want.
    pub(super) fn contend(&mut self, slot: usize, map: bool) -> Result<()> {
        use super::place::contended;
        use super::shared::CONTENDED;
        let slot = slot % CONTENDED;
        let iova = contended(slot);
        let mut rules = Rules::default();
        let got = if map {
            rules
                .rule(self.away, Errno::NODEV)
                .perhaps(true, Errno::EXIST);
            if slot < CONTENDED / 2 {
                let mapped = self.common.map(self.places.phys.phys(), iova, PAGE);
                mapped.map(|_| ())
            } else {
                let (va, _) = self.places.find(&Buffer::Small {
                    page: 0,
                    offset: 0,
                    length: 1,
                });
                self.common.map_user_at(va, PAGE, iova).map(|_| ())
            }
        } else {
            rules
                .perhaps(true, Errno::NOENT)
                .perhaps(self.away, Errno::NODEV);
            self.common.unmap(iova, PAGE)
        };
        let word = if map { "map" } else { "unmap" };
        if self.judge(&|| format!("{word} of contended place {slot}"), got, &rules)? {
            self.shared.won(slot, map);
            self.shared.add(Count::Contended, 1);
            let count = if map { Count::Maps } else { Count::Unmaps };
            self.shared.add(count, 1);
        }
        Ok(())
    }

    /// Unmaps what is left at those places.
    pub(super) fn leave_contests(&mut self) -> Result<()> {
        use super::shared::CONTENDED;
        for slot in 0..CONTENDED {
            match self.common.unmap(super::place::contended(slot), PAGE) {
                Ok(()) => self.shared.won(slot, false),
                Err(Errno::NOENT) => {}
                Err(error) => bail!("unmap of contended place {slot}: {error}"),
            }
        }
        Ok(())
    }
}
