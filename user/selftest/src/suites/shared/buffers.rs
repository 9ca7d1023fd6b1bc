// SPDX-License-Identifier: GPL-2.0
//! Buffers of programs in the domain of a PF that its own driver holds: the DMA
//! API's allocator lends their addresses and gets them back.

use anyhow::{ensure, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;
use rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity, CpuSet};

use super::{driver, FOUR_GIB};
use crate::abi::Context;
use crate::dma::{self, fresh_iova};
use crate::expect;
use crate::host::{self, Host};
use crate::hostdrv::{Driver, Held};
use crate::ktap::{list_tests, skip, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::{fresh_bytes, Memory, PAGE};
use crate::module::{Reloaded, HOSTDRV};

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        batches_are_lent_theirs,
        beside_the_driver_s_own_memory,
        data_to_and_from_the_driver,
        addresses_are_given_back,
        unbinding_unpins,
    ]
}

pub fn fixed_tests() -> Vec<Test<Host>> {
    list_tests![
        any_lets_buffers_go_low,
        any_keeps_buffers_from_what_the_dma_api_holds,
        any_gives_back_what_does_not_fit,
        off_leaves_the_choice_to_the_kernel,
    ]
}

pub fn virtio_tests() -> Vec<Test<Host>> {
    list_tests![fixed_buffers_are_not_supported]
}

fn map(context: &Context, memory: &UserMemory) -> Result<u64> {
    expect::succeeds("map", context.map_user(memory.va(), memory.length()))
}

/// What the DMA API does not know of, it would lend to the driver as well. It lends what is below 4 GiB,
/// until there is no room for a request: from then on whatever is highest.
fn batches_are_lent_theirs(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let alone = map(&context, &memory)?;
    if alone >= FOUR_GIB {
        return Err(skip("there was no room below 4 GiB before"));
    }
    let pages: Vec<(u64, u64)> = (0..4)
        .map(|page| (memory.va() + page * PAGE_U64, PAGE_U64))
        .collect();
    let mapped = context.map_batch(&pages);
    let mapped = mapped.map_err(|refused| refused.error);
    for iova in expect::succeeds("map a batch", mapped)? {
        ensure!(iova < FOUR_GIB, "{iova:#x} of a batch is not lent");
    }
    Ok(())
}

/// Nobody gets what somebody has, and everyone keeps what he has.
fn beside_the_driver_s_own_memory(host: &Host) -> Result<()> {
    let driver = driver(host)?;
    let context = Context::open()?;
    let mut held: Vec<(Held, u8)> = Vec::new();
    let mut mapped = Vec::new();
    let mut taken = Vec::new();
    for round in 0..8u8 {
        let pages = 1 + usize::from(round) % 5;
        let own = match round % 2 {
            0 => driver.coherent(pages * PAGE)?,
            _ => driver.stream(pages * PAGE)?,
        };
        driver.fill(&own, round + 1)?;
        taken.push((own.dma, pages));
        held.push((own, round + 1));
        let memory = UserMemory::scattered(pages * PAGE)?;
        let iova = map(&context, &memory)?;
        taken.push((iova, pages));
        mapped.push((iova, memory));
    }
    taken.sort_unstable();
    for pair in taken.windows(2) {
        let end = pair[0].0 + u64::try_from(pair[0].1)? * PAGE_U64;
        ensure!(end <= pair[1].0, "{:#x} is taken twice", pair[1].0);
    }
    let mut dev = dma::through_driver(host, &host.pf()?)?;
    for (iova, memory) in &mapped {
        dma::reaches(dev.as_mut(), *iova, memory)?;
    }
    for (own, byte) in held {
        let want = u64::from_ne_bytes([byte; 8]);
        let seen = driver.peek(own.dma)?;
        expect::equal("the driver's own memory", seen, Some(want))?;
        driver.free(own)?;
    }
    for (iova, memory) in &mapped {
        dma::reaches(dev.as_mut(), *iova, memory)?;
        let answer = context.unmap_user(memory.va(), memory.length());
        expect::succeeds("unmap", answer)?;
        dma::refused(dev.as_mut(), *iova, memory)?;
    }
    Ok(())
}

