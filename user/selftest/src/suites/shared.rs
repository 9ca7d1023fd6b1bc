// SPDX-License-Identifier: GPL-2.0
//! A PF that its own driver holds: fixed ranges beside the DMA API's, under the
//! rules of `shared_fixed=`, while that driver goes on working.

mod buffers;
mod lazy;
mod load;

use anyhow::{ensure, Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;

use crate::abi::Context;
use crate::dma::{self, fresh_iova, Bench};
use crate::expect;
use crate::host::{self, Host};
use crate::hostdrv::Driver;
use crate::ktap::{list_tests, Test};
use crate::mem::{fresh_bytes, Buffer, PAGE};
use crate::module::{CommandFile, Loaded, Reloaded, HOSTDRV, KCLIENT};

const PAGE_U64: u64 = 4096;
const FOUR_GIB: u64 = 1 << 32;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        info_says_so,
        high_ranges_are_allowed,
        low_ranges_are_refused,
        the_driver_goes_on_working,
        bad_ranges,
        kernel_client,
        any_allows_low_ranges,
        any_refuses_what_the_dma_api_holds,
        any_shows_no_stale_translation,
        off_refuses_all,
        unbinding_ends_the_space,
        hostdrv_can_be_removed,
    ]
}

/// Buffers of programs.
pub fn user_parts() -> Vec<Vec<Test<Host>>> {
    let mut parts = vec![buffers::tests(), buffers::fixed_tests()];
    parts.extend(super::user::shared_parts());
    parts.extend(super::user::shared_fixed_parts());
    parts
}

/// The same behind virtio-iommu.
pub fn user_virtio_parts() -> Vec<Vec<Test<Host>>> {
    let mut parts = vec![buffers::tests(), buffers::virtio_tests()];
    parts.extend(super::user::shared_parts());
    parts
}

/// Beside a driver at work.
pub fn load_tests() -> Vec<Test<Host>> {
    load::tests()
}

/// The same behind virtio-iommu.
pub fn load_virtio_tests() -> Vec<Test<Host>> {
    load::virtio_tests()
}

/// On the device edu, in lazy mode.
pub fn lazy_tests() -> Vec<Test<Host>> {
    lazy::tests()
}

/// Behind virtio-iommu.
pub fn virtio_tests() -> Vec<Test<Host>> {
    list_tests![fixed_ranges_are_not_supported, the_driver_works]
}

/// The PF's own driver.
fn driver(host: &Host) -> Result<Driver> {
    Ok(Driver::of(&host.pf()?))
}

fn info_says_so(host: &Host) -> Result<()> {
    host::expect_mode(uapi::QAT_IOMMU_MODE_SHARED)?;
    let info = Context::open()?.info()?;
    expect::equal("PFs", info.pfs.len(), host.pfs)?;
    for pf in &info.pfs {
        expect::equal(
            "flags",
            pf.flags,
            uapi::QAT_IOMMU_PF_TRANSLATED | uapi::QAT_IOMMU_PF_UNRESERVED,
        )?;
    }
    let page_at_zero = info.reserved.iter().any(|range| range.first == 0);
    expect::holds("the page at 0 is reserved", page_at_zero)
}

fn high_ranges_are_allowed(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let last = bench.context.info()?.fixed.aperture_last;
    let page = Buffer::page()?;
    for iova in [
        FOUR_GIB,
        FOUR_GIB + PAGE_U64,
        fresh_iova(1),
        last - (PAGE_U64 - 1),
    ] {
        bench.refused(iova, &page)?;
        bench.map(&page, iova)?;
        bench.reaches(iova, &page)?;
        expect::fails(
            "second map",
            bench.context.map(page.phys(), iova, PAGE_U64),
            Errno::EXIST,
        )?;
        bench.unmap(&page, iova)?;
        bench.refused(iova, &page)?;
        expect::fails(
            "second unmap",
            bench.context.unmap(iova, PAGE_U64),
            Errno::NOENT,
        )?;
    }
    Ok(())
}

fn low_ranges_are_refused(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let two = Buffer::pages(2)?;
    ensure!(
        two.phys() < FOUR_GIB,
        "the machine has too much memory for this test"
    );
    // Right below 4 GiB the driver has memory of its own, which the device reaches.
    for (iova, free) in [
        (two.phys(), true),
        (PAGE_U64, true),
        (0x1000_0000, true),
        (FOUR_GIB - PAGE_U64, false),
        (FOUR_GIB - 2 * PAGE_U64, false),
    ] {
        expect::fails(
            &format!("map of two pages at {iova:#x}"),
            bench.context.map(two.phys(), iova, 2 * PAGE_U64),
            Errno::ADDRNOTAVAIL,
        )?;
        if free {
            bench.refused(iova, &two)?;
        }
    }
    Ok(())
}

