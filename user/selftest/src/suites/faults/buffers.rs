// SPDX-License-Identifier: GPL-2.0
//! Buffers of programs, one by one and in batches, mapped and unmapped.

use anyhow::Result;
use rustix::io::Errno;

use super::sweep::sweep;
use crate::abi::user::Place;
use crate::abi::Context;
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::{Host, Iommu};
use crate::ktap::{list_tests, skip, Test};
use crate::mem::user::UserMemory;
use crate::mem::{HUGE, PAGE};
use crate::suites::user::{full_tables_end_qemu, Rig};

pub fn map_tests() -> Vec<Test<Host>> {
    list_tests![
        map_user,
        map_user_of_many_pages,
        map_user_of_pages_that_are_not_there,
        map_user_of_a_huge_page,
        map_user_at_a_fixed_address,
        map_user_across_two_tables,
        map_user_batch,
        map_user_batch_across_two_tables,
    ]
}

pub fn unmap_tests() -> Vec<Test<Host>> {
    list_tests![unmap_user, unmap_user_by_iova, unmap_batch]
}

/// A context that has its space: the first call that needs one chooses it, whatever comes of the
/// call.
fn ready() -> Result<Context> {
    let context = Context::open()?;
    expect::succeeds("ATTACH", context.attach_default())?;
    Ok(context)
}

/// Memory that is there: to pin it takes no page.
fn present(pages: usize) -> Result<UserMemory> {
    let memory = UserMemory::scattered(pages * PAGE)?;
    memory.touch();
    Ok(memory)
}

/// The PF reaches the buffer, and no longer once it is unmapped.
fn mapped(rig: &mut Rig, context: &Context, memory: &UserMemory, iova: u64) -> Result<()> {
    rig.reaches(iova, memory)?;
    let answer = context.unmap_user(memory.va(), memory.length());
    expect::succeeds("unmap", answer)?;
    rig.refused(iova, memory)
}

fn map(host: &Host, least: usize, memory: &UserMemory) -> Result<()> {
    sweep(
        &mut Rig::new(host)?,
        least,
        |_| ready(),
        |_, context, faults| faults.during(|| context.map_user(memory.va(), memory.length())),
        |rig, context, iova| mapped(rig, &context, memory, iova),
    )
}

fn map_user(host: &Host) -> Result<()> {
    map(host, 1, &present(1)?)
}

/// More than are pinned at a time, in more pieces than fit a small list. Fewer where each piece is a
/// request, which can fail.
fn map_user_of_many_pages(host: &Host) -> Result<()> {
    let pages = match host.iommu {
        Iommu::Virtio => 40,
        _ if full_tables_end_qemu(host) => 300,
        _ => 600,
    };
    map(host, 2, &present(pages)?)
}

fn map_user_of_a_huge_page(host: &Host) -> Result<()> {
    map(host, 1, &UserMemory::huge(HUGE)?)
}

fn map_user_of_pages_that_are_not_there(host: &Host) -> Result<()> {
    sweep(
        &mut Rig::new(host)?,
        1,
        |_| Ok((ready()?, UserMemory::scattered(3 * PAGE)?)),
        |_, (context, memory), faults| {
            faults.during(|| context.map_user(memory.va(), memory.length()))
        },
        |rig, (context, memory), iova| mapped(rig, &context, &memory, iova),
    )
}

fn map_user_at_a_fixed_address(host: &Host) -> Result<()> {
    if !host.takes_fixed() {
        return Err(skip("this space takes no fixed ranges"));
    }
    let memory = present(2)?;
    sweep(
        &mut Rig::new(host)?,
        2,
        |_| Ok((ready()?, fresh_iova(2))),
        |_, (context, iova), faults| {
            faults.during(|| context.map_user_at(memory.va(), memory.length(), *iova))
        },
        |rig, (context, _), iova| mapped(rig, &context, &memory, iova),
    )
}

fn has_tables(host: &Host) -> Result<()> {
    match host.iommu {
        Iommu::Virtio => Err(skip("this IOMMU is sent requests, and has no page tables")),
        _ => Ok(()),
    }
}

