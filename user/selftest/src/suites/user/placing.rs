// SPDX-License-Identifier: GPL-2.0
//! Which IOVAs buffers get: those that the kernel chooses, and those that a caller
//! asks for by alignment or to the byte.

use anyhow::{ensure, Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::{Rig, PAGE_U64};
use crate::abi::{user::map_request, Context, Info};
use crate::credentials::{apart, become_nobody, drop_capability};
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::{self, Host};
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, HUGE, PAGE};

const HUGE_U64: u64 = 2 << 20;
/// The highest IOVA that the kernel chooses.
const CEILING: u64 = (1 << 48) - 1;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        chosen_in_the_right_place,
        chosen_downward_and_close_together,
        freed_ones_come_first,
        small_buffers_take_no_more_than_their_size,
        large_pages_are_aligned,
        ram_stays_free_for_one_to_one,
        alignment_is_honoured,
        bad_alignments,
        the_space_runs_out_and_recovers,
        fixed,
        fixed_touching_a_mapping,
        fixed_where_nothing_may_be,
        fixed_needs_the_capability,
        nobody_with_the_file_can_map,
    ]
}

/// Where the DMA API chooses.
pub fn shared_tests() -> Vec<Test<Host>> {
    list_tests![alignment_is_honoured, bad_alignments]
}

/// And what a caller may choose of the rest.
pub fn shared_fixed_tests() -> Vec<Test<Host>> {
    list_tests![
        fixed,
        fixed_touching_a_mapping,
        fixed_where_nothing_may_be,
        fixed_needs_the_capability,
        nobody_with_the_file_can_map,
    ]
}

fn touches(info: &Info, iova: u64, length: u64) -> bool {
    info.reserved
        .iter()
        .any(|range| range.first < iova + length && range.last >= iova)
}

fn chosen_in_the_right_place(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let info = context.info()?;
    let ram_end = *host::ram()?.last().context("no memory")?.end();
    let memory = UserMemory::scattered(64 * PAGE)?;
    for pages in [1, 2, 3, 5, 16, 64] {
        let length = pages * PAGE_U64;
        for _ in 0..20 {
            let iova = expect::succeeds("map", context.map_user(memory.va(), length))?;
            let last = iova + length - 1;
            let what = format!("{iova:#x}-{last:#x}");
            ensure!(iova != 0, "IOVA 0 was given out");
            ensure!(
                iova >= info.fixed.aperture_first && last <= info.fixed.aperture_last,
                "{what} is outside of the aperture"
            );
            ensure!(
                last <= CEILING,
                "{what} is above what every device can address"
            );
            ensure!(iova > ram_end, "{what} stands in the way of memory");
            ensure!(!touches(&info, iova, length), "{what} is reserved");
        }
    }
    Ok(())
}

fn chosen_downward_and_close_together(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let top = context.info()?.fixed.aperture_last.min(CEILING);
    let memory = UserMemory::scattered(PAGE)?;
    let iovas = (0..100)
        .map(|_| expect::succeeds("map", context.map_user(memory.va(), PAGE_U64)))
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        iovas[0] > top - (1 << 30),
        "the first IOVA is {:#x}, far from the top {top:#x}",
        iovas[0]
    );
    for pair in iovas.windows(2) {
        expect::equal("the next IOVA", pair[1], pair[0] - PAGE_U64)?;
    }
    Ok(())
}

fn freed_ones_come_first(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    let map = |length| expect::succeeds("map", context.map_user(memory.va(), length));
    let iovas = (0..50).map(|_| map(PAGE_U64)).collect::<Result<Vec<_>>>()?;
    for index in [7, 20, 21, 40] {
        expect::succeeds("unmap", context.unmap(iovas[index], PAGE_U64))?;
    }
    expect::equal("two pages", map(2 * PAGE_U64)?, iovas[21])?;
    expect::equal("a page", map(PAGE_U64)?, iovas[7])?;
    expect::equal("another page", map(PAGE_U64)?, iovas[40])?;
    expect::equal("a page more", map(PAGE_U64)?, iovas[49] - PAGE_U64)
}

