// SPDX-License-Identifier: GPL-2.0
//! What a successful map does: the device reaches exactly what was mapped, for
//! as long as it is mapped, and not a moment longer.

use anyhow::{ensure, Result};
use rustix::io::Errno;

use crate::abi::{self, Context};
use crate::dma::{self, fresh_iova, Access, Bench};
use crate::expect;
use crate::host::{Device, Host, Iommu};
use crate::ktap::{list_tests, skip, Test};
use crate::mem::{Buffer, HUGE, PAGE};

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        nothing_is_reachable_unasked,
        one_to_one,
        at_another_address,
        length_is_rounded_up,
        odd_length_covers_whole_pages,
        transfer_across_the_end_is_refused,
        several_pages_at_any_offset,
        unmapped_at_once,
        remapped_iova_shows_the_new_page,
        page_at_two_addresses,
        device_copies_between_mappings,
        last_page_of_the_aperture,
        lowest_usable_page,
        a_thousand_mappings,
        huge_page,
        large_contiguous_range,
        read_only,
        write_only,
    ]
}

/// The few that also run on devices that take long over each transfer.
pub fn essential_tests() -> Vec<Test<Host>> {
    list_tests![
        nothing_is_reachable_unasked,
        one_to_one,
        at_another_address,
        odd_length_covers_whole_pages,
        remapped_iova_shows_the_new_page,
        page_at_two_addresses,
        huge_page,
        read_only,
        write_only,
    ]
}

/// Those that hold as well where low IOVAs are kept for the DMA API.
pub fn shared_tests() -> Vec<Test<Host>> {
    list_tests![
        at_another_address,
        length_is_rounded_up,
        odd_length_covers_whole_pages,
        transfer_across_the_end_is_refused,
        several_pages_at_any_offset,
        unmapped_at_once,
        remapped_iova_shows_the_new_page,
        page_at_two_addresses,
        a_thousand_mappings,
        huge_page,
        large_contiguous_range,
        read_only,
        write_only,
    ]
}

fn nothing_is_reachable_unasked(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    bench.refused(fresh_iova(1), &page)?;
    bench.refused(page.phys(), &page)
}

fn one_to_one(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = page.phys();
    bench.map(&page, iova)?;
    bench.reaches(iova, &page)?;
    bench.unmap(&page, iova)?;
    bench.refused(iova, &page)
}

fn at_another_address(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    bench.map(&page, iova)?;
    bench.reaches(iova, &page)?;
    // The physical address itself stays out of reach.
    bench.refused(page.phys(), &page)?;
    bench.unmap(&page, iova)?;
    bench.refused(iova, &page)
}

fn length_is_rounded_up(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let buffer = Buffer::pages(4)?;
    let iova = fresh_iova(4);
    for (length, want) in [
        (1, 4096),
        (4095, 4096),
        (4096, 4096),
        (4097, 8192),
        (8191, 8192),
        (8192, 8192),
        (12_289, 16_384),
    ] {
        let what = format!("map of {length} bytes");
        let mapped = expect::succeeds(&what, context.map(buffer.phys(), iova, length))?;
        expect::equal(&what, mapped, want)?;
        expect::succeeds("unmap of the same length", context.unmap(iova, length))?;

        expect::succeeds(&what, context.map(buffer.phys(), iova, length))?;
        expect::succeeds("unmap of the remap size", context.unmap(iova, want))?;
    }
    Ok(())
}

fn odd_length_covers_whole_pages(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let buffer = Buffer::pages(3)?;
    let iova = fresh_iova(3);
    let length = PAGE_U64 + 1;
    expect::succeeds("map", bench.context.map(buffer.phys(), iova, length))?;
    let dev = bench.dev.as_mut();
    dma::reaches_at(dev, iova, &buffer, 0, PAGE)?;
    dma::reaches_at(dev, iova, &buffer, PAGE, PAGE)?;
    dma::refused_at(dev, iova, &buffer, 2 * PAGE)?;
    expect::succeeds("unmap", bench.context.unmap(iova, length))?;
    dma::refused_at(dev, iova, &buffer, 0)?;
    dma::refused_at(dev, iova, &buffer, PAGE)
}

