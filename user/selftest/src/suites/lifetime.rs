// SPDX-License-Identifier: GPL-2.0
//! How long a mapping lives: as long as the last reference to the open file that
//! made it, however that ends; and how long its memory is kept from others: as
//! long as the mapping lives.

use anyhow::{ensure, Result};
use rustix::io::Errno;

use crate::abi::Context;
use crate::dma::{self, fresh_iova, Bench};
use crate::expect;
use crate::helper::{Helper, HELD};
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::{self, fresh_bytes, Buffer, Pages, PAGE};

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        closing_removes_mappings,
        closing_removes_many_mappings,
        a_duplicate_keeps_mappings,
        exit_removes_mappings,
        sigkill_removes_mappings,
        exec_removes_mappings,
        an_inherited_file_outlives_the_process,
        freed_memory_is_not_handed_on,
        memory_of_a_killed_process_is_not_handed_on_before,
        freed_huge_page_is_not_handed_on,
        memory_that_is_partly_free,
        memory_comes_back_after_unmap,
        memory_comes_back_after_close,
    ]
}

/// The few that also run on devices that take long over each transfer.
pub fn essential_tests() -> Vec<Test<Host>> {
    list_tests![closing_removes_mappings, sigkill_removes_mappings]
}

fn closing_removes_mappings(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    let context = Context::open()?;
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    bench.reaches(iova, &page)?;
    drop(context);
    bench.refused(iova, &page)?;
    bench.map(&page, iova)?;
    bench.reaches(iova, &page)
}

fn closing_removes_many_mappings(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let buffer = Buffer::huge(1)?;
    let base = fresh_iova(512);
    let context = Context::open()?;
    // Every second page, so that they are as many mappings.
    let place = |page: u64| base + 2 * page * PAGE_U64;
    for page in 0..256 {
        let phys = buffer.phys() + page * PAGE_U64;
        expect::succeeds("map", context.map(phys, place(page), PAGE_U64))?;
    }
    let last = place(255) - 255 * PAGE_U64;
    dma::reaches_at(bench.dev.as_mut(), last, &buffer, 255 * PAGE, 64)?;
    drop(context);
    for page in [0, 1, 100, 255] {
        bench.refused(place(page), &Buffer::page()?)?;
    }
    bench.map(&buffer, base)?;
    bench.reaches(base, &buffer)
}

fn a_duplicate_keeps_mappings(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    let context = Context::open()?;
    let duplicate = context.duplicate()?;
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    drop(context);
    bench.reaches(iova, &page)?;
    expect::fails(
        "unmap through another file",
        bench.context.unmap(iova, PAGE_U64),
        Errno::NOENT,
    )?;
    drop(duplicate);
    bench.refused(iova, &page)
}

/// The device reads at `iova` something, or is refused.
fn readable(bench: &mut Bench, iova: u64) -> Result<bool> {
    let mut seen = [0; 64];
    bench.dev.read(iova, &mut seen)?;
    Ok(seen.iter().all(|byte| *byte & 1 == 1) && seen.windows(2).any(|pair| pair[0] != pair[1]))
}

fn gone(bench: &mut Bench, iova: u64) -> Result<()> {
    expect::holds(
        "the device reaches nothing any more",
        !readable(bench, iova)?,
    )?;
    let page = Buffer::page()?;
    expect::succeeds(
        "map at the same place",
        bench.context.map(page.phys(), iova, PAGE_U64),
    )?;
    bench.reaches(iova, &page)
}

fn exit_removes_mappings(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let iova = fresh_iova(HELD);
    let mut helper = Helper::holding(iova)?;
    expect::holds(
        "the device reads the other process's page",
        readable(&mut bench, iova)?,
    )?;
    helper.tell("exit")?;
    helper.wait()?;
    gone(&mut bench, iova)
}

fn sigkill_removes_mappings(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let iova = fresh_iova(HELD);
    let helper = Helper::holding(iova)?;
    expect::holds(
        "the device reads the other process's page",
        readable(&mut bench, iova)?,
    )?;
    helper.kill()?;
    gone(&mut bench, iova)
}

fn exec_removes_mappings(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let iova = fresh_iova(HELD);
    let mut helper = Helper::holding(iova)?;
    expect::holds(
        "the device reads the other process's page",
        readable(&mut bench, iova)?,
    )?;
    helper.tell("exec")?;
    expect::equal("the answer before", helper.line()?.as_str(), "next")?;
    helper.tell("here")?;
    expect::equal("the new program's answer", helper.line()?.as_str(), "here")?;
    gone(&mut bench, iova)
}

fn an_inherited_file_outlives_the_process(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let context = Context::open()?;
    let iova = fresh_iova(HELD);
    let helper = Helper::holding_through(iova, Some(&context))?;
    helper.kill()?;
    expect::holds(
        "the device reads the page while this process has the file",
        readable(&mut bench, iova)?,
    )?;
    drop(context);
    gone(&mut bench, iova)
}

/// Fills new memory with a pattern, writes through the device where freed memory is still
/// mapped, and checks that none of the new memory is the freed memory.
fn kept_from_new_memory(bench: &mut Bench, iova: u64, freed: &[u64]) -> Result<()> {
    const COUNT: usize = 8192;
    let new = Pages::new(COUNT, 0x5a)?;
    ensure!(
        !new.phys.iter().any(|page| freed.contains(page)),
        "a page that the device still reaches was handed out again"
    );
    let data = fresh_bytes(PAGE);
    bench.dev.write(iova, &data)?;
    expect::equal("changed words of new memory", new.others_than(0x5a), 0)?;
    let mut seen = vec![0; PAGE];
    bench.dev.read(iova, &mut seen)?;
    ensure!(
        seen == data,
        "the device no longer reaches the page that was freed"
    );
    Ok(())
}