/// What lies between them for the sake of alignment (where the IOMMU has pages of every power of
/// two) goes to the next small buffers.
fn small_buffers_take_no_more_than_their_size(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(20 * PAGE)?;
    let mut total = 0;
    for round in 0..60 {
        let pages = [1, 3, 7, 16, 20][round % 5];
        let iova = expect::succeeds("map", context.map_user(memory.va(), pages * PAGE_U64))?;
        let found = expect::succeeds("QUERY", context.query(iova))?;
        expect::equal("bytes covered", found.length, pages * PAGE_U64)?;
        total += pages * PAGE_U64;
    }
    let extent = |mappings: usize| -> Result<u64> {
        let all = expect::succeeds("QUERY", context.mappings())?;
        expect::equal("mappings", all.len(), mappings)?;
        let last = all.last().context("there are some")?;
        Ok(last.iova + last.length - all[0].iova)
    };
    let before = extent(60)?;
    let gaps = usize::try_from((before - total) / PAGE_U64)?;
    for _ in 0..gaps {
        expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
    }
    expect::equal(
        "bytes from the first to the last",
        extent(60 + gaps)?,
        before,
    )
}

/// A buffer with large pages begins where the IOMMU can use them; others do not care.
fn large_pages_are_aligned(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let sizes = rig.context().info()?.fixed.page_sizes;
    let off = UserMemory::scattered(PAGE)?;
    // So that what follows is not aligned by chance.
    let top = rig.map(&off)?;
    let huge = UserMemory::huge(HUGE)?;
    let iova = rig.map(&huge)?;
    if sizes & HUGE_U64 != 0 {
        expect::equal("offset from a multiple of 2 MiB", iova % HUGE_U64, 0)?;
    }
    rig.reaches(iova, &huge)?;
    // A part of a large page needs no alignment: it goes to the gap above.
    let (va, length) = (huge.va() + PAGE_U64, 3 * PAGE_U64);
    let part = expect::succeeds("map of a part", rig.context().map_user(va, length))?;
    expect::equal("IOVA of a part", part, top - length)
}

fn ram_stays_free_for_one_to_one(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(256 * PAGE)?;
    for _ in 0..50 {
        rig.map(&memory)?;
    }
    let page = Buffer::page()?;
    rig.bench.map(&page, page.phys())?;
    rig.reaches_at(page.phys(), &page, 0)?;
    rig.bench.unmap(&page, page.phys())
}

fn alignment_is_honoured(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(3 * PAGE)?;
    for alignment in [
        1 << 12,
        1 << 13,
        1 << 16,
        1 << 20,
        1 << 21,
        1 << 30,
        1 << 36,
    ] {
        for _ in 0..3 {
            let (va, length) = (memory.va(), memory.length());
            let answer = rig.context().map_user_aligned(va, length, alignment);
            let iova = expect::succeeds("map", answer)?;
            expect::equal("offset from the alignment", iova % alignment, 0)?;
            rig.reaches_at(iova, &memory, 2 * PAGE)?;
        }
    }
    // It is the page that is aligned; the buffer keeps its place in it.
    let answer = rig
        .context()
        .map_user_aligned(memory.va() + 77, 100, 1 << 21);
    let iova = expect::succeeds("map", answer)?;
    expect::equal("offset from the alignment", iova % HUGE_U64, 77)
}

