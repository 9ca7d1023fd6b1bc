// SPDX-License-Identifier: GPL-2.0
//! Many threads at once, in one context and in several, while the device looks and
//! while PFs come and go.

use anyhow::{ensure, Context as _, Result};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{nothing_mapped, Rig, PAGE_U64};
use crate::abi::Context;
use crate::dma::Dma;
use crate::expect;
use crate::host::{Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{fresh_bytes, Memory, PAGE};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        threads_with_a_context_each,
        threads_with_one_context,
        one_buffer_for_all_threads,
        while_pfs_come_and_go,
        closed_while_mapping,
    ]
}

/// Those in which no PF comes or goes.
pub fn shared_tests() -> Vec<Test<Host>> {
    list_tests![
        threads_with_a_context_each,
        threads_with_one_context,
        one_buffer_for_all_threads,
        closed_while_mapping,
    ]
}

pub const THREADS: usize = 4;
const TIME: Duration = Duration::from_secs(1);

/// As long as `time`.
fn lasting(time: Duration) -> impl Fn() -> bool {
    let end = Instant::now() + time;
    move || Instant::now() < end
}

/// Runs as many threads while `goes_on` and until one fails, each once at least, however busy the
/// machine is; how often `act` was done in all.
pub fn together(
    goes_on: impl Fn() -> bool + Sync,
    act: impl Fn(usize, usize) -> Result<()> + Sync,
) -> Result<usize> {
    let (failed, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (act, failed, rounds) = (&act, &failed, &rounds);
                let goes_on = &goes_on;
                scope.spawn(move || {
                    let mut first = true;
                    while !failed.load(Ordering::Relaxed)
                        && (std::mem::take(&mut first) || goes_on())
                    {
                        let round = rounds.fetch_add(1, Ordering::Relaxed);
                        if let Err(error) = act(thread, round) {
                            failed.store(true, Ordering::Relaxed);
                            return Err(error.context(format!("thread {thread}")));
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("threads return their errors"))
    })?;
    Ok(rounds.into_inner())
}

/// One device for all threads, each of which has it for a transfer.
pub struct Shared<'a>(pub Mutex<&'a mut dyn Dma>);

// SAFETY: the device is used by one thread at a time, and its registers do not care which.
unsafe impl Sync for Shared<'_> {}

impl Shared<'_> {
    pub fn use_by<T>(&self, act: impl FnOnce(&mut dyn Dma) -> Result<T>) -> Result<T> {
        let mut dev = self.0.lock().ok().context("another thread has failed")?;
        act(&mut **dev)
    }
}

/// Maps, sees the device read what is there and be refused after the unmap.
pub fn cycle(dev: &Shared<'_>, context: &Context, memory: &UserMemory, round: usize) -> Result<()> {
    let pages = 1 + round % (memory.len() / PAGE);
    let length = u64::try_from(pages)? * PAGE_U64;
    let iova = expect::succeeds("map", context.map_user(memory.va(), length))?;
    let looks = round % 8 == 0;
    if looks {
        let offset = (pages - 1) * PAGE;
        let written = fresh_bytes(64);
        memory.write(offset, &written);
        let mut seen = vec![0; 64];
        let at = iova + u64::try_from(offset)?;
        dev.use_by(|dev| dev.read(at, &mut seen))?;
        ensure!(
            seen == written,
            "the device reads at {at:#x} something else than this thread's buffer"
        );
    }
    match round % 2 {
        0 => expect::succeeds("unmap", context.unmap_user(memory.va(), length)),
        _ => expect::succeeds("unmap", context.unmap(iova, length)),
    }
}

/// A buffer for each thread.
pub fn buffers() -> Result<Vec<UserMemory>> {
    (0..THREADS)
        .map(|_| {
            let memory = UserMemory::scattered(16 * PAGE)?;
            memory.touch();
            Ok(memory)
        })
        .collect()
}

fn threads_with_a_context_each(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memories = buffers()?;
    let contexts = (0..THREADS)
        .map(|_| Context::open())
        .collect::<Result<Vec<_>>>()?;
    let dev = Shared(Mutex::new(rig.bench.dev.as_mut()));
    together(lasting(TIME), |thread, round| {
        cycle(&dev, &contexts[thread], &memories[thread], round)
    })?;
    contexts.iter().try_for_each(nothing_mapped)
}

