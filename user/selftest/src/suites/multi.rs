// SPDX-License-Identifier: GPL-2.0
//! Several owned PFs: one space, one mapping that all of them reach, and PFs that
//! come and go while the others work.

use anyhow::Result;
use qat_iommu_uapi as uapi;

use crate::abi::Context;
use crate::dma::{self, fresh_iova};
use crate::expect;
use crate::host::{self, Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::mem::Buffer;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        one_space_for_all,
        one_mapping_reaches_all,
        a_pf_that_leaves_and_returns,
        the_last_pf_leaves,
    ]
}

fn one_space_for_all(host: &Host) -> Result<()> {
    let info = Context::open()?.info()?;
    expect::equal("PFs", info.pfs.len(), host.pfs)?;
    expect::holds("there are several", host.pfs > 1)?;
    for pf in &info.pfs {
        expect::equal("space", pf.space, info.fixed.space)?;
        let all = uapi::QAT_IOMMU_PF_OWNED | uapi::QAT_IOMMU_PF_TRANSLATED;
        expect::equal("flags", pf.flags, all)?;
    }
    Ok(())
}

fn one_mapping_reaches_all(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    let mut devices = Vec::new();
    for pf in host.all_pfs()? {
        devices.push(dma::open(host, &pf)?);
    }
    for dev in &mut devices {
        dma::refused(dev.as_mut(), iova, &page)?;
    }
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    for dev in &mut devices {
        dma::reaches(dev.as_mut(), iova, &page)?;
    }
    expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
    for dev in &mut devices {
        dma::refused(dev.as_mut(), iova, &page)?;
    }
    Ok(())
}

fn a_pf_that_leaves_and_returns(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let (page, later) = (Buffer::page()?, Buffer::page()?);
    let (iova, later_iova) = (fresh_iova(1), fresh_iova(1));
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    let pfs = host.all_pfs()?;
    let (leaving, staying) = (&pfs[0], &pfs[1]);
    let space = context.info()?.fixed.space;

    leaving.unbind()?;
    let during = || -> Result<()> {
        expect::equal("PFs meanwhile", context.info()?.pfs.len(), host.pfs - 1)?;
        let mut dev = dma::open(host, staying)?;
        dma::reaches(dev.as_mut(), iova, &page)?;
        expect::succeeds(
            "map meanwhile",
            context.map(later.phys(), later_iova, PAGE_U64),
        )?;
        dma::reaches(dev.as_mut(), later_iova, &later)
    };
    let result = during();
    leaving.bind(OWN_DRIVER)?;
    result?;

    let mut dev = dma::open(host, leaving)?;
    dma::reaches(dev.as_mut(), iova, &page)?;
    dma::reaches(dev.as_mut(), later_iova, &later)?;
    expect::equal("space", context.info()?.fixed.space, space)?;
    expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
    dma::refused(dev.as_mut(), iova, &page)
}

fn the_last_pf_leaves(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    let pfs = host.all_pfs()?;
    for pf in &pfs {
        pf.unbind()?;
    }
    let mode = host::mode();
    // In another order than they left.
    for pf in pfs.iter().rev() {
        pf.bind(OWN_DRIVER)?;
    }
    expect::equal("mode without any PF", mode?, uapi::QAT_IOMMU_MODE_NONE)?;
    for pf in &pfs {
        let mut dev = dma::open(host, pf)?;
        dma::reaches(dev.as_mut(), iova, &page)?;
    }
    Ok(())
}