/// As between a driver and a program that it works for.
fn data_to_and_from_the_driver(host: &Host) -> Result<()> {
    let driver = driver(host)?;
    let context = Context::open()?;
    let own = driver.stream(16 * PAGE)?;
    let (sent, back) = (
        UserMemory::scattered(16 * PAGE)?,
        UserMemory::scattered(16 * PAGE)?,
    );
    let (from, to) = (map(&context, &sent)?, map(&context, &back)?);
    let data = fresh_bytes(16 * PAGE);
    sent.write(0, &data);
    let done = |answer: String| expect::equal("the device's copy", answer.as_str(), "done");
    let copy = |from: u64, to: u64| driver.run(&format!("copy {from:#x} {to:#x} {}", 16 * PAGE));
    done(copy(from, own.dma)?)?;
    done(copy(own.dma, to)?)?;
    ensure!(back.read(0, 16 * PAGE) == data, "other data came back");
    let answer = context.unmap_user(back.va(), back.length());
    expect::succeeds("unmap", answer)?;
    let answer = copy(own.dma, to)?;
    expect::equal("a copy then", answer, format!("refused 4 {to:#x}"))?;
    let answer = copy(to, own.dma)?;
    expect::equal("a copy from there", answer, format!("refused 2 {to:#x}"))?;
    done(copy(from, own.dma)?)?;
    driver.free(own)
}

/// Each takes a sixteenth of the space: if one were kept there would soon be none.
fn addresses_are_given_back(_: &Host) -> Result<()> {
    let size = Context::open()?
        .info()?
        .fixed
        .aperture_last
        .min((1 << 48) - 1)
        + 1;
    let memory = UserMemory::scattered(3 * PAGE)?;
    let (va, length) = (memory.va(), memory.length());
    let kept = Context::open()?;
    for round in 0..60 {
        let other = Context::open()?;
        let context = if round % 4 == 3 { &other } else { &kept };
        let answer = context.map_user_aligned(va, length, size / 16);
        let iova = expect::succeeds(&format!("map number {round}"), answer)?;
        let answer = match round % 4 {
            0 => context.unmap_user(va, length),
            1 => context.unmap(iova, length),
            2 => context
                .unmap_batch(&[(iova, length)])
                .map_err(|refused| refused.error),
            // It goes with its context.
            _ => Ok(()),
        };
        expect::succeeds("unmap", answer)?;
    }
    Ok(())
}

fn unbinding_unpins(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(20 * PAGE)?;
    let before = (ledger::pins()?, ledger::locked()?);
    let iova = map(&context, &memory)?;
    let pf = host.pf()?;
    pf.unbind()?;
    let during = || -> Result<()> {
        let after = (ledger::pins()?, ledger::locked()?);
        expect::equal("pins and locked KiB without the driver", after, before)?;
        let answer = context.unmap_user(memory.va(), memory.length());
        expect::fails("unmap", answer, Errno::NODEV)?;
        let answer = context.map_user(memory.va(), memory.length());
        expect::fails("map", answer, Errno::NODEV)
    };
    let result = during();
    pf.bind(HOSTDRV)?;
    result?;
    let mut dev = dma::open(host, &pf)?;
    dma::refused(dev.as_mut(), iova, &memory)?;
    let fresh = Context::open()?;
    let iova = map(&fresh, &memory)?;
    dma::reaches(dev.as_mut(), iova, &memory)
}

fn any_lets_buffers_go_low(host: &Host) -> Result<()> {
    let _module = Reloaded::with(host, &["shared_fixed=any"])?;
    let context = Context::open()?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    let mut dev = dma::open(host, &host.pf()?)?;
    for iova in [PAGE_U64, 0x1000_0000] {
        let answer = context.map_user_at(memory.va(), memory.length(), iova);
        expect::succeeds("map", answer)?;
        dma::reaches(dev.as_mut(), iova, &memory)?;
        let answer = context.unmap_user(memory.va(), memory.length());
        expect::succeeds("unmap", answer)?;
        dma::refused(dev.as_mut(), iova, &memory)?;
    }
    Ok(())
}

