// SPDX-License-Identifier: GPL-2.0
//! Owned PFs and shared ones on one host: the owned space is the default, and what
//! cannot be mapped for all is mapped for none, whichever kind refuses.

use anyhow::Result;
use qat_iommu_uapi as uapi;
use rustix::io::Errno;

use super::{facts, foreign, listed, refuses_to_own, tells, Its, Nobody, Stage, Us, PAGE_U64};
use crate::abi::Context;
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::{self, Host};
use crate::hostdrv::Driver;
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::watching;

const INCOMPLETE: u32 = uapi::QAT_IOMMU_PF_INCOMPLETE;
const NARROW: &str = "ids=8086:4942/38";
const BEYOND: u64 = 1 << 38;
const LOW: u64 = 0x1000_0000;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        the_owned_space_is_the_default,
        one_mapping_reaches_all,
        a_shared_pf_refuses,
        an_owned_pf_refuses,
        an_owned_pf_joins_shared_ones,
        an_owned_pf_cannot_join_shared_ones,
        a_shared_pf_lacks_low_mappings,
        a_shared_pf_lacks_what_its_driver_holds,
    ]
}

pub fn virtio_tests() -> Vec<Test<Host>> {
    list_tests![the_owned_space_is_the_default, virtio_refuses_for_all]
}

fn the_owned_space_is_the_default(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Its, Us, Its])?;
    let (first, owned, third) = stage.three()?;
    host::expect_mode(uapi::QAT_IOMMU_MODE_OWNED)?;
    let context = Context::open()?;
    let space = expect::succeeds("ATTACH", context.attach_default())?;
    expect::equal("the default space", space, facts(owned)?.space)?;
    let buffer = UserMemory::scattered(2 * PAGE)?;
    // Both away from what the drivers have in their own spaces.
    let answer = context.map_user_aligned(buffer.va(), buffer.length(), 1 << 34);
    let iova = expect::succeeds("map", answer)?;
    stage.reach(&[owned], iova, &buffer)?;
    stage.refused(&[first, third], iova, &buffer)?;
    let other = Context::open()?;
    first.attach(&other)?;
    let answer = other.map_user_aligned(buffer.va(), buffer.length(), 1 << 21);
    let theirs = expect::succeeds("map for a shared PF", answer)?;
    stage.reach(&[first], theirs, &buffer)?;
    stage.refused(&[owned, third], theirs, &buffer)?;
    drop((context, other));
    stage.refused(&[owned], iova, &buffer)?;
    stage.refused(&[first], theirs, &buffer)
}

fn one_mapping_reaches_all(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Its, Us, Its])?;
    let (first, owned, third) = stage.three()?;
    let all = [first, owned, third];
    let context = Context::open()?;
    let pages = Buffer::pages(4)?;
    let iova = fresh_iova(4);
    let map = || context.map(pages.phys(), iova, 4 * PAGE_U64);
    expect::succeeds("map", map())?;
    stage.reach(&all, iova, &pages)?;
    expect::fails("a second map", map(), Errno::EXIST)?;
    stage.reach(&all, iova, &pages)?;
    expect::succeeds("unmap", context.unmap(iova, 4 * PAGE_U64))?;
    stage.refused(&all, iova, &pages)?;
    // What is only in the way in one of them is in the way.
    let buffer = UserMemory::scattered(PAGE)?;
    for pf in all {
        let other = Context::open()?;
        pf.attach(&other)?;
        let answer = other.map_user_at(buffer.va(), PAGE_U64, iova + PAGE_U64);
        expect::succeeds("map of a buffer", answer)?;
        expect::fails("map around it", map(), Errno::EXIST)?;
        drop(other);
        stage.refused(&all, iova, &pages)?;
    }
    expect::succeeds("map", map())?;
    stage.reach(&all, iova, &pages)
}

