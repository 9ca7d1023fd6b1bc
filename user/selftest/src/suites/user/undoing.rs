// SPDX-License-Identifier: GPL-2.0
//! Undoing a mapping: by address or by IOVA, exactly what was mapped and by the
//! context that did it; everything else is refused and changes nothing. And QUERY,
//! which shows what there is to undo.

use anyhow::{Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;

use super::{nothing_mapped, Rig, PAGE_U64};
use crate::abi::{self, Context};
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};

pub fn tests() -> Vec<Test<Host>> {
    let mut all = chosen_tests();
    all.extend(fixed_tests());
    all
}

/// Those in which the kernel chooses all IOVAs.
pub fn chosen_tests() -> Vec<Test<Host>> {
    list_tests![
        unmapped_at_once,
        wrong_sizes,
        interior_addresses,
        another_context,
        twice,
        by_iova,
        never_mapped,
        mapped_twice,
        overlapping_buffers,
        many_of_one_place,
        query_shows_only_ones_own,
    ]
}

/// Those with ranges at fixed IOVAs.
pub fn fixed_tests() -> Vec<Test<Host>> {
    list_tests![
        physical_mappings_are_not_found_by_address,
        query_lists_what_there_is,
        query_from_anywhere,
    ]
}

/// The few that also run on devices that take long over each transfer.
pub fn essential_tests() -> Vec<Test<Host>> {
    list_tests![wrong_sizes, twice]
}

fn unmapped_at_once(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    for _ in 0..30 {
        let iova = rig.map(&memory)?;
        // The access fills the IOMMU's cache with the translation.
        rig.reaches(iova, &memory)?;
        rig.unmap(&memory)?;
        rig.refused(iova, &memory)?;
    }
    Ok(())
}

/// A mapped buffer whose mapping must survive what is tried on it.
struct Target {
    rig: Rig,
    memory: UserMemory,
    iova: u64,
    pins: i64,
    locked: u64,
}

impl Target {
    fn new(host: &Host) -> Result<Self> {
        let rig = Rig::new(host)?;
        let memory = UserMemory::scattered(8 * PAGE)?;
        let iova = rig.map(&memory)?;
        Ok(Self {
            iova,
            pins: ledger::pins()?,
            locked: ledger::locked()?,
            rig,
            memory,
        })
    }

    fn refuses_address(&self, va: u64, length: u64, want: Errno) -> Result<()> {
        expect::fails(
            &format!("unmap of {length:#x} bytes at {va:#x}"),
            self.rig.context().unmap_user(va, length),
            want,
        )
    }

    fn refuses_iova(&self, iova: u64, length: u64, want: Errno) -> Result<()> {
        expect::fails(
            &format!("unmap of {length:#x} bytes at IOVA {iova:#x}"),
            self.rig.context().unmap(iova, length),
            want,
        )
    }

    /// Nothing has changed; and at the end the right unmap works.
    fn done(mut self) -> Result<()> {
        expect::equal("pins", ledger::pins()?, self.pins)?;
        expect::equal("locked memory", ledger::locked()?, self.locked)?;
        let all = expect::succeeds("QUERY", self.rig.context().mappings())?;
        expect::equal("mappings", all.len(), 1)?;
        expect::equal(
            "where",
            (all[0].iova, all[0].length),
            (self.iova, self.memory.length()),
        )?;
        self.rig.reaches(self.iova, &self.memory)?;
        self.rig.unmap(&self.memory)?;
        self.rig.refused(self.iova, &self.memory)
    }
}

fn wrong_sizes(host: &Host) -> Result<()> {
    let target = Target::new(host)?;
    let va = target.memory.va();
    for pages in [1, 4, 7, 9, 16, 1 << 20] {
        target.refuses_address(va, pages * PAGE_U64, Errno::NOENT)?;
        target.refuses_iova(target.iova, pages * PAGE_U64, Errno::NOENT)?;
    }
    target.refuses_address(va, 8 * PAGE_U64 + 1, Errno::NOENT)?;
    target.refuses_address(va, 7 * PAGE_U64, Errno::NOENT)?;
    target.refuses_address(va, 0, Errno::INVAL)?;
    target.refuses_address(va, u64::MAX, Errno::OVERFLOW)?;
    target.refuses_iova(target.iova, 0, Errno::INVAL)?;
    target.refuses_iova(target.iova, u64::MAX, Errno::OVERFLOW)?;
    target.done()
}

fn interior_addresses(host: &Host) -> Result<()> {
    let target = Target::new(host)?;
    let va = target.memory.va();
    for (page, pages) in [(1, 1), (1, 7), (4, 4), (7, 1), (7, 2), (1, 8)] {
        let offset = page * PAGE_U64;
        target.refuses_address(va + offset, pages * PAGE_U64, Errno::NOENT)?;
        target.refuses_iova(target.iova + offset, pages * PAGE_U64, Errno::NOENT)?;
    }
    for (page, pages) in [(1, 1), (1, 9), (2, 16)] {
        let offset = page * PAGE_U64;
        target.refuses_address(va - offset, pages * PAGE_U64, Errno::NOENT)?;
        target.refuses_iova(target.iova - offset, pages * PAGE_U64, Errno::NOENT)?;
    }
    target.done()
}

