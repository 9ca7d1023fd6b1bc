// SPDX-License-Identifier: GPL-2.0
//! Where nothing translates, and in a virtual machine: a buffer that is physically
//! contiguous gets its physical address, for those who may know it; another one
//! cannot be mapped.

use anyhow::Result;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::{nothing_mapped, PAGE_U64};
use crate::abi::{user::Refused, Context};
use crate::credentials::{apart, become_nobody, drop_capability};
use crate::dma;
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::{physical_pages, Memory, HUGE, PAGE};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        contiguous_buffers_get_their_physical_address,
        the_device_reaches_them,
        scattered_buffers_are_refused,
        fixed_is_the_physical_address_or_nothing,
        the_capability_is_needed,
        undoing_is_exact,
        batches,
    ]
}

fn phys(memory: &UserMemory) -> Result<u64> {
    memory.touch();
    Ok(physical_pages(memory.start().addr(), PAGE)?[0])
}

fn contiguous_buffers_get_their_physical_address(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let huge = UserMemory::huge(HUGE)?;
    let start = phys(&huge)?;
    for (offset, length) in [
        (0, 2 << 20),
        (0, 1),
        (PAGE_U64, PAGE_U64),
        (PAGE_U64 + 77, 5 * PAGE_U64),
    ] {
        let va = huge.va() + offset;
        let iova = expect::succeeds("map", context.map_user(va, length))?;
        expect::equal("IOVA", iova, start + offset)?;
        let found = expect::succeeds("QUERY", context.query(0))?;
        expect::equal("what QUERY finds", found.iova, (start + offset) & !0xfff)?;
        expect::succeeds("unmap", context.unmap_user(va, length))?;
    }
    let page = UserMemory::scattered(PAGE)?;
    let start = phys(&page)?;
    let answer = context.map_user(page.va() + 9, 9);
    expect::equal("IOVA of a page", answer, Ok(start + 9))
}

fn the_device_reaches_them(host: &Host) -> Result<()> {
    if host.guest {
        return Err(crate::ktap::skip("in a VM the device is not ours to drive"));
    }
    let mut dev = dma::open(host, &host.pf()?)?;
    let context = Context::open()?;
    let memory = UserMemory::huge(HUGE)?;
    let answer = context.map_user(memory.va(), memory.length());
    let iova = expect::succeeds("map", answer)?;
    dma::reaches(dev.as_mut(), iova, &memory)
}

fn scattered_buffers_are_refused(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(256 * PAGE)?;
    memory.touch();
    let (pins, locked) = (ledger::pins()?, ledger::locked()?);
    let answer = context.map_user(memory.va(), memory.length());
    expect::fails("map", answer, Errno::OPNOTSUPP)?;
    nothing_mapped(&context)?;
    expect::equal("pins", ledger::pins()?, pins)?;
    expect::equal("locked KiB", ledger::locked()?, locked)
}

fn fixed_is_the_physical_address_or_nothing(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::huge(HUGE)?;
    let (va, length, start) = (memory.va(), memory.length(), phys(&memory)?);
    for iova in [start + PAGE_U64, start ^ (1 << 30), 1 << 40] {
        expect::fails(
            &format!("map at {iova:#x}"),
            context.map_user_at(va, length, iova),
            Errno::ADDRNOTAVAIL,
        )?;
    }
    nothing_mapped(&context)?;
    let answer = context.map_user_at(va, length, start);
    expect::equal("map where it is", answer, Ok(start))
}

fn the_capability_is_needed(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::huge(HUGE)?;
    let (va, length, start) = (memory.va(), memory.length(), phys(&memory)?);
    let scattered = UserMemory::scattered(256 * PAGE)?;
    let refused = || -> Result<()> {
        let answer = context.map_user(va, length);
        expect::fails("map", answer, Errno::PERM)?;
        let answer = context.map_user_at(va, length, start);
        expect::fails("map at an IOVA", answer, Errno::PERM)?;
        let answer = context.map_user(scattered.va(), scattered.length());
        expect::fails("map of a scattered buffer", answer, Errno::PERM)?;
        // Nothing is looked at before.
        let answer = context.map_user(0x1000, PAGE as u64);
        expect::fails("map of what is not there", answer, Errno::PERM)?;
        let batch = context.map_batch(&[(va, length)]);
        let batch = batch.map_err(|refused| refused.error);
        expect::fails("batch", batch, Errno::PERM)
    };
    apart(|| {
        drop_capability(CapabilitySet::SYS_RAWIO)?;
        refused()
    })?;
    apart(|| {
        become_nobody()?;
        refused()
    })?;
    nothing_mapped(&context)
}

fn undoing_is_exact(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::huge(HUGE)?;
    let (va, length) = (memory.va(), memory.length());
    let pins = ledger::pins()?;
    let iova = expect::succeeds("map", context.map_user(va, length))?;
    expect::equal("pins", ledger::pins()?, pins + 512)?;
    for (va, length) in [
        (va, PAGE_U64),
        (va + PAGE_U64, length - PAGE_U64),
        (va, 2 * length),
    ] {
        let answer = context.unmap_user(va, length);
        expect::fails("unmap of something else", answer, Errno::NOENT)?;
    }
    let stranger = Context::open()?;
    let answer = stranger.unmap_user(va, length);
    expect::fails("unmap by a stranger", answer, Errno::NOENT)?;
    expect::succeeds("unmap", context.unmap_user(va, length))?;
    let answer = context.unmap_user(va, length);
    expect::fails("unmap again", answer, Errno::NOENT)?;
    expect::equal("pins", ledger::pins()?, pins)?;
    expect::equal("map again", context.map_user(va, length), Ok(iova))?;
    expect::succeeds("unmap by IOVA", context.unmap(iova, length))?;
    expect::equal("pins", ledger::pins()?, pins)
}

fn batches(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::huge(HUGE)?;
    let start = phys(&memory)?;
    let places: Vec<_> = (0..100)
        .map(|page| (memory.va() + page * 2 * PAGE_U64, PAGE_U64))
        .collect();
    let iovas = context.map_batch(&places).map_err(|refused| refused.error);
    let iovas = expect::succeeds("batch", iovas)?;
    for (index, iova) in (0..).zip(&iovas) {
        expect::equal("IOVA", *iova, start + index * 2 * PAGE_U64)?;
    }
    let ranges: Vec<_> = iovas.iter().map(|iova| (*iova, PAGE_U64)).collect();
    let unmapped = context.unmap_batch(&ranges);
    expect::equal("batch unmap", unmapped, Ok(()))?;
    let scattered = UserMemory::scattered(256 * PAGE)?;
    scattered.touch();
    let mut spoiled = places;
    spoiled[50] = (scattered.va(), scattered.length());
    let want = Refused {
        error: Errno::OPNOTSUPP,
        at: 50,
    };
    expect::equal("batch", context.map_batch(&spoiled), Err(want))?;
    nothing_mapped(&context)
}
