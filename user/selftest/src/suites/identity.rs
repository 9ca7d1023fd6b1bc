// SPDX-License-Identifier: GPL-2.0
//! A PF whose accesses are not translated: no IOMMU, or a shared PF under
//! `iommu=pt`. Nothing can be programmed, so 1:1 is all that can be honoured; it
//! is tracked as anywhere else.

use anyhow::{Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;

use super::freed::{freed_while_mapped, not_handed_on};
use crate::abi::Context;
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::{self, Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::mem::Buffer;
use crate::module::{Loaded, KCLIENT_RUST};

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        info_says_so,
        one_to_one_is_tracked,
        another_address_is_refused,
        unmap_is_exact,
        another_context_is_refused,
        overlap_is_refused,
        closing_forgets,
        memory_is_kept,
        bad_ranges,
        kernel_clients,
    ]
}

/// Of a PF that is owned all the same.
pub fn owned_tests() -> Vec<Test<Host>> {
    list_tests![the_log_says_so]
}

fn info_says_so(host: &Host) -> Result<()> {
    host::expect_mode(uapi::QAT_IOMMU_MODE_UNTRANSLATED)?;
    let info = Context::open()?.info()?;
    expect::equal("PFs", info.pfs.len(), host.pfs)?;
    for pf in &info.pfs {
        expect::equal("translated", pf.flags & uapi::QAT_IOMMU_PF_TRANSLATED, 0)?;
    }
    Ok(())
}

fn the_log_says_so(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    pf.unbind()?;
    let ((), log) = host::logged(|| pf.bind(OWN_DRIVER))?;
    let line = log
        .lines()
        .find(|line| line.contains("qat_iommu") && line.contains(&pf.0))
        .with_context(|| format!("the log says nothing of {}:\n{log}", pf.0))?;
    expect::holds(
        &format!("the log says that it is not translated: {line}"),
        line.contains("translat"),
    )
}

fn one_to_one_is_tracked(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = page.phys();
    bench.map(&page, iova)?;
    bench.reaches(iova, &page)?;
    bench.unmap(&page, iova)?;
    expect::fails(
        "second unmap",
        bench.context.unmap(iova, PAGE_U64),
        Errno::NOENT,
    )?;
    bench.map(&page, iova)?;
    bench.unmap(&page, iova)
}

fn another_address_is_refused(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let (page, two) = (Buffer::page()?, Buffer::pages(2)?);
    for iova in [
        fresh_iova(1),
        page.phys() + PAGE_U64,
        two.phys(),
        0xfee0_0000,
    ] {
        expect::fails(
            &format!("map at {iova:#x}"),
            context.map(page.phys(), iova, PAGE_U64),
            Errno::ADDRNOTAVAIL,
        )?;
        expect::fails("unmap of it", context.unmap(iova, PAGE_U64), Errno::NOENT)?;
    }
    Ok(())
}

fn unmap_is_exact(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let buffer = Buffer::pages(4)?;
    let iova = buffer.phys();
    let mapped = expect::succeeds("map", context.map(iova, iova, 4 * PAGE_U64 - 1))?;
    expect::equal("bytes mapped", mapped, 4 * PAGE_U64)?;
    for (start, pages) in [(0, 1), (0, 3), (1, 3), (0, 5), (3, 1)] {
        expect::fails(
            &format!("unmap of {pages} pages from page {start}"),
            context.unmap(iova + start * PAGE_U64, pages * PAGE_U64),
            Errno::NOENT,
        )?;
    }
    expect::succeeds("unmap", context.unmap(iova, 4 * PAGE_U64))
}

fn another_context_is_refused(_: &Host) -> Result<()> {
    let (context, stranger) = (Context::open()?, Context::open()?);
    let page = Buffer::page()?;
    let iova = page.phys();
    expect::succeeds("map", context.map(iova, iova, PAGE_U64))?;
    expect::fails(
        "a stranger's unmap",
        stranger.unmap(iova, PAGE_U64),
        Errno::NOENT,
    )?;
    expect::fails(
        "a stranger's map",
        stranger.map(iova, iova, PAGE_U64),
        Errno::EXIST,
    )?;
    expect::succeeds("unmap", context.unmap(iova, PAGE_U64))
}

fn overlap_is_refused(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let buffer = Buffer::pages(6)?;
    let at = |page: u64| buffer.phys() + page * PAGE_U64;
    expect::succeeds("map", context.map(at(2), at(2), 2 * PAGE_U64))?;
    for (start, pages) in [(1, 2), (3, 2), (2, 2), (2, 1), (0, 6)] {
        expect::fails(
            &format!("map of {pages} pages from page {start}"),
            context.map(at(start), at(start), pages * PAGE_U64),
            Errno::EXIST,
        )?;
    }
    expect::succeeds("map before it", context.map(at(0), at(0), 2 * PAGE_U64))?;
    expect::succeeds("map behind it", context.map(at(4), at(4), 2 * PAGE_U64))?;
    Ok(())
}

fn closing_forgets(_: &Host) -> Result<()> {
    let page = Buffer::page()?;
    let iova = page.phys();
    let context = Context::open()?;
    expect::succeeds("map", context.map(iova, iova, PAGE_U64))?;
    drop(context);
    let context = Context::open()?;
    expect::fails("unmap", context.unmap(iova, PAGE_U64), Errno::NOENT)?;
    expect::succeeds("map", context.map(iova, iova, PAGE_U64))?;
    Ok(())
}

fn memory_is_kept(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let freed = freed_while_mapped(&context, |_, phys| phys)?;
    not_handed_on(&freed)?;
    for phys in freed {
        expect::succeeds("unmap", context.unmap(phys, PAGE_U64))?;
    }
    Ok(())
}

fn bad_ranges(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    let phys = page.phys();
    let end = 1u64 << host::physical_bits()?;
    expect::fails("0 bytes", context.map(phys, phys, 0), Errno::INVAL)?;
    expect::fails(
        "unaligned",
        context.map(phys + 8, phys + 8, PAGE_U64),
        Errno::INVAL,
    )?;
    expect::fails("wrap", context.map(phys, phys, u64::MAX), Errno::OVERFLOW)?;
    expect::fails(
        "beyond physical memory",
        context.map(end, end, PAGE_U64),
        Errno::RANGE,
    )?;
    expect::fails(
        "neither read nor write",
        context.map_with(phys, phys, PAGE_U64, 0),
        Errno::INVAL,
    )?;
    expect::fails("unmap of 0 bytes", context.unmap(phys, 0), Errno::INVAL)?;
    expect::fails(
        "unmap of nothing",
        context.unmap(phys, PAGE_U64),
        Errno::NOENT,
    )
}

fn kernel_clients(host: &Host) -> Result<()> {
    // It tries the calls when it is loaded, and refuses to load if one answers otherwise.
    Loaded::new(host, KCLIENT_RUST, &["expect=0"]).map(drop)
}
