// SPDX-License-Identifier: GPL-2.0
//! Many buffers in one call: all of them or none, and which one was at fault.

use anyhow::Result;
use qat_iommu_uapi as uapi;
use rustix::io::Errno;
use rustix::mm::MprotectFlags;

use super::{nothing_mapped, Rig, NOWHERE, PAGE_U64};
use crate::abi::user::{self, Place, Refused};
use crate::abi::{self, Context};
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::{Host, PfState};
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::{Memory, PAGE};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        a_thousand,
        of_all_sizes,
        each_is_its_own,
        found_by_address_like_others,
        the_same_buffer_many_times,
        one_bad_buffer_spoils_all,
        one_bad_range_spoils_all,
        no_room_for_all,
        none,
        too_many,
        bad_arguments,
        bad_pointers,
        answer_that_cannot_be_written,
    ]
}

const COUNT: u64 = 1000;

fn pages_of(memory: &UserMemory, count: u64) -> Vec<Place> {
    (0..count)
        .map(|page| (memory.va() + page * PAGE_U64, PAGE_U64))
        .collect()
}

fn maps(context: &Context, places: &[Place]) -> Result<Vec<u64>> {
    let mapped = context.map_batch(places);
    expect::succeeds("batch", mapped.map_err(|refused| refused.error))
}

fn unmaps(context: &Context, places: &[Place]) -> Result<()> {
    let unmapped = context.unmap_batch(places);
    expect::succeeds("batch unmap", unmapped.map_err(|refused| refused.error))
}

fn a_thousand(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(COUNT as usize * PAGE)?;
    let (pins, locked) = (ledger::pins()?, ledger::locked()?);
    let iovas = maps(rig.context(), &pages_of(&memory, COUNT))?;
    expect::equal("IOVAs", iovas.len() as u64, COUNT)?;
    expect::equal("pins", ledger::pins()?, pins + COUNT as i64)?;
    expect::equal("locked KiB", ledger::locked()?, locked + 4 * COUNT)?;
    for page in (0..COUNT as usize).step_by(71) {
        let start = iovas[page].wrapping_sub((page * PAGE) as u64);
        rig.reaches_at(start, &memory, page * PAGE)?;
    }
    let ranges: Vec<Place> = iovas.iter().map(|iova| (*iova, PAGE_U64)).collect();
    unmaps(rig.context(), &ranges)?;
    for page in (0..COUNT as usize).step_by(71) {
        let start = iovas[page].wrapping_sub((page * PAGE) as u64);
        rig.refused_at(start, &memory, page * PAGE)?;
    }
    expect::equal("pins", ledger::pins()?, pins)?;
    expect::equal("locked KiB", ledger::locked()?, locked)?;
    nothing_mapped(rig.context())
}

fn of_all_sizes(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(64 * PAGE)?;
    let va = memory.va();
    let places = [
        (va, 1),
        (va + 4095, 2),
        (va + 5 * PAGE_U64 + 17, 3 * PAGE_U64),
        (va, 64 * PAGE_U64),
    ];
    let iovas = maps(rig.context(), &places)?;
    for ((place, length), iova) in places.iter().zip(&iovas) {
        expect::equal("offset", iova % PAGE_U64, place % PAGE_U64)?;
        let start = iova.wrapping_sub(place - va);
        let (first, last) = (place - va, place - va + length - 1);
        for page in first / PAGE_U64..=last / PAGE_U64 {
            rig.reaches_at(start, &memory, page as usize * PAGE)?;
        }
    }
    let ranges: Vec<Place> = iovas
        .iter()
        .zip(&places)
        .map(|(iova, (_, length))| (*iova, *length))
        .collect();
    unmaps(rig.context(), &ranges)?;
    rig.refused(iovas[3], &memory)
}

