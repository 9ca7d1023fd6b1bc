// SPDX-License-Identifier: GPL-2.0
//! What a fault was: by the PF, the space it is in, what is mapped there and what was.

use serde::Serialize;
use std::ops::RangeInclusive;

use super::line::{Access, Fault};
use crate::host::{Function, Host, OWN_DRIVER};
use crate::records::{Backing, Gone, Mapping, Records, Space};

/// IOMMUs tell the page, not always the byte.
const PAGE: u64 = 4096;
/// How far beside a mapping an access still looks like one that ran over its end.
const BESIDE: u64 = 16 * PAGE;
/// Where a write is an interrupt, on every x86.
const INTERRUPTS: RangeInclusive<u64> = 0xfee0_0000..=0xfeef_ffff;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Unmapped by whoever mapped it.
    UsedAfterUnmap,
    /// Its context was closed, or its program ended.
    ReleasedByClose,
    /// Its PF was unbound.
    ReleasedByUnbind,
    /// A kernel client had left it, and it was released by force.
    ReleasedByForce,
    /// The map did not succeed.
    MapFailed,
    PastEnd,
    BeforeStart,
    WriteToReadOnly,
    ReadOfWriteOnly,
    NeverMapped,
    /// Mapped, in the space of another PF.
    AnotherPf,
    /// RAM is there, or a mapping's memory, but at another IOVA.
    PhysicalAddress,
    /// An address of the program that mapped the buffer.
    ProgramAddress,
    /// The page at 0.
    Null,
    /// The interrupt window, or what the firmware keeps.
    Reserved,
    BeyondAperture,
    /// No driver that the module shares holds the PF, nor does the module's.
    NotBound,
    /// Nothing is wrong with it now.
    MappedNow,
    Poisoned,
    NotAPf,
    /// The IOMMU does not tell.
    NoAddress,
}

/// What there is to say of a fault.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub cause: Cause,
    /// The function that made the access.
    pub pf: Option<String>,
    /// What kind of PF that is, or which device.
    pub kind: Option<String>,
    pub driver: Option<String>,
    pub space: Option<u64>,
    /// The live mapping that it is about.
    pub mapping: Option<Mapping>,
    /// The one that went.
    pub gone: Option<Gone>,
    /// Bytes past the end, or before the start.
    pub distance: Option<u64>,
    /// Where the memory can be reached.
    pub right: Option<u64>,
    /// The PFs for which the address is good.
    pub others: Vec<String>,
    /// What went last in the space, where more cannot be known.
    pub recent: Vec<Gone>,
    /// The last IOVA of the space.
    pub last: Option<u64>,
}

impl Verdict {
    pub fn new(cause: Cause) -> Self {
        Self {
            cause,
            pf: None,
            kind: None,
            driver: None,
            space: None,
            mapping: None,
            gone: None,
            distance: None,
            right: None,
            others: Vec::new(),
            recent: Vec::new(),
            last: None,
        }
    }

    fn of(cause: Cause, mapping: &Mapping) -> Self {
        Self {
            mapping: Some(mapping.clone()),
            ..Self::new(cause)
        }
    }

    fn went(cause: Cause, gone: &Gone) -> Self {
        Self {
            gone: Some(gone.clone()),
            ..Self::new(cause)
        }
    }
}

/// Everything that a verdict rests on.
pub struct Scene<'a> {
    pub functions: Vec<Function>,
    /// Which of the functions are PFs.
    pub pfs: Vec<Function>,
    pub records: &'a Records,
    pub ram: Vec<RangeInclusive<u64>>,
}

impl<'a> Scene<'a> {
    pub fn new(host: &Host, records: &'a Records) -> Self {
        Self {
            functions: host.functions(),
            pfs: host.pfs(),
            records,
            ram: host.ram(),
        }
    }

    pub fn judge(&self, fault: &Fault) -> Verdict {
        let Some(requester) = fault.device else {
            return self.address_alone(fault);
        };
        let function = self
            .functions
            .iter()
            .find(|function| requester.is(function.address));
        let named = |mut verdict: Verdict| {
            verdict.pf =
                Some(function.map_or(requester.to_string(), |one| one.address.to_string()));
            verdict.kind = function.map(Function::kind);
            verdict.driver = function.and_then(|one| one.driver.clone());
            verdict
        };
        let Some(pf) = self.pfs.iter().find(|pf| requester.is(pf.address)) else {
            return named(Verdict::new(Cause::NotAPf));
        };
        let space = self.records.space_of(&pf.address.to_string());
        let mut verdict = self.of_pf(fault, pf, space);
        verdict.space = space.map(|space| space.number);
        named(verdict)
    }