fn bad_alignments(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    for alignment in [1, 8, 2048, 4095, 4097, 3 << 12, (1 << 21) + 1, u64::MAX] {
        expect::fails(
            &format!("map aligned to {alignment:#x}"),
            context.map_user_aligned(memory.va(), PAGE_U64, alignment),
            Errno::INVAL,
        )?;
    }
    let fixed = uapi::qat_iommu_map_user {
        flags: uapi::QAT_IOMMU_MAP_FIXED | crate::abi::BOTH,
        iova: fresh_iova(1),
        alignment: PAGE_U64,
        ..map_request(memory.va(), PAGE_U64)
    };
    expect::fails(
        "map at an IOVA, and aligned",
        context.map_user_as(fixed),
        Errno::INVAL,
    )?;
    expect::fails(
        "map aligned to 2^63, of which there is only IOVA 0",
        context.map_user_aligned(memory.va(), PAGE_U64, 1 << 63),
        Errno::NOSPC,
    )?;
    super::nothing_mapped(&context)
}

/// Of an alignment of a sixteenth of the space there are fifteen places, as 0 is none.
fn the_space_runs_out_and_recovers(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let size = rig.context().info()?.fixed.aperture_last.min(CEILING) + 1;
    let alignment = size / 16;
    let memory = UserMemory::scattered(PAGE)?;
    let map = |rig: &Rig| {
        rig.context()
            .map_user_aligned(memory.va(), PAGE_U64, alignment)
    };
    let mut iovas = Vec::new();
    loop {
        match map(&rig) {
            Ok(iova) => iovas.push(iova),
            Err(error) => {
                expect::fails("map in the full space", Err::<(), _>(error), Errno::NOSPC)?;
                break;
            }
        }
        ensure!(iovas.len() < 16, "there are more places than there can be");
    }
    expect::equal("places", iovas.len(), 15)?;
    rig.reaches_at(iovas[14], &memory, 0)?;
    // A refusal is no end: smaller alignments still fit, and a freed place is found.
    expect::succeeds(
        "map of no alignment",
        rig.context().map_user(memory.va(), 1),
    )?;
    expect::fails("map again", map(&rig), Errno::NOSPC)?;
    expect::succeeds("unmap", rig.context().unmap(iovas[8], PAGE_U64))?;
    rig.refused_at(iovas[8], &memory, 0)?;
    expect::equal("the freed place", map(&rig), Ok(iovas[8]))?;
    rig.reaches_at(iovas[8], &memory, 0)?;
    expect::fails("map in the full space", map(&rig), Errno::NOSPC)
}

fn fixed(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let (va, place) = (memory.va(), fresh_iova(4));
    let answer = rig.context().map_user_at(va, memory.length(), place);
    expect::equal("map at an IOVA", answer, Ok(place))?;
    rig.reaches(place, &memory)?;
    rig.unmap(&memory)?;
    rig.refused(place, &memory)?;

    let answer = rig.context().map_user_at(va + 5, PAGE_U64, place + 5);
    expect::equal("map at an IOVA within a page", answer, Ok(place + 5))?;
    rig.reaches_at(place, &memory, PAGE)?;
    for (va, iova) in [(va + 5, place), (va, place + 5), (va + 5, place + 6)] {
        expect::fails(
            "map at another place within the page",
            rig.context().map_user_at(va, PAGE_U64, iova),
            Errno::INVAL,
        )?;
    }
    expect::succeeds("unmap", rig.context().unmap_user(va + 5, PAGE_U64))
}

fn fixed_touching_a_mapping(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let (live, other) = (
        UserMemory::scattered(4 * PAGE)?,
        UserMemory::scattered(8 * PAGE)?,
    );
    let place = fresh_iova(16) + 4 * PAGE_U64;
    let answer = rig.context().map_user_at(live.va(), live.length(), place);
    expect::succeeds("map", answer)?;
    for (at, pages) in [
        (0, 4),
        (0, 1),
        (3, 1),
        (3, 5),
        (1, 2),
        (-1, 2),
        (-4, 5),
        (-2, 8),
    ] {
        let iova = place.wrapping_add_signed(at * 4096);
        expect::fails(
            &format!("map of {pages} pages at page {at} of another mapping"),
            rig.context()
                .map_user_at(other.va(), pages * PAGE_U64, iova),
            Errno::EXIST,
        )?;
    }
    // Another context is no other space.
    let stranger = Context::open()?;
    expect::fails(
        "map by another context",
        stranger.map_user_at(other.va(), PAGE_U64, place),
        Errno::EXIST,
    )?;
    // Nor is the physical interface.
    let page = Buffer::page()?;
    expect::fails(
        "map of a physical page there",
        rig.context().map(page.phys(), place, PAGE_U64),
        Errno::EXIST,
    )?;
    rig.reaches(place, &live)?;
    // Right beside it there is room.
    for at in [-1, 4] {
        let iova = place.wrapping_add_signed(at * 4096);
        let answer = rig.context().map_user_at(other.va(), PAGE_U64, iova);
        expect::succeeds("map beside it", answer)?;
    }
    rig.reaches(place, &live)
}