fn freed_memory_is_not_handed_on(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let mut pages = Vec::new();
    let base = fresh_iova(64);
    for index in 0..64 {
        let page = Buffer::page()?;
        bench.map(&page, base + index * PAGE_U64)?;
        pages.push(page);
    }
    let freed: Vec<u64> = pages.iter().map(Buffer::phys).collect();
    drop(pages);
    kept_from_new_memory(&mut bench, base, &freed)
}

fn memory_of_a_killed_process_is_not_handed_on_before(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let context = Context::open()?;
    let iova = fresh_iova(HELD);
    // The process dies, its file lives on in this one.
    let helper = Helper::holding_through(iova, Some(&context))?;
    let freed = helper.phys.clone();
    helper.kill()?;
    kept_from_new_memory(&mut bench, iova, &freed)
}

fn freed_huge_page_is_not_handed_on(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let buffer = Buffer::huge(1)?;
    let iova = fresh_iova(512);
    let length = u64::try_from(buffer.len())?;
    bench.map(&buffer, iova)?;
    let before = mem::free_huge_pages()?;
    drop(buffer);
    expect::equal(
        "free huge pages while it is mapped",
        mem::free_huge_pages()?,
        before,
    )?;
    let page = Buffer::page()?;
    expect::holds("the device still reaches it", {
        let data = fresh_bytes(64);
        bench.dev.write(iova, &data)?;
        let mut seen = vec![0; 64];
        bench.dev.read(iova, &mut seen)?;
        seen == data
    })?;
    expect::succeeds("unmap", bench.context.unmap(iova, length))?;
    expect::equal(
        "free huge pages after the unmap",
        mem::free_huge_pages()?,
        before + 1,
    )?;
    bench.refused(iova, &page)
}

/// In a mapped range free pages, which nothing can be kept of, lie between others: those are kept, and
/// come back.
fn memory_that_is_partly_free(_: &Host) -> Result<()> {
    const ROUNDS: u64 = 3;
    const PAGES: usize = 4096;
    // Less than a table of the IOMMU, see `user::full_tables_end_qemu`.
    const LONGEST: usize = 256;
    // One place for all rounds: page tables stay, and the first round makes them.
    let base = fresh_iova(PAGES);
    let round = || -> Result<u64> {
        let pages = Pages::new(PAGES, 1)?;
        let context = Context::open()?;
        let (mut kept, mut mapped, mut next) = (0, Vec::new(), base);
        let runs = pages.runs(8);
        for run in runs.iter().flat_map(|run| run.chunks(LONGEST)) {
            for index in run.iter().skip(1).step_by(2) {
                pages.free(*index)?;
            }
            let (iova, length) = (next, u64::try_from(run.len() * PAGE)?);
            next += length;
            let answer = context.map(pages.phys[run[0]], iova, length);
            expect::succeeds("map", answer)?;
            mapped.push((iova, length));
            kept += length / 2;
        }
        drop(pages);
        for (iova, length) in mapped {
            expect::succeeds("unmap", context.unmap(iova, length))?;
        }
        Ok(kept)
    };
    round()?;
    let before = mem::available_or_slab()?;
    let kept = (0..ROUNDS).try_fold(0, |sum, _| Ok::<_, anyhow::Error>(sum + round()?))?;
    let lost = before.saturating_sub(mem::available_or_slab()?);
    ensure!(
        lost < kept / 2,
        "{lost} bytes of memory are gone of {kept} that were kept"
    );
    ensure!(kept > 4 << 20, "memory is too scattered: {kept} bytes kept");
    Ok(())
}

/// Memory mapped, freed and given back again and again must not run out: single pages, each
/// mapped alone, and runs that are mapped in one go.
fn comes_back(give_back: impl Fn(Context, &[(u64, u64)]) -> Result<()>) -> Result<()> {
    const ROUNDS: u64 = 16;
    const SINGLE: usize = 256;
    let round = || -> Result<()> {
        let pages = Pages::new(SINGLE, 1)?;
        let run = Buffer::transparent(512)?;
        let context = Context::open()?;
        let base = fresh_iova(SINGLE);
        let mut mapped = vec![(fresh_iova(512), 512 * PAGE_U64)];
        expect::succeeds("map", context.map(run.phys(), mapped[0].0, mapped[0].1))?;
        for (index, phys) in (0..).zip(&pages.phys) {
            let iova = base + index * PAGE_U64;
            expect::succeeds("map", context.map(*phys, iova, PAGE_U64))?;
            mapped.push((iova, PAGE_U64));
        }
        drop((pages, run));
        give_back(context, &mapped)
    };
    // The first rounds make page tables and caches that stay.
    round()?;
    let before = mem::available_or_slab()?;
    for _ in 0..ROUNDS {
        round()?;
    }
    let leak = ROUNDS * u64::try_from(SINGLE)? * PAGE_U64;
    let lost = before.saturating_sub(mem::available_or_slab()?);
    ensure!(
        lost < leak / 2,
        "{lost} bytes of memory are gone; a leak of the single pages would be {leak}"
    );
    Ok(())
}

fn memory_comes_back_after_unmap(_: &Host) -> Result<()> {
    comes_back(|context, mapped| {
        for (iova, length) in mapped {
            expect::succeeds("unmap", context.unmap(*iova, *length))?;
        }
        Ok(())
    })
}

fn memory_comes_back_after_close(_: &Host) -> Result<()> {
    comes_back(|context, _| {
        drop(context);
        Ok(())
    })
}
