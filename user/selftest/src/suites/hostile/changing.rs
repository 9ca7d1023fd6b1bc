// SPDX-License-Identifier: GPL-2.0
//! Memory that another thread changes while a call looks at it: the structure, the array
//! that it names, the buffer itself. A call uses one state of what it read, once; in the end
//! pins, charges and mappings agree, and all go.

use anyhow::{ensure, Result};
use qat_iommu_uapi as uapi;
use rustix::fd::AsFd;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::abi::{self, user, Context};
use crate::expect;
use crate::host::Host;
use crate::hostdrv::lasting;
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::{Memory, PAGE};
use crate::suites::user::Rig;

const PAGE_U64: u64 = 4096;
const TIME: Duration = Duration::from_millis(1500);
/// How often at least, however slow the machine.
const LEAST: usize = 200;
/// An address of the kernel's.
const KERNEL: u64 = 0xffff_8880_0000_0000;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        structures_change,
        arrays_change,
        ranges_to_unmap_change,
        the_buffer_changes,
    ]
}

/// Has another thread do something all the time while this one acts.
fn while_another(
    disturbs: impl Fn(usize) -> Result<()> + Send + Sync,
    mut act: impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                disturbs(round)?;
                round += 1;
            }
            Ok(())
        });
        let goes_on = lasting(TIME);
        let mut round = 0;
        let mut result = Ok(());
        while result.is_ok() && (goes_on() || round < LEAST) {
            result = act(round);
            round += 1;
        }
        done.store(true, Ordering::Relaxed);
        let other: Result<()> = other.join().expect("threads return their errors");
        result.and(other)
    })
}

/// What is charged, what is pinned and what the context lists are one and the same; then all goes.
fn adds_up(context: Context, locked: u64, pins: i64) -> Result<()> {
    let bytes: u64 = expect::succeeds("QUERY", context.mappings())?
        .iter()
        .map(|mapping| mapping.length)
        .sum();
    expect::equal("charged KiB", ledger::locked()? - locked, bytes / 1024)?;
    let pinned = u64::try_from(ledger::pins()? - pins)?;
    expect::equal("pins", pinned, bytes / PAGE_U64)?;
    drop(context);
    expect::equal("pins after the close", ledger::pins()?, pins)?;
    expect::equal("charged KiB after the close", ledger::locked()?, locked)
}

fn put(memory: &UserMemory, word: usize, value: u64) {
    memory.write(8 * word, &value.to_ne_bytes());
}

/// A page with a structure at its beginning, as the other thread sees it.
fn page_of<T: Copy>(request: T) -> Result<UserMemory> {
    let page = UserMemory::scattered(PAGE)?;
    for (word, value) in abi::padded(request, size_of::<T>()).into_iter().enumerate() {
        put(&page, word, value);
    }
    Ok(page)
}

fn word(memory: &UserMemory, word: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&memory.read(8 * word, 8));
    u64::from_ne_bytes(bytes)
}

/// Every error that a mixture of good and bad fields may give.
fn is_a_refusal(error: Errno, allowed: &[Errno]) -> Result<()> {
    ensure!(
        allowed.contains(&error),
        "{} was not to come",
        expect::name(error)
    );
    Ok(())
}