fn another_context(host: &Host) -> Result<()> {
    let target = Target::new(host)?;
    let stranger = Context::open()?;
    // One that never mapped anything, and one that did.
    for _ in 0..2 {
        let (va, length) = (target.memory.va(), target.memory.length());
        let by_address = stranger.unmap_user(va, length);
        expect::fails("unmap by a stranger", by_address, Errno::NOENT)?;
        let by_iova = stranger.unmap(target.iova, length);
        expect::fails("unmap by a stranger", by_iova, Errno::NOENT)?;
        let batch = stranger.unmap_batch(&[(target.iova, length)]);
        let batch = batch.map_err(|refused| refused.error);
        expect::fails("batch by a stranger", batch, Errno::NOENT)?;
        let own = UserMemory::scattered(PAGE)?;
        expect::succeeds("map", stranger.map_user(own.va(), PAGE_U64))?;
    }
    drop(stranger);
    target.done()
}

fn twice(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    let iova = rig.map(&memory)?;
    rig.reaches(iova, &memory)?;
    rig.unmap(&memory)?;
    let (va, length) = (memory.va(), memory.length());
    let again = rig.context().unmap_user(va, length);
    expect::fails("a second unmap", again, Errno::NOENT)?;
    let again = rig.context().unmap(iova, length);
    expect::fails("a second unmap by IOVA", again, Errno::NOENT)?;
    rig.refused(iova, &memory)?;
    let iova = rig.map(&memory)?;
    rig.reaches(iova, &memory)
}

fn by_iova(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(3 * PAGE)?;
    let va = memory.va() + 100;
    // The way it was returned and given, and in whole pages.
    for exact in [true, false] {
        let iova = expect::succeeds("map", rig.context().map_user(va, 2 * PAGE_U64))?;
        rig.reaches(iova - 100, &memory)?;
        let (at, length) = match exact {
            true => (iova, 2 * PAGE_U64),
            false => (iova - 100, 3 * PAGE_U64),
        };
        expect::succeeds("unmap by IOVA", rig.context().unmap(at, length))?;
        rig.refused(iova - 100, &memory)?;
        let by_address = rig.context().unmap_user(va, 2 * PAGE_U64);
        expect::fails("unmap by address then", by_address, Errno::NOENT)?;
    }
    nothing_mapped(rig.context())
}

fn never_mapped(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    for va in [memory.va(), 0, 1 << 47, 0xffff_8880_0000_0000] {
        let answer = context.unmap_user(va, PAGE_U64);
        expect::fails(&format!("unmap of {va:#x}"), answer, Errno::NOENT)?;
    }
    Ok(())
}

fn physical_mappings_are_not_found_by_address(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    rig.bench.map(&page, iova)?;
    let va = abi::address(crate::mem::Memory::start(&page));
    let answer = rig.context().unmap_user(va, PAGE_U64);
    expect::fails("unmap by address", answer, Errno::NOENT)?;
    let batch = rig.context().unmap_batch(&[(iova, PAGE_U64)]);
    let batch = batch.map_err(|refused| refused.error);
    expect::fails("unmap in a batch", batch, Errno::NOENT)?;
    rig.reaches_at(iova, &page, 0)?;
    rig.bench.unmap(&page, iova)
}

fn mapped_twice(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    let (older, newer) = (rig.map(&memory)?, rig.map(&memory)?);
    expect::holds("the IOVAs differ", older != newer)?;
    rig.reaches(older, &memory)?;
    rig.reaches(newer, &memory)?;
    // The newest goes first.
    rig.unmap(&memory)?;
    rig.refused(newer, &memory)?;
    rig.reaches(older, &memory)?;
    rig.unmap(&memory)?;
    rig.refused(older, &memory)?;

    let (older, newer) = (rig.map(&memory)?, rig.map(&memory)?);
    let by_iova = rig.context().unmap(older, memory.length());
    expect::succeeds("unmap of the older", by_iova)?;
    rig.refused(older, &memory)?;
    rig.reaches(newer, &memory)?;
    rig.unmap(&memory)?;
    rig.refused(newer, &memory)?;
    nothing_mapped(rig.context())
}

fn overlapping_buffers(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(8 * PAGE)?;
    let whole = rig.map(&memory)?;
    let (va, length) = (memory.va() + 2 * PAGE_U64, 4 * PAGE_U64);
    let part = expect::succeeds("map of a part", rig.context().map_user(va, length))?;
    let same_start = expect::succeeds("map", rig.context().map_user(memory.va(), length))?;
    rig.reaches(whole, &memory)?;
    rig.reaches_at(part - 2 * PAGE_U64, &memory, 5 * PAGE)?;
    rig.unmap(&memory)?;
    rig.refused(whole, &memory)?;
    rig.reaches_at(part - 2 * PAGE_U64, &memory, 2 * PAGE)?;
    rig.reaches_at(same_start, &memory, 3 * PAGE)?;
    expect::succeeds("unmap of the part", rig.context().unmap_user(va, length))?;
    rig.refused_at(part - 2 * PAGE_U64, &memory, 2 * PAGE)?;
    rig.reaches_at(same_start, &memory, 0)?;
    let answer = rig.context().unmap_user(memory.va(), length);
    expect::succeeds("unmap of the one that begins like the whole", answer)
}