/// The driver moves data of its own through the DMA API while `act` runs over and over.
fn while_working(host: &Host, act: impl Fn() -> Result<()>) -> Result<()> {
    let driver = driver(host)?;
    std::thread::scope(|scope| {
        let churn = scope.spawn(move || driver.run("churn 60 4096"));
        let mut rounds = 0;
        let mut result = Ok(());
        while result.is_ok() && (!churn.is_finished() || rounds == 0) {
            result = act();
            rounds += 1;
        }
        let answer = churn.join().expect("the thread returns its errors")?;
        result?;
        expect::equal("the driver's own transfers", answer.as_str(), "ok 60")
    })
}

fn the_driver_goes_on_working(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let buffer = Buffer::pages(8)?;
    let base = fresh_iova(64);
    while_working(host, || {
        for step in 0..8 {
            let iova = base + 8 * step * PAGE_U64;
            expect::succeeds("map", context.map(buffer.phys(), iova, 8 * PAGE_U64))?;
        }
        for step in 0..8 {
            let iova = base + 8 * step * PAGE_U64;
            expect::succeeds("unmap", context.unmap(iova, 8 * PAGE_U64))?;
        }
        Ok(())
    })
}

fn bad_ranges(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let last = context.info()?.fixed.aperture_last;
    let page = Buffer::page()?;
    let phys = page.phys();
    let iova = fresh_iova(1);
    let end = 1u64 << host::physical_bits()?;
    expect::fails(
        "unaligned",
        context.map(phys, iova + 1, PAGE_U64),
        Errno::INVAL,
    )?;
    expect::fails("0 bytes", context.map(phys, iova, 0), Errno::INVAL)?;
    expect::fails("wrap", context.map(phys, iova, u64::MAX), Errno::OVERFLOW)?;
    expect::fails(
        "beyond the aperture",
        context.map(phys, last + 1, PAGE_U64),
        Errno::RANGE,
    )?;
    expect::fails(
        "beyond physical memory",
        context.map(end, iova, PAGE_U64),
        Errno::RANGE,
    )?;
    expect::fails(
        "part of nothing",
        context.unmap(iova, PAGE_U64),
        Errno::NOENT,
    )
}

fn kernel_client(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let client = Loaded::new(host, KCLIENT, &[])?;
    let commands = CommandFile::kclient();
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    commands.expect(&format!("map {:#x} {iova:#x} 4096", page.phys()), "0")?;
    bench.reaches(iova, &page)?;
    commands.expect(&format!("map {0:#x} {0:#x} 4096", page.phys()), "-1")?;
    commands.expect(&format!("unmap {iova:#x} 4096"), "0")?;
    bench.refused(iova, &page)?;
    drop(client);
    Ok(())
}

fn any_allows_low_ranges(host: &Host) -> Result<()> {
    let _module = Reloaded::with(host, &["shared_fixed=any"])?;
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    for iova in [page.phys(), 0x1000_0000] {
        bench.map(&page, iova)?;
        bench.reaches(iova, &page)?;
        bench.unmap(&page, iova)?;
        bench.refused(iova, &page)?;
    }
    let msi = bench.context.map(page.phys(), 0xfee0_0000, PAGE_U64);
    expect::fails("map in the MSI window", msi, Errno::ADDRNOTAVAIL)?;
    let zero = bench.context.map(page.phys(), 0, PAGE_U64);
    expect::fails("map of the page at 0", zero, Errno::ADDRNOTAVAIL)
}

fn any_refuses_what_the_dma_api_holds(host: &Host) -> Result<()> {
    let _module = Reloaded::with(host, &["shared_fixed=any"])?;
    let mut bench = Bench::new(host)?;
    let driver = driver(host)?;
    let held = driver.coherent(2 * PAGE)?;
    let dma = held.dma;
    let buffer = Buffer::pages(4)?;
    let context = &bench.context;
    for (iova, pages) in [
        (dma, 1),
        (dma, 2),
        (dma + PAGE_U64, 1),
        (dma - PAGE_U64, 2),
        (dma - PAGE_U64, 4),
    ] {
        expect::fails(
            &format!("map of {pages} pages at {iova:#x}, where the driver has {dma:#x}"),
            context.map(buffer.phys(), iova, pages * PAGE_U64),
            Errno::ADDRINUSE,
        )?;
        expect::fails("unmap", context.unmap(iova, pages * PAGE_U64), Errno::NOENT)?;
    }
    // The driver's buffer is still its own, and nothing beside it was left mapped.
    let data = fresh_bytes(64);
    bench.dev.write(dma, &data)?;
    let mut seen = vec![0; 64];
    bench.dev.read(dma, &mut seen)?;
    expect::holds("the device reaches the driver's buffer", seen == data)?;
    dma::refused_at(bench.dev.as_mut(), dma - PAGE_U64, &buffer, 0)?;
    driver.free(held)
}

