// SPDX-License-Identifier: GPL-2.0
//! A kernel in a virtual machine: every call succeeds, nothing is done and nothing
//! is checked. That nothing is done is also seen from outside, in the emulated
//! PF's record of what it could reach.

use anyhow::Result;
use qat_iommu_uapi as uapi;
use std::path::Path;

use crate::abi::{self, Context};
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::{self, Host, Iommu, OWN_DRIVER};
use crate::ktap::{list_tests, skip, Test};
use crate::mem::Buffer;
use crate::module::{CommandFile, Loaded, Reloaded, KCLIENT, KCLIENT_RUST};

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        info_says_so,
        everything_succeeds,
        nonsense_succeeds,
        sizes_are_rounded,
        no_pf_is_taken,
        kernel_clients,
    ]
}

/// Of a virtual machine that is told to be a host. These do map, so they run in a machine whose
/// record is not looked at.
pub fn as_host_tests() -> Vec<Test<Host>> {
    list_tests![told_to_be_a_host]
}

fn info_says_so(_: &Host) -> Result<()> {
    host::expect_mode(uapi::QAT_IOMMU_MODE_VM)?;
    let info = Context::open()?.info()?.fixed;
    expect::equal("first IOVA", info.aperture_first, 0)?;
    expect::equal("last IOVA", info.aperture_last, u64::MAX)?;
    expect::equal("page sizes", info.page_sizes, PAGE_U64)
}

fn everything_succeeds(_: &Host) -> Result<()> {
    let context = Context::open()?;
    expect::succeeds("ATTACH", context.attach_default())?;
    let page = Buffer::page()?;
    for iova in [page.phys(), fresh_iova(1)] {
        for _ in 0..2 {
            let mapped = expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
            expect::equal("bytes mapped", mapped, PAGE_U64)?;
        }
        for _ in 0..3 {
            expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
        }
    }
    Ok(())
}

fn nonsense_succeeds(_: &Host) -> Result<()> {
    let context = Context::open()?;
    for (phys, iova, length) in [
        (0, 0, 1),
        (1, 3, 5),
        (u64::MAX, u64::MAX, 1),
        (0, 0xfee0_0000, PAGE_U64),
        (1 << 63, 0, PAGE_U64),
        (0xfee0_0000, 1 << 52, 1 << 40),
    ] {
        let what = format!("map of {length:#x} bytes at {phys:#x} to {iova:#x}");
        expect::succeeds(&what, context.map(phys, iova, length))?;
        expect::succeeds("unmap", context.unmap(iova, length))?;
        expect::succeeds(
            "unmap of something else",
            context.unmap(iova ^ 0x5000, length),
        )?;
    }
    Ok(())
}

fn sizes_are_rounded(_: &Host) -> Result<()> {
    let context = Context::open()?;
    for (length, want) in [(1, 4096), (4096, 4096), (4097, 8192)] {
        let mapped = expect::succeeds("map", context.map_with(0, 0, length, abi::BOTH))?;
        expect::equal("bytes mapped", mapped, want)?;
    }
    Ok(())
}

fn no_pf_is_taken(host: &Host) -> Result<()> {
    for pf in host.all_pfs()? {
        expect::holds(
            "the module holds no PF",
            pf.driver().as_deref() != Some(OWN_DRIVER),
        )?;
    }
    Ok(())
}

fn kernel_clients(host: &Host) -> Result<()> {
    drop(Loaded::new(host, KCLIENT_RUST, &["expect=1"])?);
    let client = Loaded::new(host, KCLIENT, &[])?;
    let commands = CommandFile::kclient();
    commands.expect("map 0x1000 0x1000 4096", "0")?;
    commands.expect("map 0x1000 0x1000 4096", "0")?;
    commands.expect("unmap 0x7000 4096", "0")?;
    commands.expect("size 4097", "8192")?;
    commands.expect("demo", "ok")?;
    drop(client);
    Ok(())
}

fn told_to_be_a_host(host: &Host) -> Result<()> {
    if host.iommu == Iommu::None {
        return Err(skip("nothing to see without an IOMMU"));
    }
    let _module = Reloaded::with(host, &["virt=host"])?;
    let driver = Path::new("/sys/bus/pci/drivers").join(OWN_DRIVER);
    expect::holds("the module has a PCI driver", driver.exists())?;
    for pf in host.all_pfs()? {
        pf.bind(OWN_DRIVER)?;
    }
    host::expect_mode(uapi::QAT_IOMMU_MODE_OWNED)?;
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    bench.refused(iova, &page)?;
    bench.map(&page, iova)?;
    bench.reaches(iova, &page)?;
    bench.unmap(&page, iova)?;
    bench.refused(iova, &page)
}
