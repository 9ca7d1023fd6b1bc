// SPDX-License-Identifier: GPL-2.0
//! Several PFs that their own driver holds: a space for each, no default among
//! them, and classic mappings in all of them or in none.

use anyhow::Result;
use qat_iommu_uapi as uapi;
use rustix::io::Errno;

use super::{facts, foreign, Its, Nobody, Stage, PAGE_U64};
use crate::abi::Context;
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::{self, Bdf, Host};
use crate::hostdrv::Driver;
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::module::{CommandFile, Loaded, KCLIENT};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        a_space_each,
        no_default_among_them,
        a_buffer_is_for_one_of_them,
        a_choice_that_is_used_stays,
        one_mapping_reaches_all,
        the_last_refuses,
        one_in_the_middle_refuses,
        joining_with_live_mappings,
        leaving_with_a_live_mapping,
    ]
}

pub fn virtio_tests() -> Vec<Test<Host>> {
    list_tests![
        a_space_each,
        no_default_among_them,
        a_buffer_is_for_one_of_them,
        a_choice_that_is_used_stays,
        classic_ranges_are_not_supported,
    ]
}

fn a_space_each(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Its; 3])?;
    let mut spaces = Vec::new();
    for pf in &stage.pfs {
        let found = facts(pf)?;
        let flag = uapi::QAT_IOMMU_PF_OWNED | uapi::QAT_IOMMU_PF_INCOMPLETE;
        expect::equal("flags for owned and incomplete", found.flags & flag, 0)?;
        let context = Context::open()?;
        expect::equal("space", pf.attach(&context)?, found.space)?;
        let info = context.info()?.fixed;
        expect::equal("space that INFO says", info.space, found.space)?;
        expect::equal("mode", info.mode, uapi::QAT_IOMMU_MODE_SHARED)?;
        spaces.push(found.space);
    }
    spaces.sort_unstable();
    spaces.dedup();
    expect::equal("spaces", spaces.len(), stage.pfs.len())
}

fn no_default_among_them(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Its; 3])?;
    let context = Context::open()?;
    let buffer = UserMemory::scattered(PAGE)?;
    let map = |context: &Context| context.map_user(buffer.va(), PAGE_U64);
    host::expect_mode(uapi::QAT_IOMMU_MODE_NONE)?;
    expect::fails("ATTACH", context.attach_default(), Errno::NODEV)?;
    expect::fails("map without a choice", map(&context), Errno::NODEV)?;
    // One alone is the default.
    let (first, second, third) = stage.three()?;
    first.unbind()?;
    third.unbind()?;
    let only = facts(second)?.space;
    expect::equal("the default space", context.attach_default(), Ok(only))?;
    expect::succeeds("map", map(&context))?;
    // It stays the choice of who made it.
    stage.bind(third, Its)?;
    expect::succeeds("map by the same", map(&context))?;
    expect::fails("map by another", map(&Context::open()?), Errno::NODEV)
}

fn a_buffer_is_for_one_of_them(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Its; 3])?;
    for pf in &stage.pfs {
        let others: Vec<&Bdf> = stage.pfs.iter().filter(|other| *other != pf).collect();
        let context = Context::open()?;
        pf.attach(&context)?;
        let buffer = UserMemory::scattered(3 * PAGE)?;
        // Away from what the drivers have, each in its own space.
        let answer = context.map_user_aligned(buffer.va(), buffer.length(), 1 << 21);
        let iova = expect::succeeds("map", answer)?;
        stage.reach(&[pf], iova, &buffer)?;
        stage.refused(&others, iova, &buffer)?;
        let answer = context.unmap_user(buffer.va(), buffer.length());
        expect::succeeds("unmap", answer)?;
        stage.refused(&[pf], iova, &buffer)?;
    }
    Ok(())
}

fn a_choice_that_is_used_stays(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Its; 3])?;
    let (first, second, third) = stage.three()?;
    let context = Context::open()?;
    let buffer = UserMemory::scattered(PAGE)?;
    first.attach(&context)?;
    second.attach(&context)?;
    let answer = context.map_user(buffer.va(), PAGE_U64);
    expect::succeeds("map", answer)?;
    expect::equal(
        "the same again",
        second.attach(&context)?,
        facts(second)?.space,
    )?;
    expect::holds("another is refused", third.attach(&context).is_err())?;
    let answer = context.unmap_user(buffer.va(), PAGE_U64);
    expect::succeeds("unmap", answer)?;
    expect::equal("then not", third.attach(&context)?, facts(third)?.space)
}

fn one_mapping_reaches_all(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Its; 3])?;
    let (first, second, third) = stage.three()?;
    let all = [first, second, third];
    let pages = Buffer::pages(4)?;
    let iova = fresh_iova(4);
    // With a choice, too, and whoever unmaps: the call, or the end of the context.
    for (chosen, closes) in [(None, false), (Some(second), false), (Some(third), true)] {
        let context = Context::open()?;
        if let Some(pf) = chosen {
            pf.attach(&context)?;
        }
        stage.refused(&all, iova, &pages)?;
        let answer = context.map(pages.phys(), iova, 4 * PAGE_U64);
        expect::succeeds("map", answer)?;
        stage.reach(&all, iova, &pages)?;
        if !closes {
            expect::succeeds("unmap", context.unmap(iova, 4 * PAGE_U64))?;
        }
        drop(context);
        stage.refused(&all, iova, &pages)?;
    }
    Ok(())
}

