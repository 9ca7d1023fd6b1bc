// SPDX-License-Identifier: GPL-2.0
//! A map over any part of a live mapping is refused with EEXIST and changes
//! nothing: not what is mapped, and not what is beside it.

use anyhow::Result;
use rustix::io::Errno;

use crate::abi::Context;
use crate::dma::{self, fresh_iova, Bench};
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::{Buffer, PAGE};

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        the_same_range,
        by_a_page_at_each_end,
        inside_and_around,
        over_two_with_a_gap,
        by_another_context,
        neighbours_are_fine,
        concurrent_maps_never_overlap,
    ]
}

/// The few that also run on devices that take long over each transfer.
pub fn essential_tests() -> Vec<Test<Host>> {
    list_tests![by_a_page_at_each_end]
}

fn exists(context: &Context, buffer: &Buffer, iova: u64, pages: u64) -> Result<()> {
    expect::fails(
        &format!("map of {pages} pages at {iova:#x}"),
        context.map(buffer.phys(), iova, pages * PAGE_U64),
        Errno::EXIST,
    )
}

fn the_same_range(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (page, other) = (Buffer::page()?, Buffer::page()?);
    let iova = fresh_iova(1);
    bench.map(&page, iova)?;
    exists(&bench.context, &page, iova, 1)?;
    exists(&bench.context, &other, iova, 1)?;
    bench.reaches(iova, &page)?;
    bench.unmap(&page, iova)?;
    bench.refused(iova, &page)
}

fn by_a_page_at_each_end(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (mapped, other) = (Buffer::pages(4)?, Buffer::pages(2)?);
    let iova = fresh_iova(8) + 2 * PAGE_U64;
    bench.map(&mapped, iova)?;
    let before = iova - PAGE_U64;
    let at_the_end = iova + 3 * PAGE_U64;
    exists(&bench.context, &other, before, 2)?;
    exists(&bench.context, &other, at_the_end, 2)?;
    // Neither the page before nor the one after was left mapped.
    dma::refused_at(bench.dev.as_mut(), before, &other, 0)?;
    dma::refused_at(bench.dev.as_mut(), at_the_end, &other, PAGE)?;
    bench.reaches(iova, &mapped)?;
    bench.unmap(&mapped, iova)?;
    bench.refused(iova, &mapped)
}

fn inside_and_around(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (mapped, other) = (Buffer::pages(4)?, Buffer::pages(8)?);
    let iova = fresh_iova(8) + 2 * PAGE_U64;
    bench.map(&mapped, iova)?;
    exists(&bench.context, &other, iova, 1)?;
    exists(&bench.context, &other, iova + PAGE_U64, 2)?;
    exists(&bench.context, &other, iova + 3 * PAGE_U64, 1)?;
    exists(&bench.context, &other, iova - PAGE_U64, 6)?;
    exists(&bench.context, &other, iova, 8)?;
    bench.reaches(iova, &mapped)?;
    bench.unmap(&mapped, iova)?;
    bench.refused(iova, &mapped)
}

fn over_two_with_a_gap(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (one, two, other) = (Buffer::page()?, Buffer::page()?, Buffer::pages(5)?);
    let iova = fresh_iova(8);
    bench.map(&one, iova + PAGE_U64)?;
    bench.map(&two, iova + 3 * PAGE_U64)?;
    exists(&bench.context, &other, iova, 5)?;
    exists(&bench.context, &other, iova + 2 * PAGE_U64, 2)?;
    dma::refused_at(bench.dev.as_mut(), iova, &other, 2 * PAGE)?;
    bench.reaches(iova + PAGE_U64, &one)?;
    bench.reaches(iova + 3 * PAGE_U64, &two)
}

fn by_another_context(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (page, other) = (Buffer::page()?, Buffer::page()?);
    let iova = fresh_iova(1);
    bench.map(&page, iova)?;
    let stranger = Context::open()?;
    exists(&stranger, &other, iova, 1)?;
    bench.reaches(iova, &page)?;
    bench.unmap(&page, iova)?;
    expect::succeeds(
        "the stranger's map after the unmap",
        stranger.map(other.phys(), iova, PAGE_U64),
    )?;
    bench.reaches(iova, &other)
}

fn neighbours_are_fine(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let pages = [Buffer::page()?, Buffer::page()?, Buffer::page()?];
    let iova = fresh_iova(3);
    bench.map(&pages[1], iova + PAGE_U64)?;
    bench.map(&pages[0], iova)?;
    bench.map(&pages[2], iova + 2 * PAGE_U64)?;
    for (index, page) in (0..).zip(&pages) {
        bench.reaches(iova + index * PAGE_U64, page)?;
    }
    Ok(())
}

/// Threads map and unmap at random in one window. Whoever succeeds marks its pages as its own:
/// two owners of one page at a time, an unmap that fails, or an error other than EEXIST is a
/// fault of the module.
fn concurrent_maps_never_overlap(_: &Host) -> Result<()> {
    use std::sync::atomic::{AtomicUsize, Ordering};

    const WINDOW: usize = 16;
    const THREADS: usize = 6;
    const ROUNDS: usize = 250;

    let buffer = Buffer::pages(WINDOW)?;
    let phys = buffer.phys();
    let base = fresh_iova(WINDOW);
    let owners: [AtomicUsize; WINDOW] = std::array::from_fn(|_| AtomicUsize::new(0));
    let made = AtomicUsize::new(0);
    let refused = AtomicUsize::new(0);

    let worker = |me: usize| -> Result<()> {
        let context = Context::open()?;
        for bytes in std::iter::repeat_with(|| crate::mem::fresh_bytes(2)).take(ROUNDS) {
            let first = usize::from(bytes[0] >> 1) % WINDOW;
            let count = 1 + usize::from(bytes[1] >> 1) % (WINDOW - first).min(4);
            let offset = u64::try_from(first * PAGE)?;
            let length = u64::try_from(count * PAGE)?;
            match context.map(phys + offset, base + offset, length) {
                Ok(_) => {}
                Err(Errno::EXIST) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                other => {
                    expect::succeeds("map", other)?;
                }
            }
            made.fetch_add(1, Ordering::Relaxed);
            for owner in &owners[first..first + count] {
                let before = owner.swap(me, Ordering::SeqCst);
                expect::equal("owner of a page that could be mapped", before, 0)?;
            }
            std::thread::yield_now();
            for owner in &owners[first..first + count] {
                let before = owner.swap(0, Ordering::SeqCst);
                expect::equal("owner of a mapped page", before, me)?;
            }
            expect::succeeds("unmap", context.unmap(base + offset, length))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS)
            .map(|me| scope.spawn(move || worker(me)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a worker returns its errors"))
            .collect::<Result<Vec<()>>>()
    })?;
    expect::holds("some maps succeeded", made.into_inner() > THREADS)?;
    expect::holds("some maps met each other", refused.into_inner() > 0)?;
    // Nothing is left behind.
    let context = Context::open()?;
    expect::succeeds(
        "map of the whole window afterwards",
        context.map(phys, base, u64::try_from(WINDOW * PAGE)?),
    )?;
    Ok(())
}
