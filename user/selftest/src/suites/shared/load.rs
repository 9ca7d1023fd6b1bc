// SPDX-License-Identifier: GPL-2.0
//! A PF's driver at work in the DMA API's every way, and our mappings coming and
//! going in the same domain: neither gets in the way of the other, whether the DMA
//! API flushes at once (strict) or later (lazy).

use anyhow::{ensure, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use super::super::user::races::{buffers, cycle, together, Shared, THREADS};
use super::driver;
use crate::abi::Context;
use crate::dma::{self, fresh_iova};
use crate::expect;
use crate::host::Host;
use crate::hostdrv::lasting;
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{fresh_bytes, Buffer, Memory, PAGE};

const PAGE_U64: u64 = 4096;
const FOUR_GIB: u64 = 1 << 32;
/// Threads of the driver, and the largest of its buffers.
const LOAD: (usize, usize) = (3, 256 << 10);
const TIME: Duration = Duration::from_secs(3);
/// Rounds of ours at the least.
const LEAST: usize = 5 * THREADS;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        buffers_beside_a_strict_driver,
        fixed_ranges_beside_a_strict_driver,
        buffers_beside_a_lazy_driver,
        fixed_ranges_beside_a_lazy_driver,
    ]
}

pub fn virtio_tests() -> Vec<Test<Host>> {
    list_tests![buffers_beside_a_strict_driver, buffers_beside_a_lazy_driver]
}

/// Runs `act` over and over in several threads while the driver works.
fn beside(
    host: &Host,
    lazy: bool,
    act: impl Fn(&Shared<'_>, usize, usize) -> Result<()> + Sync,
) -> Result<()> {
    let driver = driver(host)?;
    driver.set_lazy(lazy)?;
    let mut dev = dma::through_driver(host, &host.pf()?)?;
    let dev = Shared(Mutex::new(dev.as_mut()));
    let load = driver.load(LOAD.0, LOAD.1)?;
    let (time, done) = (lasting(TIME), AtomicUsize::new(0));
    // On a busy machine the driver leaves us little.
    let goes_on = || time() || done.load(Ordering::Relaxed) < LEAST;
    let ours = together(goes_on, |thread, round| {
        act(&dev, thread, round)?;
        done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let transfers = load.stop()?;
    let rounds = ours?;
    println!("    # {transfers} transfers of the driver, {rounds} rounds of ours");
    ensure!(transfers > 0, "the driver transferred nothing");
    Ok(())
}

fn buffers_beside(host: &Host, lazy: bool) -> Result<()> {
    let memories = buffers()?;
    beside(host, lazy, |dev, thread, round| {
        let context = Context::open()?;
        for step in 0..4 {
            cycle(dev, &context, &memories[thread], 4 * round + step)?;
        }
        // What is left goes with the context.
        let memory = &memories[thread];
        expect::succeeds("map", context.map_user(memory.va(), memory.length()))?;
        Ok(())
    })
}

fn buffers_beside_a_strict_driver(host: &Host) -> Result<()> {
    buffers_beside(host, false)
}

fn buffers_beside_a_lazy_driver(host: &Host) -> Result<()> {
    buffers_beside(host, true)
}

/// What one thread maps, physical memory and a buffer, and where.
struct Ours {
    range: Buffer,
    buffer: UserMemory,
    base: u64,
}

impl Ours {
    fn new(thread: usize) -> Result<Self> {
        let buffer = UserMemory::scattered(8 * PAGE)?;
        buffer.touch();
        // From the lowest address that is allowed; and elsewhere.
        let base = match thread {
            0 => FOUR_GIB,
            _ => fresh_iova(16 * 16),
        };
        Ok(Self {
            range: Buffer::pages(8)?,
            buffer,
            base,
        })
    }

    /// Maps it at several places that lie close together, looks, and unmaps it.
    fn turn(&self, dev: &Shared<'_>, context: &Context, round: usize) -> Result<()> {
        let pages = 1 + u64::try_from(round)? % 8;
        let length = pages * PAGE_U64;
        let place = |step: u64| self.base + 16 * step * PAGE_U64;
        for step in 0..8 {
            let (phys, va) = (self.range.phys(), self.buffer.va());
            let answer = match step % 2 {
                0 => context.map(phys, place(step), length).map(|_| ()),
                _ => context.map_user_at(va, length, place(step)).map(|_| ()),
            };
            expect::succeeds("map", answer)?;
        }
        if round % 4 == 0 {
            self.looks(dev, &self.range, place(2))?;
            self.looks(dev, &self.buffer, place(3))?;
        }
        for step in 0..8 {
            let answer = context.unmap(place(step), length);
            expect::succeeds("unmap", answer)?;
        }
        Ok(())
    }

    fn looks(&self, dev: &Shared<'_>, memory: &dyn Memory, iova: u64) -> Result<()> {
        let written = fresh_bytes(64);
        memory.write(0, &written);
        let mut seen = vec![0; 64];
        dev.use_by(|dev| dev.read(iova, &mut seen))?;
        ensure!(
            seen == written,
            "the device reads at {iova:#x} something else than what is mapped there"
        );
        Ok(())
    }
}

// SAFETY: each thread has its own, and the device reads only.
unsafe impl Sync for Ours {}

fn fixed_beside(host: &Host, lazy: bool) -> Result<()> {
    let context = Context::open()?;
    let ours = (0..THREADS).map(Ours::new).collect::<Result<Vec<_>>>()?;
    // Chosen late: the driver may be bound anew before.
    beside(host, lazy, |dev, thread, round| {
        ours[thread].turn(dev, &context, round)
    })
}

fn fixed_ranges_beside_a_strict_driver(host: &Host) -> Result<()> {
    fixed_beside(host, false)
}

fn fixed_ranges_beside_a_lazy_driver(host: &Host) -> Result<()> {
    fixed_beside(host, true)
}