/// What a batch mapped is undone one by one, and the reverse.
fn each_is_its_own(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(10 * PAGE)?;
    let places = pages_of(&memory, 10);
    let iovas = maps(&context, &places)?;
    for (va, length) in places.iter().take(5) {
        expect::succeeds("unmap", context.unmap_user(*va, *length))?;
    }
    expect::succeeds("unmap", context.unmap(iovas[5], PAGE_U64))?;
    let left = expect::succeeds("QUERY", context.mappings())?;
    expect::equal("mappings", left.len(), 4)?;
    let single = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
    let mut ranges: Vec<Place> = iovas[6..].iter().map(|iova| (*iova, PAGE_U64)).collect();
    ranges.push((single, PAGE_U64));
    unmaps(&context, &ranges)?;
    nothing_mapped(&context)
}

/// The first unmap by address has a context note from then on what is where: batches too.
fn found_by_address_like_others(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let places = pages_of(&memory, 4);
    expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
    expect::succeeds("unmap", context.unmap_user(memory.va(), PAGE_U64))?;
    let iovas = maps(&context, &places)?;
    for (va, length) in places.iter().take(3) {
        expect::succeeds("unmap", context.unmap_user(*va, *length))?;
    }
    unmaps(&context, &[(iovas[3], PAGE_U64)])?;
    let again = context.unmap_user(places[3].0, PAGE_U64);
    expect::fails("unmap of what a batch unmapped", again, Errno::NOENT)?;
    nothing_mapped(&context)
}

fn the_same_buffer_many_times(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(PAGE)?;
    let places = vec![(memory.va(), PAGE_U64); 50];
    let iovas = maps(rig.context(), &places)?;
    for iova in iovas.iter().step_by(7) {
        rig.reaches_at(*iova, &memory, 0)?;
    }
    // By address the newest goes: the last of the batch.
    rig.unmap(&memory)?;
    rig.refused_at(iovas[49], &memory, 0)?;
    rig.reaches_at(iovas[48], &memory, 0)
}

fn one_bad_buffer_spoils_all(host: &Host) -> Result<()> {
    let rig = Rig::new(host)?;
    let context = rig.context();
    let memory = UserMemory::scattered(COUNT as usize * PAGE)?;
    let free = expect::succeeds("map", context.map_user(memory.va(), 1))?;
    expect::succeeds("unmap", context.unmap_user(memory.va(), 1))?;
    let (pins, locked) = (ledger::pins()?, ledger::locked()?);
    let good = pages_of(&memory, COUNT);
    let gone = NOWHERE;
    for (at, bad, want) in [
        (0, (gone, PAGE_U64), Errno::FAULT),
        (700, (gone, PAGE_U64), Errno::FAULT),
        (999, (gone, PAGE_U64), Errno::FAULT),
        (500, (memory.va(), 0), Errno::INVAL),
        (501, (memory.va(), u64::MAX), Errno::OVERFLOW),
        (502, (0xffff_8880_0000_0000, PAGE_U64), Errno::FAULT),
    ] {
        let mut places = good.clone();
        places[at] = bad;
        let want = Refused {
            error: want,
            at: u32::try_from(at)?,
        };
        expect::equal("the batch", context.map_batch(&places), Err(want))?;
        nothing_mapped(context)?;
        expect::equal("pins", ledger::pins()?, pins)?;
        expect::equal("locked KiB", ledger::locked()?, locked)?;
    }
    if host.pf_state == PfState::Shared {
        // The DMA API chooses as it likes.
        return Ok(());
    }
    // The IOVAs are free, too.
    let again = expect::succeeds("map", context.map_user(memory.va(), 1))?;
    expect::equal("the next IOVA", again, free)
}