/// The owned space is made before that of the PF that refuses.
fn a_shared_pf_refuses(host: &Host) -> Result<()> {
    let stage = Stage::with(host, &["shared_fixed=any"], &[Us, Its, Its])?;
    let (owned, second, refusing) = stage.three()?;
    let context = Context::open()?;
    let pages = Buffer::pages(8)?;
    let (_, held) = foreign(refusing)?;
    for iova in [held.dma, held.dma - 4 * PAGE_U64] {
        let map = || context.map(pages.phys(), iova, 8 * PAGE_U64);
        expect::fails("map", map(), Errno::ADDRINUSE)?;
        stage.refused(&[owned, second], iova, &pages)?;
        // Nor is anything left on record: without that PF it can be mapped.
        refusing.unbind()?;
        let without = map();
        let reached = stage.reach(&[owned, second], iova, &pages);
        let unmapped = context.unmap(iova, 8 * PAGE_U64);
        stage.bind(refusing, Its)?;
        expect::succeeds("map without it", without)?;
        reached?;
        expect::succeeds("unmap", unmapped)?;
        stage.refused(&[owned, second], iova, &pages)?;
        // Its memory went with its driver.
        let (_, again) = foreign(refusing)?;
        expect::equal("its memory is there again", again.dma, held.dma)?;
    }
    Ok(())
}

/// The owned space comes last, and its aperture ends before those of the others.
fn an_owned_pf_refuses(host: &Host) -> Result<()> {
    let stage = Stage::with(host, &[NARROW], &[Its, Its, Us])?;
    let (first, second, narrow) = stage.three()?;
    let context = Context::open()?;
    let pages = Buffer::pages(2)?;
    for iova in [BEYOND, BEYOND - PAGE_U64] {
        let map = || context.map(pages.phys(), iova, 2 * PAGE_U64);
        expect::fails("map", map(), Errno::RANGE)?;
        stage.refused(&[first, second], iova, &pages)?;
        narrow.unbind()?;
        expect::succeeds("map without it", map())?;
        stage.reach(&[first, second], iova, &pages)?;
        expect::succeeds("unmap", context.unmap(iova, 2 * PAGE_U64))?;
        stage.bind(narrow, Us)?;
    }
    Ok(())
}

fn an_owned_pf_joins_shared_ones(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Its, Its, Nobody])?;
    let (first, second, owned) = stage.three()?;
    let all = [first, second, owned];
    let context = Context::open()?;
    let pages = Buffer::pages(4)?;
    let iova = fresh_iova(4);
    expect::succeeds("map", context.map(pages.phys(), iova, 4 * PAGE_U64))?;
    stage.bind(owned, Us)?;
    stage.reach(&all, iova, &pages)?;
    first.unbind()?;
    second.unbind()?;
    stage.reach(&[owned], iova, &pages)?;
    stage.bind(second, Its)?;
    stage.reach(&[second, owned], iova, &pages)?;
    stage.bind(first, Its)?;
    expect::succeeds("unmap", context.unmap(iova, 4 * PAGE_U64))?;
    stage.refused(&all, iova, &pages)
}

fn an_owned_pf_cannot_join_shared_ones(host: &Host) -> Result<()> {
    let stage = Stage::with(host, &[NARROW], &[Its, Its, Nobody])?;
    let (first, second, narrow) = stage.three()?;
    let context = Context::open()?;
    let (low, high) = (Buffer::page()?, Buffer::page()?);
    let low_at = fresh_iova(1);
    expect::succeeds("map", context.map(low.phys(), low_at, PAGE_U64))?;
    expect::succeeds("map", context.map(high.phys(), BEYOND, PAGE_U64))?;
    let log = refuses_to_own(narrow, Errno::RANGE)?;
    tells(&log, narrow, "refused")?;
    tells(&log, narrow, "cannot be made for it")?;
    // What could be made for it is not there any more.
    let listed = watching::listing("mappings")?;
    expect::equal("mappings in the spaces of the others", listed.len(), 4)?;
    stage.reach(&[first, second], low_at, &low)?;
    stage.reach(&[first, second], BEYOND, &high)?;
    expect::succeeds("unmap", context.unmap(BEYOND, PAGE_U64))?;
    stage.bind(narrow, Us)?;
    stage.reach(&[first, second, narrow], low_at, &low)?;
    expect::succeeds("unmap", context.unmap(low_at, PAGE_U64))?;
    stage.refused(&[first, second, narrow], low_at, &low)
}