/// Several sizes of one place, several times each: by address each unmap takes the newest of its
/// size.
fn many_of_one_place(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let map = |pages: u64| {
        let answer = context.map_user(memory.va(), pages * PAGE_U64);
        expect::succeeds("map", answer)
    };
    let mut made = Vec::new();
    for pages in [1, 2, 1, 3, 2, 1, 3] {
        made.push((pages, map(pages)?));
    }
    for pages in [1, 3, 1, 2, 3, 2, 1] {
        let newest = made.iter().rposition(|(size, _)| *size == pages);
        let (_, iova) = made.remove(newest.context("one of each is left")?);
        let answer = context.unmap_user(memory.va(), pages * PAGE_U64);
        expect::succeeds("unmap", answer)?;
        let left = expect::succeeds("QUERY", context.mappings())?;
        expect::equal("mappings", left.len(), made.len())?;
        let found = left.iter().any(|one| one.iova == iova);
        expect::holds("the newest of that size is gone", !found)?;
    }
    nothing_mapped(&context)
}

fn query_lists_what_there_is(host: &Host) -> Result<()> {
    let rig = Rig::new(host)?;
    let context = rig.context();
    let memory = UserMemory::scattered(8 * PAGE)?;
    let page = Buffer::page()?;
    let place = fresh_iova(1);
    rig.bench.map(&page, place)?;
    let (va, length) = (memory.va() + PAGE_U64 + 9, 2 * PAGE_U64);
    let iova = expect::succeeds("map", context.map_user(va, length))?;
    let read_only = context.map_user_with(memory.va(), PAGE_U64, abi::READ);

    let all = expect::succeeds("QUERY", context.mappings())?;
    let one = |iova: u64| {
        let found = all.iter().copied().find(|one| one.iova == iova);
        expect::holds("QUERY lists it", found.is_some())?;
        Ok::<_, anyhow::Error>(found.unwrap_or_default())
    };
    let user = one(iova - 9)?;
    expect::equal("bytes", user.length, 3 * PAGE_U64)?;
    expect::equal("backing", user.backing, memory.va() + PAGE_U64)?;
    expect::equal("kind", user.kind, uapi::QAT_IOMMU_QUERY_USER)?;
    expect::equal("permissions", user.map_flags, abi::BOTH)?;
    let phys = one(place)?;
    expect::equal("bytes", phys.length, PAGE_U64)?;
    expect::equal("backing", phys.backing, page.phys())?;
    expect::equal("kind", phys.kind, uapi::QAT_IOMMU_QUERY_PHYS)?;
    expect::equal("permissions", phys.map_flags, abi::BOTH)?;
    if let Ok(iova) = read_only {
        expect::equal("permissions", one(iova)?.map_flags, abi::READ)?;
    }
    expect::equal("mappings", all.len(), 2 + usize::from(read_only.is_ok()))
}

fn query_shows_only_ones_own(host: &Host) -> Result<()> {
    let rig = Rig::new(host)?;
    let memory = UserMemory::scattered(PAGE)?;
    let contexts = [Context::open()?, Context::open()?];
    let mut iovas = [Vec::new(), Vec::new()];
    // By turns, so that they are neighbours.
    for round in 0..20 {
        let answer = contexts[round % 2].map_user(memory.va(), PAGE_U64);
        iovas[round % 2].push(expect::succeeds("map", answer)?);
    }
    for (context, iovas) in contexts.iter().zip(&mut iovas) {
        iovas.sort_unstable();
        let all = expect::succeeds("QUERY", context.mappings())?;
        let found: Vec<u64> = all.iter().map(|one| one.iova).collect();
        expect::equal("IOVAs", &found, &*iovas)?;
    }
    nothing_mapped(rig.context())
}

fn query_from_anywhere(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    let (high, low) = (fresh_iova(2), fresh_iova(2));
    let (high, low) = (high.max(low), high.min(low));
    for place in [high, low] {
        let answer = context.map_user_at(memory.va(), memory.length(), place);
        expect::succeeds("map", answer)?;
    }
    for (from, want) in [
        (0, low),
        (low - 1, low),
        (low, low),
        (low + 1, low),
        (low + 2 * PAGE_U64 - 1, low),
        (low + 2 * PAGE_U64, high),
        (high + PAGE_U64, high),
    ] {
        let found = expect::succeeds("QUERY", context.query(from))?;
        expect::equal(
            &format!("what QUERY finds from {from:#x}"),
            found.iova,
            want,
        )?;
    }
    for from in [high + 2 * PAGE_U64, 1 << 48, u64::MAX] {
        let answer = context.query(from).map(|found| found.iova);
        expect::fails(&format!("QUERY from {from:#x}"), answer, Errno::NOENT)?;
    }
    Ok(())
}