/// A map that the DMA API of one PF stands in the way of is made for none.
fn refused_by(stage: &Stage<'_>, refusing: &Bdf) -> Result<()> {
    let others: Vec<&Bdf> = stage.pfs.iter().filter(|pf| *pf != refusing).collect();
    let all: Vec<&Bdf> = stage.pfs.iter().collect();
    let context = Context::open()?;
    let pages = Buffer::pages(8)?;
    let (driver, held) = foreign(refusing)?;
    let end = held.dma + 64 * PAGE_U64;
    // At its beginning, in its midst, with room before it, and at its end.
    for (iova, count) in [
        (held.dma, 1),
        (held.dma + 5 * PAGE_U64, 8),
        (held.dma - 4 * PAGE_U64, 8),
        (end - PAGE_U64, 1),
    ] {
        let length = count * PAGE_U64;
        let answer = context.map(pages.phys(), iova, length);
        let what = format!("map of {count} pages at {iova:#x}");
        expect::fails(&what, answer, Errno::ADDRINUSE)?;
        expect::fails("unmap", context.unmap(iova, length), Errno::NOENT)?;
        expect::equal("mappings", all_mappings(stage)?, 0)?;
        stage.refused(&others, iova, &pages)?;
    }
    let before = held.dma - 4 * PAGE_U64;
    stage.refused(&[refusing], before, &Buffer::pages(4)?)?;
    // The driver's memory is its own still, and its address free for us when it is.
    driver.fill(&held, 0x33)?;
    let seen = driver.peek(held.dma)?;
    expect::equal("the driver's memory", seen, Some(0x3333_3333_3333_3333))?;
    let at = held.dma;
    driver.free(held)?;
    let answer = context.map(pages.phys(), at, 8 * PAGE_U64);
    expect::succeeds("map when it is gone", answer)?;
    stage.reach(&all, at, &pages)?;
    expect::succeeds("unmap", context.unmap(at, 8 * PAGE_U64))?;
    stage.refused(&all, at, &pages)?;
    for pf in &stage.pfs {
        Driver::of(pf).expect("churn 3 4096", "ok 3")?;
    }
    Ok(())
}

/// What contexts see of all spaces; a mapping that nobody owns is seen by nobody.
fn all_mappings(stage: &Stage<'_>) -> Result<usize> {
    let mut count = 0;
    for pf in &stage.pfs {
        let context = Context::open()?;
        pf.attach(&context)?;
        count += expect::succeeds("QUERY", context.mappings())?.len();
    }
    Ok(count)
}

fn the_last_refuses(host: &Host) -> Result<()> {
    let stage = Stage::with(host, &["shared_fixed=any"], &[Its; 3])?;
    let (_, _, last) = stage.three()?;
    refused_by(&stage, last)
}

fn one_in_the_middle_refuses(host: &Host) -> Result<()> {
    let stage = Stage::with(host, &["shared_fixed=any"], &[Its; 3])?;
    let (_, middle, _) = stage.three()?;
    refused_by(&stage, middle)
}

fn joining_with_live_mappings(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Its, Nobody, Nobody])?;
    let (first, second, third) = stage.three()?;
    let client = Loaded::new(host, KCLIENT, &[])?;
    let commands = CommandFile::kclient();
    let context = Context::open()?;
    let (page, huge, kernel) = (Buffer::page()?, Buffer::huge(1)?, Buffer::page()?);
    let (page_at, huge_at, kernel_at) = (fresh_iova(1), fresh_iova(512), fresh_iova(1));
    expect::succeeds("map", context.map(page.phys(), page_at, PAGE_U64))?;
    expect::succeeds("map", context.map(huge.phys(), huge_at, 512 * PAGE_U64))?;
    let map = format!("map {:#x} {kernel_at:#x} 4096", kernel.phys());
    commands.expect(&map, "0")?;
    let reach = |pfs: &[_]| {
        stage.reach(pfs, page_at, &page)?;
        stage.reach(pfs, huge_at, &huge)?;
        stage.reach(pfs, kernel_at, &kernel)
    };
    let joined = || -> Result<()> {
        reach(&[first])?;
        stage.bind(second, Its)?;
        reach(&[first, second])?;
        stage.bind(third, Its)?;
        reach(&[first, second, third])?;
        for pf in [second, third] {
            let flag = uapi::QAT_IOMMU_PF_INCOMPLETE;
            expect::equal("flag for incomplete", facts(pf)?.flags & flag, 0)?;
        }
        // The one that had them first goes.
        first.unbind()?;
        reach(&[second, third])?;
        stage.bind(first, Its)?;
        reach(&[first, second, third])
    };
    let result = joined();
    commands.expect(&format!("unmap {kernel_at:#x} 4096"), "0")?;
    drop(client);
    result?;
    expect::succeeds("unmap", context.unmap(page_at, PAGE_U64))?;
    let all = [first, second, third];
    stage.refused(&all, page_at, &page)?;
    stage.refused(&all, kernel_at, &kernel)?;
    stage.reach(&all, huge_at, &huge)
}

fn leaving_with_a_live_mapping(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Its; 3])?;
    let (first, second, third) = stage.three()?;
    let context = Context::open()?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    first.unbind()?;
    third.unbind()?;
    stage.reach(&[second], iova, &page)?;
    let again = context.map(page.phys(), iova, PAGE_U64);
    expect::fails("a second map", again, Errno::EXIST)?;
    expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
    stage.bind(first, Its)?;
    stage.bind(third, Its)?;
    stage.refused(&[first, second, third], iova, &page)
}

fn classic_ranges_are_not_supported(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Its; 3])?;
    let (first, second, third) = stage.three()?;
    let context = Context::open()?;
    let page = Buffer::page()?;
    for iova in [fresh_iova(1), 0x1000_0000] {
        let answer = context.map(page.phys(), iova, PAGE_U64);
        expect::fails("map", answer, Errno::OPNOTSUPP)?;
        stage.refused(&[first, second, third], iova, &page)?;
    }
    Ok(())
}
