// SPDX-License-Identifier: GPL-2.0
//! Exact unmap only: whatever is not exactly one mapping of this context is
//! refused with ENOENT, and the device reaches what it reached before.

use anyhow::Result;
use rustix::io::Errno;

use crate::abi::Context;
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::{Buffer, PAGE};

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        part_of_a_mapping,
        more_than_a_mapping,
        two_neighbours_at_once,
        never_mapped,
        twice,
        of_another_context,
        after_the_memory_was_freed,
        in_another_order,
    ]
}

/// The few that also run on devices that take long over each transfer.
pub fn essential_tests() -> Vec<Test<Host>> {
    list_tests![
        part_of_a_mapping,
        of_another_context,
        after_the_memory_was_freed
    ]
}

/// These unmaps are refused and the buffer stays in reach.
fn refused_ranges(
    bench: &mut Bench,
    buffer: &Buffer,
    iova: u64,
    ranges: &[(u64, u64)],
) -> Result<()> {
    for (start, length) in ranges {
        expect::fails(
            &format!(
                "unmap of {length:#x} bytes at mapping{:+#x}",
                start.wrapping_sub(iova)
            ),
            bench.context.unmap(*start, *length),
            Errno::NOENT,
        )?;
    }
    bench.reaches(iova, buffer)
}

fn part_of_a_mapping(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let buffer = Buffer::pages(4)?;
    let iova = fresh_iova(4);
    bench.map(&buffer, iova)?;
    let parts = [
        (iova, 1),
        (iova, PAGE_U64),
        (iova, 3 * PAGE_U64),
        (iova + PAGE_U64, PAGE_U64),
        (iova + PAGE_U64, 3 * PAGE_U64),
        (iova + 3 * PAGE_U64, PAGE_U64),
    ];
    refused_ranges(&mut bench, &buffer, iova, &parts)?;
    bench.unmap(&buffer, iova)?;
    bench.refused(iova, &buffer)
}

fn more_than_a_mapping(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let buffer = Buffer::pages(2)?;
    let iova = fresh_iova(8);
    let iova = iova + PAGE_U64;
    bench.map(&buffer, iova)?;
    let larger = [
        (iova, 2 * PAGE_U64 + 1),
        (iova, 3 * PAGE_U64),
        (iova - PAGE_U64, 2 * PAGE_U64),
        (iova - PAGE_U64, 3 * PAGE_U64),
        (iova - PAGE_U64, 4 * PAGE_U64),
        (iova + PAGE_U64, 2 * PAGE_U64),
        (iova, 1 << 30),
    ];
    refused_ranges(&mut bench, &buffer, iova, &larger)?;
    bench.unmap(&buffer, iova)
}

fn two_neighbours_at_once(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (one, other) = (Buffer::page()?, Buffer::page()?);
    let iova = fresh_iova(2);
    let next = iova + PAGE_U64;
    bench.map(&one, iova)?;
    bench.map(&other, next)?;
    refused_ranges(&mut bench, &one, iova, &[(iova, 2 * PAGE_U64)])?;
    bench.reaches(next, &other)?;
    bench.unmap(&one, iova)?;
    bench.refused(iova, &one)?;
    bench.reaches(next, &other)?;
    bench.unmap(&other, next)?;
    bench.refused(next, &other)
}

fn never_mapped(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let iova = fresh_iova(1);
    expect::fails("unmap", context.unmap(iova, PAGE_U64), Errno::NOENT)
}

fn twice(host: &Host) -> Result<()> {
    let bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    bench.map(&page, iova)?;
    bench.unmap(&page, iova)?;
    expect::fails(
        "second unmap",
        bench.context.unmap(iova, PAGE_U64),
        Errno::NOENT,
    )
}

fn of_another_context(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    bench.map(&page, iova)?;
    let stranger = Context::open()?;
    expect::fails(
        "a stranger's unmap",
        stranger.unmap(iova, PAGE_U64),
        Errno::NOENT,
    )?;
    bench.reaches(iova, &page)?;
    drop(stranger);
    bench.reaches(iova, &page)?;
    bench.unmap(&page, iova)?;
    bench.refused(iova, &page)
}

fn after_the_memory_was_freed(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    for buffer in [Buffer::page()?, Buffer::pages(3)?, Buffer::transparent(5)?] {
        let iova = fresh_iova(buffer.len() / PAGE);
        let length = u64::try_from(buffer.len())?;
        bench.map(&buffer, iova)?;
        bench.reaches(iova, &buffer)?;
        drop(buffer);
        expect::succeeds("unmap of freed memory", bench.context.unmap(iova, length))?;
        bench.refused(iova, &Buffer::page()?)?;
    }
    Ok(())
}

fn in_another_order(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let pages = [Buffer::page()?, Buffer::page()?, Buffer::page()?];
    let iova = fresh_iova(3);
    let places = [iova, iova + PAGE_U64, iova + 2 * PAGE_U64];
    for (page, place) in pages.iter().zip(places) {
        bench.map(page, place)?;
    }
    bench.unmap(&pages[1], places[1])?;
    bench.reaches(places[0], &pages[0])?;
    bench.refused(places[1], &pages[1])?;
    bench.reaches(places[2], &pages[2])?;
    bench.unmap(&pages[0], places[0])?;
    bench.unmap(&pages[2], places[2])?;
    bench.refused(places[0], &pages[0])?;
    bench.refused(places[2], &pages[2])
}