/// More than go to the IOMMU at a time, of which the last need another page table than the first.
fn map_user_across_two_tables(host: &Host) -> Result<()> {
    const TABLE: u64 = 2 << 20;
    if !host.takes_fixed() {
        return Err(skip("this space takes no fixed ranges"));
    }
    has_tables(host)?;
    let memory = present(80)?;
    let before = 40 * PAGE as u64;
    let mut rig = Rig::new(host)?;
    // What the kernel's debugging needs once, in between, moves a failure past the one that matters.
    for _ in 0..4 {
        sweep(
            &mut rig,
            2,
            |_| {
                let boundary = fresh_iova(80).next_multiple_of(TABLE) + TABLE;
                Ok((ready()?, boundary - before))
            },
            |_, (context, iova), faults| {
                faults.during(|| context.map_user_at(memory.va(), memory.length(), *iova))
            },
            |rig, (context, _), iova| mapped(rig, &context, &memory, iova),
        )?;
    }
    Ok(())
}

/// Buffers of so many pages, as a batch names them.
fn several(pages: impl IntoIterator<Item = usize>) -> Result<(Vec<UserMemory>, Vec<Place>)> {
    let memories = pages.into_iter().map(present).collect::<Result<Vec<_>>>()?;
    let places = memories.iter().map(|memory| (memory.va(), memory.length()));
    let places = places.collect();
    Ok((memories, places))
}

fn map_batch(host: &Host, pages: impl IntoIterator<Item = usize>) -> Result<()> {
    let (memories, places) = several(pages)?;
    sweep(
        &mut Rig::new(host)?,
        4,
        |_| ready(),
        |_, context, faults| {
            faults.during(|| context.map_batch(&places).map_err(|refused| refused.error))
        },
        |rig, context, iovas| {
            for (memory, iova) in memories.iter().zip(iovas) {
                mapped(rig, &context, memory, iova)?;
            }
            Ok(())
        },
    )
}

fn map_user_batch(host: &Host) -> Result<()> {
    map_batch(host, 1..6)
}

/// The second covers a page table, which goes when it is unmapped: so each time the first is made
/// before the table that the second needs.
fn map_user_batch_across_two_tables(host: &Host) -> Result<()> {
    if full_tables_end_qemu(host) {
        return Err(skip("a full page table ends QEMU"));
    }
    has_tables(host)?;
    (0..3).try_for_each(|_| map_batch(host, [2, 1024, 3]))
}

fn unmap(host: &Host, act: impl Fn(&Context, &UserMemory, u64) -> Result<(), Errno>) -> Result<()> {
    let memory = present(20)?;
    sweep(
        &mut Rig::new(host)?,
        1,
        |rig| {
            let context = ready()?;
            let answer = context.map_user(memory.va(), memory.length());
            let iova = expect::succeeds("map", answer)?;
            rig.reaches(iova, &memory)?;
            Ok((context, iova))
        },
        |_, (context, iova), faults| faults.during(|| act(context, &memory, *iova)),
        |rig, (_context, iova), ()| rig.refused(iova, &memory),
    )
}

fn unmap_user(host: &Host) -> Result<()> {
    unmap(host, |context, memory, _| {
        context.unmap_user(memory.va(), memory.length())
    })
}

fn unmap_user_by_iova(host: &Host) -> Result<()> {
    unmap(host, |context, memory, iova| {
        context.unmap(iova, memory.length())
    })
}

fn unmap_batch(host: &Host) -> Result<()> {
    let (memories, places) = several(1..6)?;
    sweep(
        &mut Rig::new(host)?,
        2,
        |rig| {
            let context = ready()?;
            let answer = context.map_batch(&places).map_err(|refused| refused.error);
            let iovas = expect::succeeds("map", answer)?;
            let mut ranges: Vec<Place> = Vec::new();
            for (memory, iova) in memories.iter().zip(iovas) {
                rig.reaches(iova, memory)?;
                ranges.push((iova, memory.length()));
            }
            Ok((context, ranges))
        },
        |_, (context, ranges), faults| {
            faults.during(|| context.unmap_batch(ranges).map_err(|refused| refused.error))
        },
        |rig, (_context, ranges), ()| {
            for (memory, (iova, _)) in memories.iter().zip(ranges) {
                rig.refused(iova, memory)?;
            }
            Ok(())
        },
    )
}