fn any_keeps_buffers_from_what_the_dma_api_holds(host: &Host) -> Result<()> {
    let _module = Reloaded::with(host, &["shared_fixed=any"])?;
    let driver = driver(host)?;
    let context = Context::open()?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let pins = ledger::pins()?;
    let own = driver.coherent(2 * PAGE)?;
    driver.fill(&own, 0x77)?;
    for (iova, pages) in [
        (own.dma, 1),
        (own.dma + PAGE_U64, 1),
        (own.dma - PAGE_U64, 2),
        (own.dma - PAGE_U64, 4),
    ] {
        let answer = context.map_user_at(memory.va(), pages * PAGE_U64, iova);
        expect::fails("map", answer, Errno::ADDRINUSE)?;
        expect::equal("pins", ledger::pins()?, pins)?;
    }
    let word = u64::from_ne_bytes([0x77; 8]);
    for offset in [0, PAGE_U64] {
        let seen = driver.peek(own.dma + offset)?;
        expect::equal("the driver's memory", seen, Some(word))?;
    }
    let before = driver.peek(own.dma - PAGE_U64)?;
    expect::equal("what is beside it", before, None)?;
    driver.free(own)
}

/// The DMA API lends what was given back last on the same processor, and there something is mapped at a
/// fixed address by then.
fn any_gives_back_what_does_not_fit(host: &Host) -> Result<()> {
    let _stay = OnOneProcessor::begin()?;
    let _module = Reloaded::with(host, &["shared_fixed=any"])?;
    let context = Context::open()?;
    let (fixed, memory) = (UserMemory::scattered(PAGE)?, UserMemory::scattered(PAGE)?);
    let lent = map(&context, &memory)?;
    let give_back = |memory: &UserMemory| {
        let answer = context.unmap_user(memory.va(), memory.length());
        expect::succeeds("unmap", answer)
    };
    give_back(&memory)?;
    let answer = context.map_user_at(fixed.va(), fixed.length(), lent);
    expect::succeeds("map where it was", answer)?;
    let other = map(&context, &memory)?;
    ensure!(other != lent, "{lent:#x} is taken twice");
    sees(&driver(host)?, lent, &fixed)?;
    sees(&driver(host)?, other, &memory)?;
    give_back(&memory)?;
    give_back(&fixed)?;
    let (one, two) = (map(&context, &memory)?, map(&context, &fixed)?);
    ensure!(
        one == lent || two == lent,
        "{one:#x} and {two:#x} are lent, {lent:#x} is not"
    );
    Ok(())
}

fn off_leaves_the_choice_to_the_kernel(host: &Host) -> Result<()> {
    let _module = Reloaded::with(host, &["shared_fixed=off"])?;
    let context = Context::open()?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    for iova in [fresh_iova(2), 1 << 32, 0x1000_0000] {
        let answer = context.map_user_at(memory.va(), memory.length(), iova);
        expect::fails("map", answer, Errno::ADDRNOTAVAIL)?;
    }
    let iova = map(&context, &memory)?;
    sees(&driver(host)?, iova, &memory)
}

/// Keeps this thread on the processor that it is on.
struct OnOneProcessor(CpuSet);

impl OnOneProcessor {
    fn begin() -> Result<Self> {
        let all = sched_getaffinity(None)?;
        let mut one = CpuSet::new();
        one.set(sched_getcpu());
        sched_setaffinity(None, &one)?;
        Ok(Self(all))
    }
}

impl Drop for OnOneProcessor {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.0);
    }
}

/// The device reads at `iova` what is in the memory.
fn sees(driver: &Driver, iova: u64, memory: &UserMemory) -> Result<()> {
    let bytes = fresh_bytes(8);
    memory.write(0, &bytes);
    let want = u64::from_ne_bytes(bytes.as_slice().try_into()?);
    expect::equal("what the device reads", driver.peek(iova)?, Some(want))
}

fn fixed_buffers_are_not_supported(host: &Host) -> Result<()> {
    host::expect_mode(uapi::QAT_IOMMU_MODE_SHARED)?;
    let context = Context::open()?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    for iova in [fresh_iova(2), 1 << 32, 0x1000_0000] {
        let answer = context.map_user_at(memory.va(), memory.length(), iova);
        expect::fails("map", answer, Errno::OPNOTSUPP)?;
    }
    let iova = map(&context, &memory)?;
    sees(&driver(host)?, iova, &memory)
}
