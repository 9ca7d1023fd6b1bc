// SPDX-License-Identifier: GPL-2.0
//! Buffers from a byte to more than the memory below 4 GiB, each reached by the
//! device as a whole, and not a byte beyond.

use anyhow::Result;
use rustix::fs::MemfdFlags;

use super::{full_tables_end_qemu, small_pages, Rig, PAGE_U64};
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, skip, Test};
use crate::mem::user::{UserMemory, GIGANTIC};
use crate::mem::{available, Memory, HUGE, PAGE};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        one_byte,
        odd_lengths_cover_whole_pages,
        one_page,
        sixty_four_kib,
        two_mib,
        two_mib_and_a_page,
        sixty_four_mib,
        one_gib,
        more_than_four_gib,
    ]
}

/// Where the DMA API chooses.
pub fn shared_tests() -> Vec<Test<Host>> {
    list_tests![one_page, sixty_four_kib, two_mib, two_mib_and_a_page]
}

/// And where nothing of the tests' own can lie right behind a buffer.
pub fn shared_fixed_tests() -> Vec<Test<Host>> {
    list_tests![one_byte, odd_lengths_cover_whole_pages]
}

/// For a device that does not mind how many entries there are.
pub fn edu_tests() -> Vec<Test<Host>> {
    list_tests![
        two_mib,
        two_mib_and_a_page,
        sixty_four_mib,
        one_gib_of_small_pages,
    ]
}

fn maps(host: &Host, memory: &UserMemory) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let iova = rig.map(memory)?;
    expect::equal("offset of the IOVA in its page", iova % PAGE_U64, 0)?;
    rig.reaches(iova, memory)?;
    rig.unmap(memory)?;
    rig.refused(iova, memory)
}

fn one_byte(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    let va = memory.va() + 123;
    let iova = expect::succeeds("map", rig.context().map_user(va, 1))?;
    expect::equal("offset of the IOVA in its page", iova % PAGE_U64, 123)?;
    let iova = iova - 123;
    for offset in [0, 120, PAGE - 64] {
        rig.reaches_at(iova, &memory, offset)?;
    }
    // The page behind the buffer is not part of it.
    rig.refused_at(iova, &memory, PAGE)?;
    expect::succeeds("unmap", rig.context().unmap_user(va, 1))?;
    rig.refused_at(iova, &memory, 0)
}

fn odd_lengths_cover_whole_pages(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    for (offset, length, pages) in [
        (0, PAGE_U64 + 1, 2),
        (4095, 1, 1),
        (4095, 2, 2),
        (1, PAGE_U64, 2),
        (100, 2 * PAGE_U64 - 100, 2),
        (100, 2 * PAGE_U64 - 99, 3),
    ] {
        let va = memory.va() + offset;
        let iova = expect::succeeds("map", rig.context().map_user(va, length))?;
        expect::equal("offset of the IOVA in its page", iova % PAGE_U64, offset)?;
        let iova = iova - offset;
        for page in 0..pages {
            rig.reaches_at(iova, &memory, page * PAGE)?;
        }
        rig.refused_at(iova, &memory, pages * PAGE)?;
        let found = expect::succeeds("QUERY", rig.context().query(iova))?;
        expect::equal("bytes covered", found.length, pages as u64 * PAGE_U64)?;
        expect::succeeds("unmap", rig.context().unmap_user(va, length))?;
        rig.refused_at(iova, &memory, 0)?;
    }
    Ok(())
}

fn one_page(host: &Host) -> Result<()> {
    maps(host, &UserMemory::scattered(PAGE)?)
}

fn sixty_four_kib(host: &Host) -> Result<()> {
    maps(host, &UserMemory::scattered(64 << 10)?)
}

fn two_mib(host: &Host) -> Result<()> {
    maps(host, &small_pages(host, HUGE)?)
}

fn two_mib_and_a_page(host: &Host) -> Result<()> {
    maps(host, &small_pages(host, HUGE + PAGE)?)
}

fn sixty_four_mib(host: &Host) -> Result<()> {
    maps(host, &small_pages(host, 64 << 20)?)
}

/// In large pages, as the emulated PF hears of each entry.
fn one_gib(host: &Host) -> Result<()> {
    needs(GIGANTIC)?;
    let memory = match full_tables_end_qemu(host) {
        true => UserMemory::gigantic()?,
        false => UserMemory::transparent(GIGANTIC)?,
    };
    maps(host, &memory)
}

fn one_gib_of_small_pages(host: &Host) -> Result<()> {
    needs(GIGANTIC)?;
    let memory = UserMemory::scattered(GIGANTIC)?;
    maps(host, &memory)
}

fn needs(bytes: usize) -> Result<()> {
    let spare = 256 << 20;
    if available()? < u64::try_from(bytes + spare)? {
        return Err(skip(format!(
            "this machine has no {} MiB left",
            bytes >> 20
        )));
    }
    Ok(())
}

/// One page of 1 GiB, over and over: memory that this machine does not have.
fn more_than_four_gib(host: &Host) -> Result<()> {
    let flags = MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB;
    let Ok((first, file)) = UserMemory::memfd(GIGANTIC, flags) else {
        return Err(skip("this machine has no page of 1 GiB reserved"));
    };
    let times = 5;
    let memory = UserMemory::repeated(&file, GIGANTIC, times)?;
    let mut rig = Rig::new(host)?;
    let iova = rig.map(&memory)?;
    for time in 0..times {
        for offset in [0, GIGANTIC - PAGE] {
            rig.reaches_at(iova, &memory, time * GIGANTIC + offset)?;
        }
        // All of them are the same page.
        let seen = rig.peek(iova + u64::try_from(time * GIGANTIC)?)?;
        expect::equal("what the device reads", seen, Some(first.read(0, 64)))?;
    }
    let end = u64::try_from(times * GIGANTIC)?;
    expect::equal("beyond the end", rig.peek(iova + end)?, None)?;
    rig.unmap(&memory)?;
    rig.refused(iova, &memory)
}