/// Below 4 GiB nothing is mapped for a shared PF; it works all the same, and has the rest.
fn a_shared_pf_lacks_low_mappings(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Us])?;
    let (owned, second, third) = stage.three()?;
    let context = Context::open()?;
    let (low, high) = (Buffer::page()?, Buffer::page()?);
    let high_at = fresh_iova(1);
    expect::succeeds("map", context.map(low.phys(), LOW, PAGE_U64))?;
    expect::succeeds("map", context.map(high.phys(), high_at, PAGE_U64))?;
    let ((), log) = host::logged(|| stage.bind(second, Its))?;
    tells(&log, second, "lacks")?;
    let flags = facts(second)?.flags;
    expect::equal("flag for incomplete", flags & INCOMPLETE, INCOMPLETE)?;
    expect::equal("the owned PF's", facts(owned)?.flags & INCOMPLETE, 0)?;
    stage.reach(&[owned], LOW, &low)?;
    stage.refused(&[second], LOW, &low)?;
    stage.reach(&[owned, second], high_at, &high)?;
    Driver::of(second).expect("churn 3 4096", "ok 3")?;
    // While the owned PF is away its range stays its own, for it will come back.
    owned.unbind()?;
    let answer = Context::open()?.map(high.phys(), LOW, PAGE_U64);
    expect::fails("map where it was", answer, Errno::EXIST)?;
    stage.bind(owned, Us)?;
    stage.reach(&[owned], LOW, &low)?;
    // Undone wherever it is. A PF that comes then lacks nothing.
    expect::succeeds("unmap", context.unmap(LOW, PAGE_U64))?;
    expect::succeeds("unmap", context.unmap(high_at, PAGE_U64))?;
    stage.refused(&[owned], LOW, &low)?;
    stage.refused(&[owned, second], high_at, &high)?;
    stage.bind(third, Its)?;
    expect::equal("the next one's", facts(third)?.flags & INCOMPLETE, 0)
}

/// A driver that has mapped memory by the time it is bound.
fn a_shared_pf_lacks_what_its_driver_holds(host: &Host) -> Result<()> {
    let stage = Stage::with(host, &["shared_fixed=any"], &[Us])?;
    let (owned, second, _) = stage.three()?;
    let context = Context::open()?;
    let (huge, other) = (Buffer::huge(1)?, Buffer::page()?);
    // The DMA API gives out these addresses first.
    let (held, length) = ((1 << 32) - 512 * PAGE_U64, 512 * PAGE_U64);
    expect::succeeds("map", context.map(huge.phys(), held, length))?;
    expect::succeeds("map", context.map(other.phys(), LOW, PAGE_U64))?;
    let ((), log) = host::logged(|| stage.bind(second, Its))?;
    tells(&log, second, "lacks")?;
    expect::holds("it is listed", listed(second)?.is_some())?;
    let flags = facts(second)?.flags;
    expect::equal("flag for incomplete", flags & INCOMPLETE, INCOMPLETE)?;
    stage.reach(&[owned], held, &huge)?;
    stage.reach(&[owned, second], LOW, &other)?;
    Driver::of(second).expect("churn 3 4096", "ok 3")?;
    expect::succeeds("unmap", context.unmap(held, length))?;
    stage.refused(&[owned], held, &Buffer::page()?)?;
    Driver::of(second).expect("churn 3 4096", "ok 3")
}

fn virtio_refuses_for_all(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Us, Its])?;
    let (owned, shared, _) = stage.three()?;
    let context = Context::open()?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    let map = || context.map(page.phys(), iova, PAGE_U64);
    expect::fails("map", map(), Errno::OPNOTSUPP)?;
    stage.refused(&[owned, shared], iova, &page)?;
    // Nothing was left in the owned space.
    shared.unbind()?;
    expect::succeeds("map without it", map())?;
    stage.reach(&[owned], iova, &page)?;
    let ((), log) = host::logged(|| stage.bind(shared, Its))?;
    tells(&log, shared, "lacks")?;
    let flags = facts(shared)?.flags;
    expect::equal("flag for incomplete", flags & INCOMPLETE, INCOMPLETE)?;
    stage.refused(&[shared], iova, &page)?;
    expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
    stage.refused(&[owned], iova, &page)
}
