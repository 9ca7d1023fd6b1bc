// SPDX-License-Identifier: GPL-2.0
//! Lazy mode: the DMA API takes an entry out of the IOMMU's tables at once, and out
//! of its cache some milliseconds later. Until then the device reads old memory at
//! an address that looks free.
//!
//! For machines with one processor: whatever a timer of it would do is kept out from
//! before an access by the device until that is over, but nothing keeps another
//! processor from flushing. Time is best the same in each run (`scripts/vm --icount`).

use anyhow::{ensure, Result};

use super::driver;
use crate::abi::{address, Context};
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::Host;
use crate::hostdrv::{Driver, Held};
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{fresh_bytes, Buffer, Memory, PAGE};

const PAGE_U64: u64 = 4096;
const ROUNDS: usize = 2;
const OLD: u8 = 0x5a;
const OLD_WORD: u64 = u64::from_ne_bytes([OLD; 8]);

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        released_memory_is_still_read,
        physical_memory_on_a_released_address,
        a_buffer_on_a_released_address,
        a_chosen_address_that_was_released,
        an_unmapped_range_is_out_of_reach_at_once,
        an_unmapped_buffer_is_out_of_reach_at_once,
    ]
}

fn lazy_driver(host: &Host) -> Result<Driver> {
    let driver = driver(host)?;
    driver.set_lazy(true)?;
    Ok(driver)
}

/// Memory of the driver that the device has read, so that its address is in the cache.
fn cached(driver: &Driver) -> Result<Held> {
    let held = driver.stream(PAGE)?;
    driver.fill(&held, OLD)?;
    let seen = driver.peek(held.dma)?;
    expect::equal("what the device reads", seen, Some(OLD_WORD))?;
    Ok(held)
}

/// Eight bytes that nobody else has, at the beginning of some memory.
fn mark(memory: &dyn Memory) -> Result<u64> {
    let bytes = fresh_bytes(8);
    memory.write(0, &bytes);
    Ok(u64::from_ne_bytes(bytes.as_slice().try_into()?))
}

/// The device reads this, and neither what was there before nor nothing.
fn reads(driver: &Driver, iova: u64, want: u64) -> Result<()> {
    match driver.peek(iova)? {
        Some(seen) if seen == want => Ok(()),
        Some(OLD_WORD) => anyhow::bail!("the device reads the old memory at {iova:#x}"),
        seen => anyhow::bail!("the device reads {seen:x?} at {iova:#x}, not {want:#x}"),
    }
}

/// The device reads nothing here. (What edu is refused it reads as zeros.)
fn reads_nothing(driver: &Driver, iova: u64) -> Result<()> {
    let seen = driver.peek(iova)?.unwrap_or_default();
    ensure!(seen == 0, "the device still reads {seen:#x} at {iova:#x}");
    Ok(())
}

/// What the other tests need in order to show anything.
fn released_memory_is_still_read(host: &Host) -> Result<()> {
    let driver = lazy_driver(host)?;
    for _ in 0..ROUNDS {
        let held = cached(&driver)?;
        driver.unmap(&held)?;
        let seen = driver.peek(held.dma)?;
        expect::equal("what is in the cache", seen, Some(OLD_WORD))?;
        driver.free(held)?;
    }
    Ok(())
}

fn physical_memory_on_a_released_address(host: &Host) -> Result<()> {
    let driver = lazy_driver(host)?;
    let context = Context::open()?;
    let page = Buffer::page()?;
    for _ in 0..ROUNDS {
        let want = mark(&page)?;
        let held = cached(&driver)?;
        driver.unmap(&held)?;
        let answer = context.map(page.phys(), held.dma, PAGE_U64);
        expect::succeeds("map", answer)?;
        reads(&driver, held.dma, want)?;
        expect::succeeds("unmap", context.unmap(held.dma, PAGE_U64))?;
        reads_nothing(&driver, held.dma)?;
        driver.free(held)?;
    }
    Ok(())
}

fn a_buffer_on_a_released_address(host: &Host) -> Result<()> {
    let driver = lazy_driver(host)?;
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    for _ in 0..ROUNDS {
        let want = mark(&memory)?;
        let held = cached(&driver)?;
        driver.unmap(&held)?;
        let answer = context.map_user_at(memory.va(), PAGE_U64, held.dma);
        expect::succeeds("map", answer)?;
        reads(&driver, held.dma, want)?;
        let answer = context.unmap_user(memory.va(), PAGE_U64);
        expect::succeeds("unmap", answer)?;
        reads_nothing(&driver, held.dma)?;
        driver.free(held)?;
    }
    Ok(())
}

/// The DMA API lends an address again when it has flushed it, and not before.
fn a_chosen_address_that_was_released(host: &Host) -> Result<()> {
    let driver = lazy_driver(host)?;
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    let want = mark(&memory)?;
    let held = cached(&driver)?;
    driver.unmap(&held)?;
    let map = || expect::succeeds("map", context.map_user(memory.va(), PAGE_U64));
    let at_once = map()?;
    expect::holds("another address at once", at_once != held.dma)?;
    reads(&driver, at_once, want)?;
    // The flush has come meanwhile.
    let later = (0..16).map(|_| map()).collect::<Result<Vec<_>>>()?;
    expect::holds("the same address later", later.contains(&held.dma))?;
    reads(&driver, held.dma, want)?;
    drop(context);
    reads_nothing(&driver, held.dma)?;
    driver.free(held)
}

fn an_unmapped_range_is_out_of_reach_at_once(host: &Host) -> Result<()> {
    let driver = lazy_driver(host)?;
    let context = Context::open()?;
    let page = Buffer::page()?;
    for _ in 0..ROUNDS {
        let (want, iova) = (mark(&page)?, fresh_iova(1));
        expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
        reads(&driver, iova, want)?;
        expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
        reads_nothing(&driver, iova)?;
    }
    Ok(())
}

fn an_unmapped_buffer_is_out_of_reach_at_once(host: &Host) -> Result<()> {
    let driver = lazy_driver(host)?;
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    for closes in [false, true] {
        let want = mark(&memory)?;
        let other = Context::open()?;
        let used = if closes { &other } else { &context };
        let va = address(memory.start());
        let iova = expect::succeeds("map", used.map_user(va, PAGE_U64))?;
        reads(&driver, iova, want)?;
        if !closes {
            expect::succeeds("unmap", used.unmap_user(va, PAGE_U64))?;
        }
        drop(other);
        reads_nothing(&driver, iova)?;
    }
    Ok(())
}
