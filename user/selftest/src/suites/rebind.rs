// SPDX-License-Identifier: GPL-2.0
//! The life of an owned PF: its space and the mappings in it outlive it, hold
//! again when it comes back, and can be unmapped meanwhile.

use anyhow::{ensure, Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::freed::{freed_while_mapped, not_handed_on};
use crate::abi::Context;
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::{self, Bdf, Host, OWN_DRIVER};
use crate::ktap::{list_tests, skip, Test};
use crate::mem::Buffer;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        mappings_hold_again,
        unmapped_meanwhile,
        closed_meanwhile,
        memory_is_kept_meanwhile,
        nothing_maps_without_a_pf,
        taken_by_another_driver,
        unplugged_and_found_again,
        functions_turned_on_and_off,
        bus_mastering_follows_the_binding,
    ]
}

/// Every PF without a driver while `act` runs.
fn without_pfs<T>(host: &Host, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let pfs = host.all_pfs()?;
    for pf in &pfs {
        pf.unbind()?;
    }
    let result = act();
    for pf in &pfs {
        pf.bind(OWN_DRIVER)?;
    }
    result
}

fn mappings_hold_again(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let (page, huge) = (Buffer::page()?, Buffer::huge(1)?);
    let (iova, huge_iova) = (fresh_iova(1), fresh_iova(512));
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    expect::succeeds("map", context.map(huge.phys(), huge_iova, 512 * PAGE_U64))?;
    let before = context.info()?.fixed.space;
    without_pfs(host, || Ok(()))?;
    let mut bench = Bench::new(host)?;
    bench.reaches(iova, &page)?;
    bench.reaches(huge_iova, &huge)?;
    expect::equal("space", context.info()?.fixed.space, before)?;
    expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
    bench.refused(iova, &page)?;
    bench.reaches(huge_iova, &huge)
}

fn unmapped_meanwhile(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let (page, kept) = (Buffer::page()?, Buffer::page()?);
    let (iova, kept_iova) = (fresh_iova(1), fresh_iova(1));
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    expect::succeeds("map", context.map(kept.phys(), kept_iova, PAGE_U64))?;
    without_pfs(host, || {
        let stranger = Context::open()?;
        expect::holds(
            "a stranger's unmap is refused",
            stranger.unmap(iova, PAGE_U64).is_err(),
        )?;
        expect::succeeds("unmap without a PF", context.unmap(iova, PAGE_U64))
    })?;
    let mut bench = Bench::new(host)?;
    bench.refused(iova, &page)?;
    bench.reaches(kept_iova, &kept)
}

fn closed_meanwhile(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    without_pfs(host, || {
        drop(context);
        Ok(())
    })?;
    let mut bench = Bench::new(host)?;
    bench.refused(iova, &page)?;
    bench.map(&page, iova)?;
    bench.reaches(iova, &page)
}

fn memory_is_kept_meanwhile(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let base = fresh_iova(64);
    let freed = freed_while_mapped(&context, |index, _| base + index * PAGE_U64)?;
    without_pfs(host, || not_handed_on(&freed))
}

fn nothing_maps_without_a_pf(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    without_pfs(host, || {
        host::expect_mode(uapi::QAT_IOMMU_MODE_NONE)?;
        expect::fails(
            "map",
            context.map(page.phys(), iova, PAGE_U64),
            Errno::NODEV,
        )?;
        expect::fails("unmap", context.unmap(iova, PAGE_U64), Errno::NODEV)?;
        expect::fails("attach", context.attach_default(), Errno::NODEV)
    })?;
    let mut bench = Bench::new(host)?;
    bench.refused(iova, &page)?;
    expect::succeeds(
        "map with the PF back",
        context.map(page.phys(), iova, PAGE_U64),
    )?;
    bench.reaches(iova, &page)
}

fn taken_by_another_driver(host: &Host) -> Result<()> {
    let loaded = Command::new("modprobe").arg("vfio-pci").output()?;
    if !loaded.status.success() {
        return Err(skip("this machine has no vfio-pci"));
    }
    let context = Context::open()?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    let pfs = host.all_pfs()?;
    let taken = || -> Result<()> {
        for pf in &pfs {
            pf.unbind()?;
            pf.bind("vfio-pci")?;
        }
        host::expect_mode(uapi::QAT_IOMMU_MODE_NONE)?;
        expect::equal("PFs that INFO lists", context.info()?.pfs.len(), 0)?;
        expect::fails(
            "map",
            context.map(page.phys(), fresh_iova(1), PAGE_U64),
            Errno::NODEV,
        )
    };
    let result = taken();
    for pf in &pfs {
        if pf.driver().is_some() {
            pf.unbind()?;
        }
        pf.bind(OWN_DRIVER)?;
    }
    result?;
    Bench::new(host)?.reaches(iova, &page)
}

fn unplugged_and_found_again(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    let pf = host.pf()?;
    fs::write(pf.path().join("remove"), "1").context("cannot unplug the PF")?;
    let gone = !pf.path().exists();
    let left = context.info()?.pfs.len();
    fs::write("/sys/bus/pci/rescan", "1").context("cannot look for devices")?;
    appears(&pf)?;
    pf.bind(OWN_DRIVER)?;
    expect::holds("the PF was gone", gone)?;
    expect::equal("PFs that were left", left, host.pfs - 1)?;
    Bench::new(host)?.reaches(iova, &page)
}

fn appears(pf: &Bdf) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !pf.path().join("driver_override").exists() {
        ensure!(Instant::now() < deadline, "{} does not come back", pf.0);
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn functions_turned_on_and_off(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let pf = host.pf()?;
    let number = pf.path().join("sriov_numvfs");
    if !number.exists() {
        return Err(skip("this PF has no virtual functions"));
    }
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    bench.map(&page, iova)?;
    for _ in 0..2 {
        fs::write(&number, "2").context("cannot turn virtual functions on")?;
        let mut during = || -> Result<()> {
            expect::holds("a VF is there", pf.path().join("virtfn1").exists())?;
            expect::equal(
                "PFs that INFO lists",
                bench.context.info()?.pfs.len(),
                host.pfs,
            )?;
            bench.reaches(iova, &page)
        };
        let result = during();
        fs::write(&number, "0").context("cannot turn virtual functions off")?;
        result?;
        bench.reaches(iova, &page)?;
    }
    // A PF that leaves takes its VFs along.
    fs::write(&number, "2")?;
    pf.unbind()?;
    let left = fs::read_to_string(&number)?;
    pf.bind(OWN_DRIVER)?;
    expect::equal("VFs without a driver for the PF", left.trim(), "0")?;
    Bench::new(host)?.reaches(iova, &page)
}

/// The command register of a PF.
fn command(pf: &Bdf) -> Result<u16> {
    let config = fs::read(pf.path().join("config"))?;
    let bytes = config.get(4..6).context("a short configuration space")?;
    Ok(u16::from_le_bytes(bytes.try_into()?))
}

fn bus_mastering_follows_the_binding(host: &Host) -> Result<()> {
    const MEMORY_AND_MASTER: u16 = 6;
    const MASTER: u16 = 4;
    let pf = host.pf()?;
    expect::equal(
        "command bits while bound",
        command(&pf)? & MEMORY_AND_MASTER,
        MEMORY_AND_MASTER,
    )?;
    pf.unbind()?;
    let after = command(&pf);
    pf.bind(OWN_DRIVER)?;
    expect::equal("bus mastering without a driver", after? & MASTER, 0)?;
    expect::equal(
        "command bits when back",
        command(&pf)? & MEMORY_AND_MASTER,
        MEMORY_AND_MASTER,
    )
}