fn fixed_where_nothing_may_be(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let info = context.info()?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    let refuses = |iova: u64, want| {
        let answer = context.map_user_at(memory.va(), memory.length(), iova);
        expect::fails(&format!("map at {iova:#x}"), answer, want)
    };
    if info.fixed.aperture_first == 0 {
        refuses(0, Errno::ADDRNOTAVAIL)?;
    }
    for range in &info.reserved {
        if range.first > PAGE_U64 && range.last < info.fixed.aperture_last {
            refuses(range.first, Errno::ADDRNOTAVAIL)?;
            refuses(range.first - PAGE_U64, Errno::ADDRNOTAVAIL)?;
            refuses(range.last - (PAGE_U64 - 1), Errno::ADDRNOTAVAIL)?;
        }
    }
    refuses(info.fixed.aperture_last - (PAGE_U64 - 1), Errno::RANGE)?;
    if let Some(outside) = info.fixed.aperture_last.checked_add(1) {
        refuses(outside, Errno::RANGE)?;
        refuses(0xffff_ffff_ffff_e000, Errno::RANGE)?;
    }
    refuses(0xffff_ffff_ffff_f000, Errno::OVERFLOW)?;
    super::nothing_mapped(&context)
}

fn fixed_needs_the_capability(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    let (va, place) = (memory.va(), fresh_iova(1));
    apart(|| {
        drop_capability(CapabilitySet::SYS_RAWIO)?;
        let answer = context.map_user_at(va, PAGE_U64, place);
        expect::fails("map at an IOVA", answer, Errno::PERM)?;
        expect::succeeds("map anywhere", context.map_user(va, PAGE_U64))?;
        expect::succeeds("unmap", context.unmap_user(va, PAGE_U64))
    })?;
    super::nothing_mapped(&context)?;
    expect::succeeds("map with it", context.map_user_at(va, PAGE_U64, place))?;
    Ok(())
}

fn nobody_with_the_file_can_map(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let (va, length) = (memory.va(), memory.length());
    let context = rig.context();
    let iova = apart(|| {
        become_nobody()?;
        let at = context.map_user_at(va, length, fresh_iova(4));
        expect::fails("map at an IOVA by nobody", at, Errno::PERM)?;
        let iova = expect::succeeds("map by nobody", context.map_user(va, length))?;
        let found = expect::succeeds("QUERY by nobody", context.query(0))?;
        expect::equal("what QUERY finds", found.iova, iova)?;
        let batch = context.map_batch(&[(va, length), (va, 1)]);
        let batch = batch.map_err(|refused| refused.error);
        let iovas = expect::succeeds("batch by nobody", batch)?;
        let batch = context.unmap_batch(&[(iovas[0], length), (iovas[1], 1)]);
        let batch = batch.map_err(|refused| refused.error);
        expect::succeeds("batch unmap by nobody", batch)?;
        Ok(iova)
    })?;
    rig.reaches(iova, &memory)?;
    let context = rig.context();
    apart(|| {
        become_nobody()?;
        expect::succeeds("unmap by nobody", context.unmap_user(va, length))
    })?;
    rig.refused(iova, &memory)
}