fn one_bad_range_spoils_all(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(20 * PAGE)?;
    let iovas = maps(rig.context(), &pages_of(&memory, 20))?;
    let stranger = Context::open()?;
    let foreign = expect::succeeds("map", stranger.map_user(memory.va(), PAGE_U64))?;
    let good: Vec<Place> = iovas.iter().map(|iova| (*iova, PAGE_U64)).collect();
    for (at, bad, want) in [
        (0, (fresh_iova(1), PAGE_U64), Errno::NOENT),
        (19, (fresh_iova(1), PAGE_U64), Errno::NOENT),
        (10, (foreign, PAGE_U64), Errno::NOENT),
        (11, (iovas[11], 2 * PAGE_U64), Errno::NOENT),
        (12, (iovas[12], 0), Errno::INVAL),
        (13, (iovas[13], u64::MAX), Errno::OVERFLOW),
        // Named twice, the second time there is nothing.
        (14, (iovas[3], PAGE_U64), Errno::NOENT),
        (3, (iovas[14], PAGE_U64), Errno::NOENT),
    ] {
        let mut ranges = good.clone();
        ranges[at] = bad;
        let at = match at {
            3 => 14,
            other => u32::try_from(other)?,
        };
        let want = Refused { error: want, at };
        let answer = rig.context().unmap_batch(&ranges);
        expect::equal(&format!("the batch with {bad:x?}"), answer, Err(want))?;
        let left = expect::succeeds("QUERY", rig.context().mappings())?;
        expect::equal("mappings", left.len(), 20)?;
    }
    for page in [0, 3, 10, 14, 19] {
        let start = iovas[page].wrapping_sub((page * PAGE) as u64);
        rig.reaches_at(start, &memory, page * PAGE)?;
    }
    rig.reaches_at(foreign, &memory, 0)?;
    unmaps(rig.context(), &good)?;
    nothing_mapped(rig.context())
}

/// Some of the buffers get their place before it is clear that there are not enough.
fn no_room_for_all(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let size = context.info()?.fixed.aperture_last.min((1 << 48) - 1) + 1;
    let memory = UserMemory::scattered(PAGE)?;
    let (pins, locked) = (ledger::pins()?, ledger::locked()?);
    let mut list = user::buffers(&vec![(memory.va(), PAGE_U64); 20]);
    let mut request = user::map_batch_request(&mut list);
    // Of which there are seven: 0 is none.
    request.alignment = size / 8;
    let answer = context.ioctl(uapi::QAT_IOMMU_MAP_USER_BATCH, &mut request);
    expect::fails("the batch", answer, Errno::NOSPC)?;
    let fit = request.failed;
    // Of a shared PF's the driver's own memory may take one.
    let taken = u32::from(host.pf_state == PfState::Shared);
    expect::holds("as many fit as there are", (7 - taken..=7).contains(&fit))?;
    nothing_mapped(&context)?;
    expect::equal("pins", ledger::pins()?, pins)?;
    expect::equal("locked KiB", ledger::locked()?, locked)?;
    request.count = fit;
    let answer = context.ioctl(uapi::QAT_IOMMU_MAP_USER_BATCH, &mut request);
    expect::succeeds("the batch of those", answer)?;
    for buffer in &list[..usize::try_from(fit)?] {
        expect::equal("offset from the alignment", buffer.iova % (size / 8), 0)?;
    }
    Ok(())
}

fn none(_: &Host) -> Result<()> {
    let context = Context::open()?;
    expect::equal("a batch of none", context.map_batch(&[]), Ok(Vec::new()))?;
    expect::equal("an unmap of none", context.unmap_batch(&[]), Ok(()))
}

fn too_many(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    let most = usize::try_from(uapi::QAT_IOMMU_BATCH_MAX)?;
    let mut list = user::buffers(&vec![(memory.va(), PAGE_U64); most + 1]);
    let ranges = user::ranges(&vec![(fresh_iova(1), PAGE_U64); most + 1]);
    for count in [uapi::QAT_IOMMU_BATCH_MAX + 1, 1 << 24, u32::MAX] {
        let mut request = user::map_batch_request(&mut list);
        request.count = count;
        let answer = context.ioctl(uapi::QAT_IOMMU_MAP_USER_BATCH, &mut request);
        expect::fails(&format!("a batch of {count}"), answer, Errno::TOOBIG)?;
        let mut request = user::unmap_batch_request(&ranges);
        request.count = count;
        let answer = context.ioctl(uapi::QAT_IOMMU_UNMAP_BATCH, &mut request);
        expect::fails(&format!("an unmap of {count}"), answer, Errno::TOOBIG)?;
    }
    // One less is looked at.
    let mut request = user::unmap_batch_request(&ranges);
    request.count = uapi::QAT_IOMMU_BATCH_MAX;
    let answer = context.ioctl(uapi::QAT_IOMMU_UNMAP_BATCH, &mut request);
    expect::fails("an unmap of the most", answer, Errno::NOENT)?;
    nothing_mapped(&context)
}

