// SPDX-License-Identifier: GPL-2.0
//! How cost grows with the number of live mappings: of a map and an unmap, and of a look-up.

use anyhow::{ensure, Result};

use crate::classic::repeat;
use crate::clock::{median, timed, Mark};
use crate::guest::AT;
use crate::machine::Machine;
use crate::memory::{Backing, Memory, Span, PAGE};
use crate::record::Records;
use crate::ways::library::{self, pointer, Lookup};
use crate::ways::usdm::Libusdm;
use crate::ways::{Library, Name, Way};

pub const LIVE: [usize; 5] = [1_000, 10_000, 50_000, 100_000, 300_000];

/// The row of so many mappings.
pub fn row(of: &str, live: usize) -> String {
    format!("{of}-{live}")
}

pub fn run(machine: &Machine, ways: &[Name], rounds: usize, records: &mut Records) -> Result<()> {
    let most = LIVE.into_iter().max().unwrap_or(0);
    let memory = Memory::new((most + 1) * PAGE, Backing::Scattered)?;
    for name in ways {
        // One context for the whole process: it would have to be emptied one by one.
        if matches!(name, Name::Batch | Name::Floor | Name::Library | Name::Usdm) {
            continue;
        }
        let mut way = name.open(machine)?;
        let mut live = 0;
        for target in LIVE.into_iter().filter(|target| *target <= name.most()) {
            fill(&mut *way, &memory, live..target)?;
            live = target;
            let all = repeat(rounds, || way.round(memory.page(live), at(live)))?;
            records.add_rounds(&row("growth", live), name.text(), &all, 1);
        }
    }
    Ok(())
}

/// Where those that choose map page number `index`.
pub fn at(index: usize) -> u64 {
    AT + (index * PAGE) as u64
}

/// Maps pages one by one.
pub fn fill(way: &mut dyn Way, memory: &Memory, pages: std::ops::Range<usize>) -> Result<()> {
    for index in pages {
        way.map(memory.page(index), at(index))?;
    }
    Ok(())
}

/// The look-up of an address, of many that are mapped.
pub fn lookup(machine: &Machine, ways: &[Name], records: &mut Records) -> Result<()> {
    let memory = Memory::new(LIVE[4] * PAGE, Backing::Scattered)?;
    if ways.contains(&Name::Library) {
        let mut way = Library::native(machine)?;
        let object = library::open(&machine.libqat_iommu)?;
        // SAFETY: this is its prototype.
        let call = unsafe { *object.get::<Lookup>(b"qaeVirtToPhysNUMA\0")? };
        let mapped = lookups(&mut way, call, &memory, usize::MAX, "library", records)?;
        for index in 0..mapped {
            way.unmap(memory.page(index), 0)?;
        }
    }
    if ways.contains(&Name::Libusdm) {
        let mut way = Libusdm::new(machine)?;
        let call = way.lookup();
        lookups(&mut way, call, &memory, 10_000, "libusdm", records)?;
    }
    Ok(())
}

/// Returns how many pages are mapped at the end.
fn lookups(
    way: &mut dyn Way,
    call: Lookup,
    memory: &Memory,
    most: usize,
    name: &str,
    records: &mut Records,
) -> Result<usize> {
    let mut live = 0;
    for target in [1].into_iter().chain(LIVE).filter(|target| *target <= most) {
        fill(way, memory, live..target)?;
        live = target;
        // All over the place, and not at the start of a page.
        let pages = (0..21).map(|number| memory.page(number * 7919 % live));
        let mut all = Vec::new();
        for Span { address, .. } in pages {
            let at = pointer(address + 8);
            // SAFETY: the call looks at no memory of the buffer.
            let (found, time) = timed(Mark::Other, || unsafe { call(at) });
            ensure!(
                found % PAGE as u64 == 8,
                "{name}: a look-up found {found:#x}"
            );
            all.push(time);
        }
        records.add(&row("lookup", live), "lookup", name, median(all));
    }
    Ok(live)
}