    fn of_pf(&self, fault: &Fault, pf: &Function, space: Option<&Space>) -> Verdict {
        if fault.interrupt {
            return Verdict::new(Cause::Reserved);
        }
        let Some(address) = fault.address else {
            return self.no_address(pf, space);
        };
        match space {
            Some(space) => self.in_space(fault, address, space),
            None => self.not_in_a_space(fault, address, pf),
        }
    }

    /// All that can be told is what went just before.
    fn no_address(&self, pf: &Function, space: Option<&Space>) -> Verdict {
        if space.is_none() && pf.driver.as_deref() != Some(OWN_DRIVER) {
            return Verdict::new(Cause::NotBound);
        }
        let mine = |gone: &&Gone| space.is_some_and(|space| space.number == gone.mapping.space);
        let recent = self
            .records
            .history
            .iter()
            .rev()
            .filter(mine)
            .take(3)
            .cloned();
        Verdict {
            recent: recent.collect(),
            ..Verdict::new(Cause::NoAddress)
        }
    }

    fn not_in_a_space(&self, fault: &Fault, address: u64, _: &Function) -> Verdict {
        let unbound = |gone: &&Gone| gone.why == "unbind" && gone.mapping.covers(address);
        let history = self.records.history.iter().rev();
        let before = |gone: &&Gone| fault.when.is_none_or(|when| gone.when <= when + SLACK);
        match history.filter(before).find(unbound) {
            Some(gone) => Verdict::went(Cause::ReleasedByUnbind, gone),
            None => Verdict::new(Cause::NotBound),
        }
    }

    fn in_space(&self, fault: &Fault, address: u64, space: &Space) -> Verdict {
        self.out_of_bounds(address, space)
            .or_else(|| self.mapped_in(fault, address, space))
            .or_else(|| self.went_from(fault, address, space))
            .or_else(|| self.beside(fault, address, space))
            .or_else(|| self.elsewhere(address, Some(space.number)))
            .or_else(|| self.not_an_iova(address))
            .unwrap_or(Verdict::new(Cause::NeverMapped))
    }

    fn out_of_bounds(&self, address: u64, space: &Space) -> Option<Verdict> {
        let within = |(first, last): &&(u64, u64)| *first <= address && address <= *last;
        if address < PAGE {
            return Some(Verdict::new(Cause::Null));
        }
        if INTERRUPTS.contains(&address) || space.reserved.iter().any(|range| within(&range)) {
            return Some(Verdict::new(Cause::Reserved));
        }
        let (_, last) = space.aperture?;
        (address > last).then(|| Verdict {
            last: Some(last),
            ..Verdict::new(Cause::BeyondAperture)
        })
    }

    fn mapped_in(&self, fault: &Fault, address: u64, space: &Space) -> Option<Verdict> {
        let mapping = self
            .live(address)
            .find(|mapping| mapping.space == space.number)?;
        if mapping.kind == Backing::Poisoned {
            return Some(Verdict::of(Cause::Poisoned, mapping));
        }
        if let Some(cause) = conflict(fault, mapping) {
            return Some(Verdict::of(cause, mapping));
        }
        // What was there before went, and it is mapped anew.
        let earlier = self.went_from(fault, address, space);
        Some(Verdict {
            mapping: Some(mapping.clone()),
            ..earlier.unwrap_or(Verdict::new(Cause::MappedNow))
        })
    }

    fn went_from(&self, fault: &Fault, address: u64, space: &Space) -> Option<Verdict> {
        let here =
            |gone: &&Gone| gone.mapping.space == space.number && gone.mapping.covers(address);
        self.went(fault, here)
    }

    /// The latest that went before the fault; or the first after it, which lived at the time.
    fn went(&self, fault: &Fault, here: impl Fn(&&Gone) -> bool) -> Option<Verdict> {
        let before = |gone: &&Gone| fault.when.is_none_or(|when| gone.when <= when + SLACK);
        let lived = self
            .records
            .history
            .iter()
            .filter(&here)
            .find(|gone| !before(gone));
        if let Some(gone) = lived {
            if let Some(cause) = conflict(fault, &gone.mapping) {
                return Some(Verdict::went(cause, gone));
            }
        }
        let gone = self
            .records
            .history
            .iter()
            .rev()
            .filter(here)
            .find(before)?;
        let cause = match gone.why.as_str() {
            "close" => Cause::ReleasedByClose,
            "unbind" => Cause::ReleasedByUnbind,
            "force" => Cause::ReleasedByForce,
            "failed" => Cause::MapFailed,
            _ => Cause::UsedAfterUnmap,
        };
        Some(Verdict::went(cause, gone))
    }