fn structures_change(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    memory.touch();
    let (locked, pins) = (ledger::locked()?, ledger::pins()?);
    let context = Context::open()?;
    let page = page_of(user::map_request(memory.va(), PAGE_U64))?;
    let good = word(&page, 0);
    let others = [
        (
            0,
            [good, good & !0xffff_ffff, good | 0xffff, good | (1 << 63)],
        ),
        (1, [memory.va(), KERNEL, memory.va() + PAGE_U64, 0]),
        (2, [PAGE_U64, 3 * PAGE_U64, u64::MAX, 0]),
        (3, [0, PAGE_U64, 3, 1 << 63]),
    ];
    let mut mapped = 0;
    while_another(
        |round| {
            let (at, values) = others[round / 4 % others.len()];
            put(&page, at, values[round % 4]);
            // As often good as bad.
            put(&page, at, values[0]);
            Ok(())
        },
        |_| {
            let start = page.start().cast();
            let answer = abi::raw(context.as_fd(), uapi::QAT_IOMMU_MAP_USER, start);
            let found = context.query(0);
            // It is mapped and the caller knows, or it is not.
            expect::equal("mapped", found.is_ok(), answer.is_ok())?;
            let found = match (answer, found) {
                (Ok(()), Ok(found)) => found,
                (answer, _) => {
                    return is_a_refusal(
                        answer.err().unwrap_or(Errno::IO),
                        &[
                            Errno::INVAL,
                            Errno::TOOBIG,
                            Errno::OPNOTSUPP,
                            Errno::FAULT,
                            Errno::OVERFLOW,
                            Errno::NOMEM,
                            Errno::NOSPC,
                        ],
                    )
                }
            };
            mapped += 1;
            // What came of it is one of the requests that were there.
            ensure!(
                [memory.va(), memory.va() + PAGE_U64].contains(&found.backing)
                    && [PAGE_U64, 3 * PAGE_U64].contains(&found.length),
                "mapped are {:#x} bytes at {:#x}, which nobody asked for",
                found.length,
                found.backing
            );
            if found.length == PAGE_U64 && found.backing == memory.va() {
                rig.reaches_at(found.iova, &memory, 0)?;
            }
            expect::succeeds("unmap", context.unmap(found.iova, found.length))
        },
    )?;
    ensure!(mapped > 0, "none of the requests was good");
    adds_up(context, locked, pins)
}

fn arrays_change(host: &Host) -> Result<()> {
    const COUNT: usize = 32;
    let _rig = Rig::new(host)?;
    let memory = UserMemory::scattered(COUNT * PAGE)?;
    memory.touch();
    let (locked, pins) = (ledger::locked()?, ledger::pins()?);
    let context = Context::open()?;
    let list = UserMemory::scattered(PAGE)?;
    let place = |index: usize| memory.va() + index as u64 * PAGE_U64;
    for index in 0..COUNT {
        put(&list, 3 * index, place(index));
        put(&list, 3 * index + 1, PAGE_U64);
    }
    let (mut mapped, mut refused) = (0, 0);
    while_another(
        |round| {
            let index = round * 7 % COUNT;
            let bad = [(0, KERNEL), (1, 0), (1, u64::MAX), (0, 8)][round % 4];
            put(&list, 3 * index + bad.0, bad.1);
            std::thread::yield_now();
            put(&list, 3 * index, place(index));
            put(&list, 3 * index + 1, PAGE_U64);
            // As long good as bad.
            std::thread::yield_now();
            Ok(())
        },
        |_| {
            let mut request = uapi::qat_iommu_map_user_batch {
                buffers: list.va(),
                count: u32::try_from(COUNT)?,
                ..user::map_batch_request(&mut [])
            };
            match context.ioctl(uapi::QAT_IOMMU_MAP_USER_BATCH, &mut request) {
                Ok(()) => mapped += 1,
                Err(error) => {
                    refused += 1;
                    is_a_refusal(
                        error,
                        &[Errno::INVAL, Errno::FAULT, Errno::OVERFLOW, Errno::NOMEM],
                    )?;
                    expect::holds(
                        "it names one of them",
                        usize::try_from(request.failed)? < COUNT,
                    )?;
                }
            }
            let found = expect::succeeds("QUERY", context.mappings())?;
            ensure!(
                found.is_empty() || found.len() == COUNT,
                "{} of {COUNT} are mapped",
                found.len()
            );
            for mapping in found {
                expect::succeeds("unmap", context.unmap(mapping.iova, mapping.length))?;
            }
            Ok(())
        },
    )?;
    ensure!(mapped > 0, "none of the batches was good");
    ensure!(refused > 0, "none of the batches was bad");
    adds_up(context, locked, pins)
}