fn transfer_across_the_end_is_refused(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let buffer = Buffer::pages(2)?;
    let iova = fresh_iova(2);
    expect::succeeds("map", bench.context.map(buffer.phys(), iova, PAGE_U64))?;
    let mut seen = vec![0; 128];
    let access = bench.dev.read(iova + PAGE_U64 - 64, &mut seen)?;
    expect::equal("a read across the end", access, Access::Refused)?;
    buffer.write(PAGE, &[0x55; 64]);
    let access = bench.dev.write(iova + PAGE_U64 - 64, &seen)?;
    expect::equal("a write across the end", access, Access::Refused)?;
    expect::equal("the page beyond", buffer.read(PAGE, 64), vec![0x55; 64])
}

fn several_pages_at_any_offset(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let buffer = Buffer::transparent(16)?;
    let iova = fresh_iova(16);
    bench.map(&buffer, iova)?;
    for (offset, len) in [
        (0, PAGE),
        (2048, PAGE),
        (PAGE - 8, 16),
        (15 * PAGE, PAGE),
        (7 * PAGE + 1000, 64),
    ] {
        dma::reaches_at(bench.dev.as_mut(), iova, &buffer, offset, len)?;
    }
    bench.unmap(&buffer, iova)?;
    for page in 0..16 {
        dma::refused_at(bench.dev.as_mut(), iova, &buffer, page * PAGE)?;
    }
    Ok(())
}

fn unmapped_at_once(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    for round in 0..30 {
        bench.map(&page, iova)?;
        // The access fills the IOMMU's cache with the translation.
        bench.reaches(iova, &page)?;
        bench.unmap(&page, iova)?;
        if let Err(error) = bench.refused(iova, &page) {
            return Err(error.context(format!("after {round} rounds without fault")));
        }
    }
    Ok(())
}

fn remapped_iova_shows_the_new_page(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let pages = [Buffer::page()?, Buffer::page()?];
    let iova = fresh_iova(1);
    for round in 0..10 {
        let page = &pages[round % 2];
        bench.map(page, iova)?;
        bench.reaches(iova, page)?;
        bench.unmap(page, iova)?;
    }
    Ok(())
}

fn page_at_two_addresses(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let (one, other) = (fresh_iova(1), fresh_iova(1));
    bench.map(&page, one)?;
    bench.map(&page, other)?;
    bench.reaches(one, &page)?;
    bench.reaches(other, &page)?;
    bench.unmap(&page, one)?;
    bench.refused(one, &page)?;
    bench.reaches(other, &page)?;
    bench.unmap(&page, other)?;
    bench.refused(other, &page)
}

fn device_copies_between_mappings(host: &Host) -> Result<()> {
    let bench = Bench::new(host)?;
    let engine = dma::pf::Engine::open(&host.pf()?)?;
    let (from, to) = (Buffer::page()?, Buffer::page()?);
    let (source, destination) = (fresh_iova(1), fresh_iova(1));
    bench.map(&from, source)?;
    bench.map(&to, destination)?;
    let data = crate::mem::fresh_bytes(PAGE);
    from.write(0, &data);
    let verdict = engine.copy(source, destination, PAGE_U64)?;
    expect::equal("the copy", verdict, dma::pf::Verdict::Done)?;
    ensure!(to.read(0, PAGE) == data, "the copy differs from its source");
    bench.unmap(&from, source)?;
    let verdict = engine.copy(source, destination, PAGE_U64)?;
    expect::equal(
        "the copy after the unmap",
        verdict,
        dma::pf::Verdict::SourceFault(source),
    )
}

fn last_page_of_the_aperture(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let info = bench.context.info()?;
    let iova = info.fixed.aperture_last - (PAGE_U64 - 1);
    let page = Buffer::page()?;
    bench.map(&page, iova)?;
    bench.reaches(iova, &page)?;
    bench.unmap(&page, iova)?;
    bench.refused(iova, &page)
}

fn lowest_usable_page(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    bench.map(&page, PAGE_U64)?;
    bench.reaches(PAGE_U64, &page)?;
    bench.unmap(&page, PAGE_U64)?;
    bench.refused(PAGE_U64, &page)
}