    /// Next to something that is mapped, or was at the time.
    fn beside(&self, fault: &Fault, address: u64, space: &Space) -> Option<Verdict> {
        let live = self
            .records
            .mappings
            .iter()
            .filter(|one| one.space == space.number);
        let nearest = live.filter_map(|one| Some((beside(one, address)?, one)));
        if let Some(((cause, distance), mapping)) =
            nearest.min_by_key(|((_, distance), _)| *distance)
        {
            return Some(Verdict {
                distance: Some(distance),
                ..Verdict::of(cause, mapping)
            });
        }
        let then = |gone: &&Gone| fault.when.is_none_or(|when| gone.when + SLACK > when);
        let lived = self.records.history.iter().filter(then);
        let lived = lived.filter(|gone| gone.mapping.space == space.number);
        let (found, gone) = lived
            .filter_map(|gone| Some((beside(&gone.mapping, address)?, gone)))
            .last()?;
        Some(Verdict {
            distance: Some(found.1),
            ..Verdict::went(found.0, gone)
        })
    }

    /// Mapped, for other PFs.
    fn elsewhere(&self, address: u64, space: Option<u64>) -> Option<Verdict> {
        let mapping = self
            .live(address)
            .find(|mapping| Some(mapping.space) != space)?;
        let others = self
            .records
            .space(mapping.space)
            .map(|space| space.pfs.clone());
        Some(Verdict {
            others: others.unwrap_or_default(),
            ..Verdict::of(Cause::AnotherPf, mapping)
        })
    }

    /// An address of another kind: of RAM, or of a program.
    fn not_an_iova(&self, address: u64) -> Option<Verdict> {
        let backs = |mapping: &&Mapping, kind| {
            let offset = address.checked_sub(mapping.backing);
            mapping.kind == kind && offset.is_some_and(|offset| offset < mapping.length())
        };
        for (kind, cause) in [
            (Backing::Phys, Cause::PhysicalAddress),
            (Backing::User, Cause::ProgramAddress),
        ] {
            if let Some(mapping) = self.records.mappings.iter().find(|one| backs(one, kind)) {
                return Some(Verdict {
                    right: Some(mapping.first + (address - mapping.backing)),
                    ..Verdict::of(cause, mapping)
                });
            }
        }
        let is_ram = self.ram.iter().any(|range| range.contains(&address));
        is_ram.then(|| Verdict::new(Cause::PhysicalAddress))
    }

    /// Nobody says which PF.
    fn address_alone(&self, fault: &Fault) -> Verdict {
        let Some(address) = fault.address else {
            let pfs = self.pfs.iter().map(|pf| pf.address.to_string());
            return Verdict {
                others: pfs.collect(),
                recent: self.records.history.iter().rev().take(3).cloned().collect(),
                ..Verdict::new(Cause::NoAddress)
            };
        };
        if let Some(mapping) = self.live(address).next() {
            let space = self.records.space(mapping.space);
            return Verdict {
                space: Some(mapping.space),
                others: space.map(|space| space.pfs.clone()).unwrap_or_default(),
                ..Verdict::of(Cause::MappedNow, mapping)
            };
        }
        if INTERRUPTS.contains(&address) {
            return Verdict::new(Cause::Reserved);
        }
        let went = self.went(fault, |gone| gone.mapping.covers(address));
        let in_some = || {
            let spaces = self.records.spaces.iter();
            let found = spaces.map(|space| (space, self.in_space(fault, address, space)));
            let (space, mut verdict) =
                found.min_by_key(|(_, verdict)| u8::from(verdict.cause == Cause::NeverMapped))?;
            verdict.space = Some(space.number);
            Some(verdict)
        };
        went.or_else(in_some)
            .or_else(|| self.not_an_iova(address))
            .unwrap_or(Verdict::new(Cause::NeverMapped))
    }

    fn live(&self, address: u64) -> impl Iterator<Item = &'a Mapping> {
        self.records
            .mappings
            .iter()
            .filter(move |mapping| mapping.covers(address))
    }
}

/// The line's stamp and the history's are taken at different moments: the kernel logs a fault
/// after it happened, so something that went up to this much later than the line was still there.
const SLACK: u64 = 0;

/// What forbids the access although the mapping is there.
fn conflict(fault: &Fault, mapping: &Mapping) -> Option<Cause> {
    match fault.access? {
        Access::Write if !mapping.write => Some(Cause::WriteToReadOnly),
        Access::Read if !mapping.read => Some(Cause::ReadOfWriteOnly),
        _ => None,
    }
}

/// On which side of a mapping an address is, and how far, if it is near.
fn beside(mapping: &Mapping, address: u64) -> Option<(Cause, u64)> {
    if address > mapping.last {
        let distance = address - mapping.last - 1;
        return (distance < BESIDE).then_some((Cause::PastEnd, distance));
    }
    // An IOMMU that tells only pages tells the page that the access began in.
    let distance = mapping.first.checked_sub(address)?;
    (distance > 0 && distance <= BESIDE).then_some((Cause::BeforeStart, distance))
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
