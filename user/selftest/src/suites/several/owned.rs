// SPDX-License-Identifier: GPL-2.0
//! Owned PFs: one space and one domain for all, PFs that join while things are
//! mapped, and those that cannot.

use anyhow::Result;
use rustix::io::Errno;

use super::{facts, refuses_to_own, tells, Nobody, Stage, Us, PAGE_U64};
use crate::abi::Context;
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, HUGE, PAGE};

/// The third PF is of a kind of its own, so that it can be made a narrow one.
const NARROW: &str = "ids=8086:4942/38";
/// Beyond its addresses and inside every IOMMU's.
const BEYOND: u64 = 1 << 38;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        joining_a_live_space,
        a_narrow_pf_is_kept_from_a_live_mapping,
        a_narrow_pf_narrows_the_space,
    ]
}

fn joining_a_live_space(host: &Host) -> Result<()> {
    let stage = Stage::new(host, &[Us])?;
    let (first, second, third) = stage.three()?;
    let context = Context::open()?;
    let (page, huge) = (Buffer::page()?, Buffer::huge(1)?);
    let (page_at, huge_at) = (fresh_iova(1), fresh_iova(512));
    expect::succeeds("map", context.map(page.phys(), page_at, PAGE_U64))?;
    expect::succeeds("map", context.map(huge.phys(), huge_at, 512 * PAGE_U64))?;
    let (buffer, large) = (
        UserMemory::scattered(5 * PAGE)?,
        UserMemory::transparent(HUGE)?,
    );
    let map = |memory: &UserMemory| {
        let answer = context.map_user(memory.va(), memory.length());
        expect::succeeds("map", answer)
    };
    let (buffer_at, large_at) = (map(&buffer)?, map(&large)?);
    let reach = |pfs: &[_]| {
        stage.reach(pfs, page_at, &page)?;
        stage.reach(pfs, huge_at, &huge)?;
        stage.reach(pfs, buffer_at, &buffer)?;
        stage.reach(pfs, large_at, &large)
    };
    reach(&[first])?;
    stage.bind(second, Us)?;
    reach(&[first, second])?;
    stage.bind(third, Us)?;
    reach(&[first, second, third])?;
    for pf in [second, third] {
        expect::equal("space", facts(pf)?.space, facts(first)?.space)?;
    }
    // Who brought the domain goes, and the others stay.
    first.unbind()?;
    reach(&[second, third])?;
    expect::succeeds("unmap", context.unmap(page_at, PAGE_U64))?;
    let answer = context.unmap_user(buffer.va(), buffer.length());
    expect::succeeds("unmap", answer)?;
    stage.bind(first, Us)?;
    let all = [first, second, third];
    stage.refused(&all, page_at, &page)?;
    stage.refused(&all, buffer_at, &buffer)?;
    stage.reach(&all, huge_at, &huge)?;
    drop(context);
    stage.refused(&all, huge_at, &Buffer::page()?)?;
    stage.refused(&all, large_at, &Buffer::page()?)
}

fn a_narrow_pf_is_kept_from_a_live_mapping(host: &Host) -> Result<()> {
    let stage = Stage::with(host, &[NARROW], &[Us, Us])?;
    let (first, second, narrow) = stage.three()?;
    let context = Context::open()?;
    let (page, buffer) = (Buffer::page()?, UserMemory::scattered(2 * PAGE)?);
    for user in [false, true] {
        // Half of the buffer is within its reach.
        let at = match user {
            false => BEYOND,
            true => BEYOND - PAGE_U64,
        };
        let answer = match user {
            false => context.map(page.phys(), at, PAGE_U64).map(|_| ()),
            true => context
                .map_user_at(buffer.va(), buffer.length(), at)
                .map(|_| ()),
        };
        expect::succeeds("map", answer)?;
        let last = context.info()?.fixed.aperture_last;
        let log = refuses_to_own(narrow, Errno::BUSY)?;
        tells(&log, narrow, "refused")?;
        tells(&log, narrow, "beyond its aperture")?;
        let after = context.info()?.fixed.aperture_last;
        expect::equal("end of the aperture", after, last)?;
        match user {
            false => stage.reach(&[first, second], at, &page)?,
            true => stage.reach(&[first, second], at, &buffer)?,
        }
        let length = if user { 2 * PAGE_U64 } else { PAGE_U64 };
        expect::succeeds("unmap", context.unmap(at, length))?;
    }
    // Nothing keeps it any more.
    stage.bind(narrow, Us)?;
    expect::equal("space", facts(narrow)?.space, facts(first)?.space)
}

fn a_narrow_pf_narrows_the_space(host: &Host) -> Result<()> {
    let stage = Stage::with(host, &[NARROW], &[Us, Nobody, Us])?;
    let (first, _, narrow) = stage.three()?;
    let context = Context::open()?;
    let page = Buffer::page()?;
    let end = || Ok::<_, anyhow::Error>(context.info()?.fixed.aperture_last);
    expect::equal("end of the aperture", end()?, BEYOND - 1)?;
    let answer = context.map(page.phys(), BEYOND, PAGE_U64);
    expect::fails("map beyond it", answer, Errno::RANGE)?;
    let last = BEYOND - PAGE_U64;
    expect::succeeds("map at its end", context.map(page.phys(), last, PAGE_U64))?;
    stage.reach(&[first, narrow], last, &page)?;
    let buffer = UserMemory::scattered(3 * PAGE)?;
    let answer = context.map_user(buffer.va(), buffer.length());
    let iova = expect::succeeds("map of a buffer", answer)?;
    expect::holds("its address is inside", iova < last)?;
    stage.reach(&[first, narrow], iova, &buffer)?;

    narrow.unbind()?;
    expect::holds("the aperture is wide again", end()? > BEYOND)?;
    expect::succeeds("map beyond", context.map(page.phys(), BEYOND, PAGE_U64))?;
    stage.reach(&[first], BEYOND, &page)?;
    stage.reach(&[first], last, &page)
}
