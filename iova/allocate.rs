// SPDX-License-Identifier: GPL-2.0

//! Where a mapping goes whose IOVA the caller leaves open: from the top of the space downward, out
//! of the way of RAM addresses while there is room, aligned as well as the free space allows.

pub(crate) mod align;
mod gap;
pub(super) mod recent;

use align::Alignment;
use gap::Found;

use super::{
    addr::{Address, Iova, Length},
    layout::Layout,
    span::Span,
};

/// The highest IOVA that is ever chosen: 48 bits are what every QAT device can address.
const CEILING: u64 = 0xffff_ffff_ffff;

/// How many gaps that are large enough, but do not fit once aligned, are tried before only gaps are
/// considered that fit for certain.
const TRIES: u32 = 8;

/// The same for a last search before a request is refused. A space of 4 GiB has fewer gaps of 2 MiB
/// than this, so that there a refusal means that there is no room.
const LAST_TRIES: u32 = 2048;

/// No range of the length and alignment is free.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NoSpace;

impl NoSpace {
    /// One line for people: what was wrong and what to do about it.
    pub(crate) const fn explain(self) -> &'static str {
        "no free IOVA range is large enough: unmap what is not needed, or map smaller pieces"
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    /// How many bytes, a multiple of the page size.
    pub(crate) length: Length,
    /// The alignment that would be best. Given up, half by half, if the space is too fragmented.
    pub(crate) wanted: Alignment,
    /// The alignment that there must be.
    pub(crate) required: Alignment,
    /// Where 1:1 maps of RAM end: IOVAs from here up are taken first.
    pub(crate) floor: Iova,
}

impl<T> Layout<T> {
    /// Finds a free range; the caller records it with [`Layout::insert`] under the same lock.
    ///
    /// Above the floor comes before well aligned, so that 1:1 maps keep their room; the highest
    /// range that fits comes before lower ones, so that what was freed is used again first.
    #[inline(always)]
    pub(crate) fn allocate(&mut self, request: Request) -> Result<Span<Iova>, NoSpace> {
        let request = Request {
            wanted: request.wanted.max(request.required),
            ..request
        };
        let first = match self.live.recent.take(request) {
            Some(first) => first,
            None => self.search(request).ok_or(NoSpace)?,
        };
        Span::new(first, request.length).map_err(|_| NoSpace)
    }

    /// Finds a free range for several mappings side by side. There may be none although each of them
    /// would find room: it is above the floor, aligned as wanted, and in one piece.
    ///
    /// Whoever does not record them all after that says so with [`Self::forget_search`].
    pub(crate) fn allocate_together(&mut self, request: Request) -> Option<Span<Iova>> {
        let first = match self.live.recent.take(request) {
            Some(first) => first,
            None => self.search_above(request, self.above(request)?)?,
        };
        Span::new(first, request.length).ok()
    }

    /// What was found was not recorded.
    pub(crate) fn forget_search(&mut self) {
        self.live.recent.forget();
    }

    /// The highest that is ever chosen.
    fn top(&self) -> Iova {
        self.aperture.last().min(Iova::new(CEILING))
    }

    /// Where a request is served first, if there is something above its floor.
    fn above(&self, request: Request) -> Option<Span<Iova>> {
        let first = request.floor.max(self.aperture.first());
        Span::from_bounds(first, self.top()).ok()
    }

    /// The highest place above the floor that is aligned as wanted, which is remembered.
    fn search_above(&mut self, request: Request, above: Span<Iova>) -> Option<Iova> {
        self.live.recent.forget();
        let found = self.highest_free(above, request.length, request.wanted, TRIES)?;
        self.live.recent.learn(request, found.at, found.low);
        Some(found.at)
    }

    #[inline(never)]
    fn search(&mut self, request: Request) -> Option<Iova> {
        self.live.recent.forget();
        // Not only what is below the floor: a range may also lie across it.
        let whole = Span::from_bounds(self.aperture.first(), self.top()).ok()?;
        if let Some(above) = self.above(request) {
            let found = self.search_above(request, above);
            let found = found.or_else(|| self.allocate_in(above, request));
            if found.is_some() {
                return found;
            }
        }
        self.allocate_in(whole, request).or_else(|| {
            self.highest_free(whole, request.length, request.required, LAST_TRIES)
                .map(|found| found.at)
        })
    }

    /// Finds a free range in `region`, as well aligned as can be.
    fn allocate_in(&mut self, region: Span<Iova>, request: Request) -> Option<Iova> {
        let mut align = request.wanted;
        loop {
            let found = self.highest_free(region, request.length, align, TRIES);
            if found.is_some() || align <= request.required {
                return found.map(|found| found.at);
            }
            align = align.half();
        }
    }

    /// The highest free range between the reserved ones in `region`.
    fn highest_free(
        &mut self,
        region: Span<Iova>,
        length: Length,
        align: Alignment,
        mut tries: u32,
    ) -> Option<Found> {
        let mut last = region.last();
        for reserved in self.reserved.iter().rev() {
            let window = reserved
                .last()
                .checked_add(1)
                .and_then(|first| Span::from_bounds(first.max(region.first()), last).ok());
            if let Some(window) = window {
                let found = self.live.highest_gap(window, length, align, &mut tries);
                if found.is_some() {
                    return found;
                }
            }
            last = last.min(below(reserved.first(), 1)?);
        }
        let window = Span::from_bounds(region.first(), last).ok()?;
        self.live.highest_gap(window, length, align, &mut tries)
    }
}

/// The address `bytes` further down, if there is one.
fn below(address: Iova, bytes: u64) -> Option<Iova> {
    address.raw().checked_sub(bytes).map(Iova::new)
}