fn a_thousand_mappings(host: &Host) -> Result<()> {
    const COUNT: usize = 1000;
    let mut bench = Bench::new(host)?;
    let pages = (0..COUNT)
        .map(|_| Buffer::page())
        .collect::<Result<Vec<_>>>()?;
    // Every second page of the range, so that none of them are neighbours.
    let base = fresh_iova(2 * COUNT);
    let places: Vec<u64> = (0..)
        .map(|index| base + 2 * index * PAGE_U64)
        .take(COUNT)
        .collect();
    for (page, iova) in pages.iter().zip(&places) {
        bench.map(page, *iova)?;
    }
    for index in (0..COUNT).step_by(37) {
        bench.reaches(places[index], &pages[index])?;
    }
    dma::refused_at(bench.dev.as_mut(), base + PAGE_U64, &pages[0], 0)?;
    // In an order that is neither that of the maps nor its reverse; 7 and 1000 share no factor.
    for index in (0..COUNT).map(|step| step * 7 % COUNT) {
        bench.unmap(&pages[index], places[index])?;
    }
    for index in (0..COUNT).step_by(37) {
        bench.refused(places[index], &pages[index])?;
    }
    Ok(())
}

fn huge_page(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let buffer = Buffer::huge(1)?;
    let iova = fresh_iova(HUGE / PAGE);
    bench.map(&buffer, iova)?;
    bench.reaches(iova, &buffer)?;
    bench.unmap(&buffer, iova)?;
    bench.refused(iova, &buffer)?;
    // Where the alignments differ only small pages fit.
    let skewed = fresh_iova(HUGE / PAGE + 1) + PAGE_U64;
    bench.map(&buffer, skewed)?;
    bench.reaches(skewed, &buffer)?;
    bench.unmap(&buffer, skewed)?;
    bench.refused(skewed, &buffer)
}

fn large_contiguous_range(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (buffer, pages) = Buffer::huge_run(32)?;
    if pages < 8 {
        return Err(skip(format!("only {} MiB of contiguous memory", 2 * pages)));
    }
    let iova = fresh_iova(buffer.len() / PAGE);
    bench.map(&buffer, iova)?;
    for page in 0..pages {
        dma::reaches_at(bench.dev.as_mut(), iova, &buffer, page * HUGE, 64)?;
    }
    bench.reaches(iova, &buffer)?;
    bench.unmap(&buffer, iova)?;
    for page in 0..pages {
        dma::refused_at(bench.dev.as_mut(), iova, &buffer, page * HUGE)?;
    }
    Ok(())
}

/// A page mapped with less than both permissions.
fn with_permissions(bench: &Bench, flags: u32) -> Result<(Buffer, u64)> {
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    match bench.context.map_with(page.phys(), iova, PAGE_U64, flags) {
        Err(Errno::OPNOTSUPP) => Err(skip("this IOMMU has no such pages")),
        other => {
            expect::succeeds("map", other)?;
            Ok((page, iova))
        }
    }
}

fn read_only(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (page, iova) = with_permissions(&bench, abi::READ)?;
    let sent = crate::mem::fresh_bytes(PAGE);
    page.write(0, &sent);
    let mut seen = vec![0; PAGE];
    bench.dev.read(iova, &mut seen)?;
    ensure!(seen == sent, "the device does not read what was written");
    dma::cannot_write(bench.dev.as_mut(), iova, &page, 0)?;
    bench.unmap(&page, iova)?;
    bench.refused(iova, &page)
}

fn write_only(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (page, iova) = with_permissions(&bench, abi::WRITE)?;
    let data = crate::mem::fresh_bytes(PAGE);
    let access = bench.dev.write(iova, &data)?;
    ensure!(access != Access::Refused, "the device's write was refused");
    ensure!(
        page.read(0, PAGE) == data,
        "memory has not what the device wrote"
    );
    // QEMU lets the emulated PF read what it may write, and first-stage tables have no other way.
    if host.device == Device::Edu && host.iommu != Iommu::IntelFs {
        dma::cannot_read(bench.dev.as_mut(), iova, &page, 0)?;
    }
    bench.unmap(&page, iova)?;
    bench.refused(iova, &page)
}