/// All that is named is unmapped, or nothing; what is never named stays.
fn ranges_to_unmap_change(host: &Host) -> Result<()> {
    const COUNT: usize = 16;
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(COUNT * PAGE)?;
    memory.touch();
    let kept = UserMemory::scattered(PAGE)?;
    let kept_iova = rig.map(&kept)?;
    let (locked, pins) = (ledger::locked()?, ledger::pins()?);
    let context = Context::open()?;
    let list = UserMemory::scattered(PAGE)?;
    let places: Vec<_> = (0..COUNT as u64)
        .map(|index| (memory.va() + index * PAGE_U64, PAGE_U64))
        .collect();
    let fill = |context: &Context| -> Result<()> {
        let answer = context.map_batch(&places).map_err(|refused| refused.error);
        for (index, iova) in expect::succeeds("map", answer)?.into_iter().enumerate() {
            put(&list, 2 * index, iova);
            put(&list, 2 * index + 1, PAGE_U64);
        }
        Ok(())
    };
    fill(&context)?;
    while_another(
        |round| {
            let index = round * 5 % COUNT;
            let length = [2 * PAGE_U64, 0, u64::MAX][round % 3];
            put(&list, 2 * index + 1, length);
            std::thread::yield_now();
            put(&list, 2 * index + 1, PAGE_U64);
            std::thread::yield_now();
            Ok(())
        },
        |_| {
            let mut request = uapi::qat_iommu_unmap_batch {
                ranges: list.va(),
                count: u32::try_from(COUNT)?,
                ..user::unmap_batch_request(&[])
            };
            let answer = context.ioctl(uapi::QAT_IOMMU_UNMAP_BATCH, &mut request);
            let left = expect::succeeds("QUERY", context.mappings())?.len();
            match answer {
                Ok(()) => {
                    expect::equal("mappings left", left, 0)?;
                    fill(&context)
                }
                Err(error) => {
                    is_a_refusal(error, &[Errno::INVAL, Errno::NOENT, Errno::OVERFLOW])?;
                    expect::equal("mappings left", left, COUNT)
                }
            }
        },
    )?;
    adds_up(context, locked, pins)?;
    rig.reaches(kept_iova, &kept)
}

/// Pages given up, moved away, replaced by a file's, and the right to write taken away and given
/// back, while the buffer is mapped and unmapped.
fn the_buffer_changes(host: &Host) -> Result<()> {
    const PAGES: usize = 64;
    let _rig = Rig::new(host)?;
    let memory = UserMemory::scattered(PAGES * PAGE)?;
    let (_view, file) = UserMemory::memfd(PAGES * PAGE, MemfdFlags::CLOEXEC)?;
    let elsewhere = UserMemory::scattered(PAGE)?;
    let (locked, pins) = (ledger::locked()?, ledger::pins()?);
    let context = Context::open()?;
    let mut mapped = 0;
    while_another(
        |round| {
            match round % 5 {
                0 => memory.advise(Advice::LinuxDontNeed)?,
                1 => memory.protect(MprotectFlags::READ)?,
                2 => memory.protect(MprotectFlags::READ | MprotectFlags::WRITE)?,
                3 => memory.overlay(PAGE, (PAGES - 2) * PAGE, &file, MapFlags::PRIVATE)?,
                _ => memory.lend_first_page(&elsewhere)?,
            }
            Ok(())
        },
        |round| {
            let length = (1 + round as u64 % PAGES as u64) * PAGE_U64;
            match context.map_user(memory.va(), length) {
                Ok(iova) => {
                    mapped += 1;
                    match round % 3 {
                        0 => expect::succeeds("unmap", context.unmap(iova, length)),
                        1 => expect::succeeds("unmap", context.unmap_user(memory.va(), length)),
                        // Some stay, for a while.
                        _ => Ok(()),
                    }
                }
                Err(error) => is_a_refusal(error, &[Errno::FAULT, Errno::NOMEM]),
            }
        },
    )?;
    ensure!(mapped > 0, "the buffer was never mapped");
    adds_up(context, locked, pins)
}