fn any_shows_no_stale_translation(host: &Host) -> Result<()> {
    let _module = Reloaded::with(host, &["shared_fixed=any"])?;
    let mut bench = Bench::new(host)?;
    let driver = driver(host)?;
    let page = Buffer::page()?;
    for _ in 0..5 {
        let held = driver.coherent(PAGE)?;
        let dma = held.dma;
        // The IOMMU's cache now has the driver's page.
        bench.dev.write(dma, &fresh_bytes(64))?;
        driver.free(held)?;
        bench.map(&page, dma)?;
        bench.reaches(dma, &page)?;
        bench.unmap(&page, dma)?;
        bench.refused(dma, &page)?;
    }
    driver.expect("churn 5 4096", "ok 5")
}

fn off_refuses_all(host: &Host) -> Result<()> {
    let _module = Reloaded::with(host, &["shared_fixed=off"])?;
    let context = Context::open()?;
    let page = Buffer::page()?;
    for iova in [fresh_iova(1), page.phys(), FOUR_GIB] {
        expect::fails(
            &format!("map at {iova:#x}"),
            context.map(page.phys(), iova, PAGE_U64),
            Errno::ADDRNOTAVAIL,
        )?;
    }
    for pf in context.info()?.pfs {
        let flag = uapi::QAT_IOMMU_PF_NO_FIXED;
        expect::equal("flag for no fixed ranges", pf.flags & flag, flag)?;
    }
    driver(host)?.expect("churn 2 4096", "ok 2")
}

fn unbinding_ends_the_space(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    let before = context.info()?.fixed;
    let pf = host.pf()?;
    pf.unbind()?;
    let during = || -> Result<()> {
        host::expect_mode(uapi::QAT_IOMMU_MODE_NONE)?;
        expect::fails("unmap", context.unmap(iova, PAGE_U64), Errno::NODEV)?;
        expect::fails(
            "map",
            context.map(page.phys(), iova, PAGE_U64),
            Errno::NODEV,
        )
    };
    let result = during();
    pf.bind(HOSTDRV)?;
    result?;
    let mut bench = Bench::new(host)?;
    bench.refused(iova, &page)?;
    let after = context.info()?.fixed;
    expect::holds(
        "the new space has a new number",
        after.space != before.space,
    )?;
    expect::holds("the generation grew", after.generation > before.generation)?;
    expect::fails(
        "unmap of what went",
        context.unmap(iova, PAGE_U64),
        Errno::NOENT,
    )?;
    expect::succeeds(
        "map with the PF back",
        context.map(page.phys(), iova, PAGE_U64),
    )?;
    bench.reaches(iova, &page)
}

fn hostdrv_can_be_removed(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    crate::module::unload(HOSTDRV).context("cannot remove the PF's driver")?;
    let answer = context.unmap(iova, PAGE_U64);
    crate::module::load(host, HOSTDRV, &[])?;
    host.pf()?.wait_for(HOSTDRV)?;
    expect::fails("unmap without the driver", answer, Errno::NODEV)?;
    driver(host)?.expect("churn 2 4096", "ok 2")
}

fn fixed_ranges_are_not_supported(host: &Host) -> Result<()> {
    host::expect_mode(uapi::QAT_IOMMU_MODE_SHARED)?;
    let context = Context::open()?;
    let page = Buffer::page()?;
    for iova in [fresh_iova(1), page.phys(), FOUR_GIB] {
        expect::fails(
            &format!("map at {iova:#x}"),
            context.map(page.phys(), iova, PAGE_U64),
            Errno::OPNOTSUPP,
        )?;
        expect::fails("unmap", context.unmap(iova, PAGE_U64), Errno::NOENT)?;
    }
    for pf in context.info()?.pfs {
        let want = uapi::QAT_IOMMU_PF_TRANSLATED | uapi::QAT_IOMMU_PF_NO_FIXED;
        expect::equal("flags", pf.flags, want)?;
    }
    drop(context);
    let _module = Reloaded::with(host, &["shared_fixed=any"])?;
    let context = Context::open()?;
    expect::fails(
        "map with shared_fixed=any",
        context.map(page.phys(), page.phys(), PAGE_U64),
        Errno::OPNOTSUPP,
    )
}

fn the_driver_works(host: &Host) -> Result<()> {
    driver(host)?.expect("churn 5 4096", "ok 5")
}
