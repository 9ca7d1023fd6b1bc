// SPDX-License-Identifier: GPL-2.0
//! What the PF really reaches: it sums 8 bytes, or writes 8, where something is mapped, and
//! is refused where nothing is.

use anyhow::{ensure, Result};

use super::model::{Backing, Mapping, PAGE};
use super::player::Player;
use super::shared::Count;
use crate::abi::{READ, WRITE};
use crate::dma::pf::sum_of;

/// Bytes that are looked at.
const LOOK: u64 = 8;

impl Player<'_> {
    /// One look after an operation, chosen by a number.
    pub(super) fn look(&mut self, choice: u16) -> Result<()> {
        let grave = self.graves.get(usize::from(choice) / 4 % 8).copied();
        let free = grave.filter(|iova| !self.live.iter().any(|one| one.touches(*iova, *iova)));
        match (choice % 4, free, self.pick(choice)) {
            (0, Some(iova), _) | (_, Some(iova), None) => self.refused(iova)?,
            (_, _, Some(one)) => self.reached(&one, choice)?,
            (_, None, None) => return Ok(()),
        }
        self.shared.add(Count::Checks, 1);
        Ok(())
    }

    /// Looks at every mapping, or at so many of them.
    pub fn look_at_all(&self, most: usize) -> Result<()> {
        for one in self.live.iter().take(most) {
            self.reached(one, u16::try_from(one.sequence % 60_000)?)?;
            self.shared.add(Count::Pages, 1);
        }
        Ok(())
    }

    fn refused(&self, iova: u64) -> Result<()> {
        let (shared, engine) = (self.shared, &self.engine);
        let seen = shared.with_engine(|| engine.sum(iova, LOOK))?;
        ensure!(
            seen.is_none(),
            "the PF reads at {iova:#x}, where nothing is mapped any more"
        );
        self.shared.add(Count::Refusals, 1);
        Ok(())
    }

    /// What the processor sees at an offset of a mapping, if this process has it.
    fn here(&self, one: &Mapping, offset: u64) -> Result<Option<[u8; 8]>> {
        match one.backing {
            Backing::User { va, here: true, .. } => {
                self.places.read((va & !(PAGE - 1)) + offset).map(Some)
            }
            // A child's page is as its parent's was, unless the PF has written to either.
            Backing::User { .. } => Ok(None),
            Backing::Phys { page, .. } => {
                let at = page.map(|page| page as u64 * PAGE + offset);
                let at = at.filter(|at| *at + LOOK <= self.places.phys.len() as u64);
                Ok(match at {
                    Some(at) => {
                        let seen = self.places.phys.read(usize::try_from(at)?, 8);
                        seen.try_into().ok()
                    }
                    None => None,
                })
            }
        }
    }

    fn store(&self, one: &Mapping, offset: u64, data: [u8; 8]) -> Result<()> {
        match one.backing {
            Backing::User { va, .. } => self.places.write((va & !(PAGE - 1)) + offset, data),
            Backing::Phys { page, .. } => {
                let at = page.unwrap_or(0) as u64 * PAGE + offset;
                self.places.phys.write(usize::try_from(at)?, &data);
                Ok(())
            }
        }
    }

    /// The PF reaches one page of a mapping, as its permissions say.
    fn reached(&self, one: &Mapping, choice: u16) -> Result<()> {
        let choice = u64::from(choice);
        let page = choice % (one.length / PAGE) * PAGE;
        let offset = page + choice.wrapping_mul(40) % PAGE / LOOK * LOOK;
        let iova = one.first + offset;
        let (shared, engine) = (self.shared, &self.engine);
        let known = self.here(one, offset)?;
        if one.flags & READ != 0 {
            let seen = shared.with_engine(|| engine.sum(iova, LOOK))?;
            let same = match (&known, seen) {
                (Some(bytes), Some(sum)) => sum == sum_of(bytes),
                (None, Some(_)) => true,
                (_, None) => false,
            };
            ensure!(
                same,
                "the PF reads at {iova:#x} {seen:x?}, mapped is {one:x?} with {known:x?}"
            );
        }
        let Some(before) = known.filter(|_| choice % 5 == 0 || one.flags & READ == 0) else {
            return Ok(());
        };
        let pattern = u64::from_ne_bytes(before).rotate_left(21) ^ choice;
        let may = one.flags & WRITE != 0;
        let wrote = shared.with_engine(|| engine.fill(iova, LOOK, pattern))?;
        let after = self.here(one, offset)?;
        let want = if may { pattern.to_ne_bytes() } else { before };
        ensure!(
            wrote == may && after == Some(want),
            "the PF wrote {pattern:#x} at {iova:#x}: {wrote}, the processor sees {after:x?}, mapped is {one:x?}"
        );
        if may {
            self.store(one, offset, before)?;
        }
        Ok(())
    }
}