fn bad_arguments(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    let mut list = user::buffers(&[(memory.va(), PAGE_U64)]);
    let mut refuses = |what: &str, spoil: fn(&mut uapi::qat_iommu_map_user_batch), want| {
        let mut request = user::map_batch_request(&mut list);
        spoil(&mut request);
        let answer = context.ioctl(uapi::QAT_IOMMU_MAP_USER_BATCH, &mut request);
        expect::fails(what, answer, want)
    };
    refuses("no permission", |one| one.flags = 0, Errno::INVAL)?;
    refuses("an unknown flag", |one| one.flags |= 8, Errno::OPNOTSUPP)?;
    let fixed = |one: &mut uapi::qat_iommu_map_user_batch| one.flags |= uapi::QAT_IOMMU_MAP_FIXED;
    refuses("fixed IOVAs", fixed, Errno::OPNOTSUPP)?;
    refuses("an alignment of 3", |one| one.alignment = 3, Errno::INVAL)?;
    refuses("an alignment of 1", |one| one.alignment = 1, Errno::INVAL)?;
    let ranges = user::ranges(&[(fresh_iova(1), PAGE_U64)]);
    let mut request = user::unmap_batch_request(&ranges);
    request.flags = 1;
    let answer = context.ioctl(uapi::QAT_IOMMU_UNMAP_BATCH, &mut request);
    expect::fails("an unknown flag", answer, Errno::OPNOTSUPP)?;
    nothing_mapped(&context)
}

fn bad_pointers(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let gone = NOWHERE;
    let (edge, beyond) = UserMemory::scattered(2 * PAGE)?.split(PAGE)?;
    beyond.protect(MprotectFlags::empty())?;
    let across = edge.va() + PAGE_U64 - 24;
    for pointer in [
        0,
        gone,
        beyond.va(),
        across,
        0xffff_8880_0000_0000,
        u64::MAX - 47,
    ] {
        let mut list = user::buffers(&[(gone, 1), (gone, 1)]);
        let mut request = user::map_batch_request(&mut list);
        request.buffers = pointer;
        let answer = context.ioctl(uapi::QAT_IOMMU_MAP_USER_BATCH, &mut request);
        expect::fails(&format!("a list at {pointer:#x}"), answer, Errno::FAULT)?;
        let ranges = user::ranges(&[(gone, 1), (gone, 1)]);
        let mut request = user::unmap_batch_request(&ranges);
        request.ranges = pointer;
        let answer = context.ioctl(uapi::QAT_IOMMU_UNMAP_BATCH, &mut request);
        expect::fails(&format!("ranges at {pointer:#x}"), answer, Errno::FAULT)?;
    }
    nothing_mapped(&context)
}

/// The caller would not learn the IOVAs, so nothing is mapped.
fn answer_that_cannot_be_written(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    let list = UserMemory::scattered(PAGE)?;
    let pins = ledger::pins()?;
    for (index, word) in [memory.va(), PAGE_U64, 0]
        .iter()
        .cycle()
        .take(30)
        .enumerate()
    {
        list.write(8 * index, &word.to_ne_bytes());
    }
    list.protect(MprotectFlags::READ)?;
    let mut request = user::map_batch_request(&mut []);
    request.buffers = abi::address(list.start());
    request.count = 10;
    let answer = context.ioctl(uapi::QAT_IOMMU_MAP_USER_BATCH, &mut request);
    expect::fails("a list that is read-only", answer, Errno::FAULT)?;
    nothing_mapped(&context)?;
    expect::equal("pins", ledger::pins()?, pins)
}
