// SPDX-License-Identifier: GPL-2.0
//! A host without a usable PF: nothing maps, nothing unmaps, and INFO says so.

use anyhow::Result;
use qat_iommu_uapi as uapi;
use rustix::io::Errno;

use crate::abi::Context;
use crate::dma::{self, fresh_iova};
use crate::expect;
use crate::host::{self, Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::mem::Buffer;
use crate::module::{Loaded, KCLIENT_RUST};

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![info_is_empty, nothing_works, kernel_clients]
}

/// Of a host with a PF that no driver holds.
pub fn unbound_tests() -> Vec<Test<Host>> {
    list_tests![a_pf_that_is_bound_later]
}

fn info_is_empty(_: &Host) -> Result<()> {
    let info = Context::open()?.info()?;
    host::expect_mode(uapi::QAT_IOMMU_MODE_NONE)?;
    expect::equal(
        "ABI version",
        info.fixed.abi_version,
        uapi::QAT_IOMMU_ABI_VERSION.into(),
    )?;
    expect::equal("PFs", info.pfs.len(), 0)?;
    expect::equal("reserved ranges", info.reserved.len(), 0)?;
    expect::equal(
        "aperture",
        (info.fixed.aperture_first, info.fixed.aperture_last),
        (0, 0),
    )?;
    expect::equal("page sizes", info.fixed.page_sizes, 0)?;
    expect::equal("space", info.fixed.space, 0)
}

fn nothing_works(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    for iova in [page.phys(), fresh_iova(1)] {
        expect::fails(
            "map",
            context.map(page.phys(), iova, PAGE_U64),
            Errno::NODEV,
        )?;
        expect::fails("unmap", context.unmap(iova, PAGE_U64), Errno::NODEV)?;
    }
    expect::fails("attach", context.attach_default(), Errno::NODEV)
}

fn kernel_clients(host: &Host) -> Result<()> {
    // It tries the calls when it is loaded, and refuses to load if one answers otherwise.
    Loaded::new(host, KCLIENT_RUST, &["expect=2"]).map(drop)
}

fn a_pf_that_is_bound_later(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    let iova = if host.translated() {
        fresh_iova(1)
    } else {
        page.phys()
    };
    let pf = host.pf()?;
    expect::equal("driver", pf.driver(), None)?;
    pf.bind(OWN_DRIVER)?;
    let bound = || -> Result<()> {
        expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
        let mut dev = dma::open(host, &pf)?;
        dma::reaches(dev.as_mut(), iova, &page)
    };
    let result = bound();
    pf.unbind()?;
    result?;
    expect::succeeds("unmap without the PF", context.unmap(iova, PAGE_U64))?;
    expect::fails("second unmap", context.unmap(iova, PAGE_U64), Errno::NODEV)?;
    expect::fails(
        "map",
        context.map(page.phys(), iova, PAGE_U64),
        Errno::NODEV,
    )
}
