// SPDX-License-Identifier: GPL-2.0
//! A kernel that is locked down. It stays so until the machine ends, so this is
//! the last suite of its machine.

use anyhow::{ensure, Context as _, Result};
use rustix::io::Errno;
use std::fs;

use crate::abi::Context;
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, skip, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};

const PAGE_U64: u64 = 4096;
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

pub fn tests() -> Vec<Test<Host>> {
    list_tests![physical_maps_are_refused, confidentiality_too]
}

fn physical_maps_are_refused(host: &Host) -> Result<()> {
    if !fs::exists(LOCKDOWN)? {
        return Err(skip("this kernel has no lockdown"));
    }
    // Its registers must be mapped before: that is refused as well.
    let mut bench = Bench::new(host)?;
    let (page, other) = (Buffer::page()?, Buffer::page()?);
    let iova = fresh_iova(1);
    bench.map(&page, iova)?;
    fs::write(LOCKDOWN, "integrity").context("cannot lock the kernel down")?;
    let state = fs::read_to_string(LOCKDOWN)?;
    ensure!(state.contains("[integrity]"), "lockdown is {state:?}");
    let next = fresh_iova(1);
    expect::fails(
        "map",
        bench.context.map(other.phys(), next, PAGE_U64),
        Errno::PERM,
    )?;
    expect::fails(
        "map through a new file",
        Context::open()?.map(other.phys(), next, PAGE_U64),
        Errno::PERM,
    )?;
    bench.refused(next, &other)?;
    // What was mapped before stays, and can be undone.
    bench.reaches(iova, &page)?;
    bench.unmap(&page, iova)?;
    bench.refused(iova, &page)
}

/// The next and last step: nobody reads the kernel's memory either. Buffers of programs go on.
fn confidentiality_too(_: &Host) -> Result<()> {
    if !fs::exists(LOCKDOWN)? {
        return Err(skip("this kernel has no lockdown"));
    }
    let context = Context::open()?;
    let page = Buffer::page()?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let before = expect::succeeds("map", context.map_user(memory.va(), memory.length()))?;
    fs::write(LOCKDOWN, "confidentiality").context("cannot lock the kernel down further")?;
    let answer = context.map(page.phys(), fresh_iova(1), PAGE_U64);
    expect::fails("a physical map", answer, Errno::PERM)?;
    let answer = context.map_user(memory.va(), memory.length());
    let after = expect::succeeds("map of a buffer", answer)?;
    for iova in [before, after] {
        expect::succeeds("unmap", context.unmap(iova, memory.length()))?;
    }
    context.info()?;
    expect::equal("mappings", context.mappings()?.len(), 0)
}