fn threads_with_one_context(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memories = buffers()?;
    let context = Context::open()?;
    let dev = Shared(Mutex::new(rig.bench.dev.as_mut()));
    together(lasting(TIME), |thread, round| {
        cycle(&dev, &context, &memories[thread], round)?;
        // And a look at what the others do meanwhile. (How many there are cannot be said: the list
        // is walked step by step, and what moves on may be met again.)
        expect::succeeds("QUERY", context.mappings())?;
        Ok(())
    })?;
    nothing_mapped(&context)
}

/// Every successful map is undone exactly once, whoever gets it.
fn one_buffer_for_all_threads(_: &Host) -> Result<()> {
    let memory = UserMemory::scattered(2 * PAGE)?;
    let context = Context::open()?;
    let (mapped, unmapped) = (AtomicUsize::new(0), AtomicUsize::new(0));
    together(lasting(TIME / 2), |thread, round| {
        if (thread + round) % 2 == 0 {
            let answer = context.map_user(memory.va(), memory.length());
            expect::succeeds("map", answer)?;
            mapped.fetch_add(1, Ordering::Relaxed);
        }
        match context.unmap_user(memory.va(), memory.length()) {
            Ok(()) => unmapped.fetch_add(1, Ordering::Relaxed),
            Err(Errno::NOENT) => 0,
            Err(error) => return expect::succeeds("unmap", Err(error)),
        };
        Ok(())
    })?;
    let left = expect::succeeds("QUERY", context.mappings())?.len();
    expect::equal(
        "mappings made",
        mapped.into_inner(),
        unmapped.into_inner() + left,
    )
}

fn while_pfs_come_and_go(host: &Host) -> Result<()> {
    let memories = buffers()?;
    let context = Context::open()?;
    let pfs = host.all_pfs()?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let coming_and_going = scope.spawn(|| -> Result<()> {
            let result = (0..4).try_for_each(|_| -> Result<()> {
                for pf in &pfs {
                    std::thread::sleep(Duration::from_millis(60));
                    pf.unbind()?;
                }
                for pf in &pfs {
                    std::thread::sleep(Duration::from_millis(60));
                    pf.bind(OWN_DRIVER)?;
                }
                Ok(())
            });
            done.store(true, Ordering::Relaxed);
            result
        });
        let goes_on = || !done.load(Ordering::Relaxed);
        let mapping = together(goes_on, |thread, round| {
            let memory = &memories[thread];
            let length = (1 + round as u64 % 16) * PAGE_U64;
            match context.map_user(memory.va(), length) {
                Err(Errno::NODEV) => std::thread::sleep(Duration::from_millis(1)),
                answer => {
                    expect::succeeds("map", answer)?;
                    let answer = context.unmap_user(memory.va(), length);
                    expect::succeeds("unmap, with or without a PF", answer)?;
                }
            }
            Ok(())
        });
        coming_and_going
            .join()
            .expect("threads return their errors")?;
        mapping.map(|_| ())
    })?;
    nothing_mapped(&context)?;
    let mut rig = Rig::new(host)?;
    let iova = rig.map(&memories[0])?;
    rig.reaches(iova, &memories[0])
}

/// The descriptor goes while other threads are inside of the call; the file goes when they are
/// done.
fn closed_while_mapping(_: &Host) -> Result<()> {
    let memory = UserMemory::scattered(8 * PAGE)?;
    memory.touch();
    for _ in 0..10 {
        let context = Context::open()?;
        let copies = (0..THREADS)
            .map(|_| context.duplicate())
            .collect::<Result<Vec<_>>>()?;
        drop(context);
        std::thread::scope(|scope| {
            for copy in copies {
                let memory = &memory;
                scope.spawn(move || {
                    for _ in 0..10 {
                        // What is left mapped goes with the last of them.
                        let _ = copy.map_user(memory.va(), memory.length());
                    }
                });
            }
        });
    }
    Ok(())
}
