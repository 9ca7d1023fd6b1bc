// SPDX-License-Identifier: GPL-2.0
//! 32-bit callers: the same structures, the same results.

use anyhow::Result;
use qat_iommu_uapi as uapi;
use rustix::io::Errno;

use crate::abi::{self, Context};
use crate::compat::{self, LowPage};
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::Buffer;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        info_is_the_same,
        attach_is_the_same,
        map_reach_unmap,
        refusals_are_the_same,
    ]
}

fn info_is_the_same(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let wide = context.info()?;
    let low = LowPage::new()?;
    let mut request = abi::info_request();
    request.pfs = low.put(1024, [uapi::qat_iommu_pf::default(); 16])?.into();
    request.num_pfs = 16;
    request.reserved_ranges = low
        .put(2048, [uapi::qat_iommu_range::default(); 64])?
        .into();
    request.num_reserved_ranges = 64;
    let pointer = low.put(0, request)?;
    expect::succeeds(
        "INFO",
        compat::ioctl(&context, uapi::QAT_IOMMU_INFO, pointer),
    )?;
    let narrow: uapi::qat_iommu_info = low.get(0);
    expect::equal("ABI version", narrow.abi_version, wide.fixed.abi_version)?;
    expect::equal("mode", narrow.mode, wide.fixed.mode)?;
    expect::equal("aperture", narrow.aperture_last, wide.fixed.aperture_last)?;
    expect::equal("page sizes", narrow.page_sizes, wide.fixed.page_sizes)?;
    expect::equal("space", narrow.space, wide.fixed.space)?;
    let pfs: [uapi::qat_iommu_pf; 16] = low.get(1024);
    let count = usize::try_from(narrow.num_pfs)?;
    expect::equal("PFs", pfs[..count].to_vec(), wide.pfs)?;
    let ranges: [uapi::qat_iommu_range; 64] = low.get(2048);
    let count = usize::try_from(narrow.num_reserved_ranges)?;
    expect::equal("reserved ranges", ranges[..count].to_vec(), wide.reserved)
}

fn attach_is_the_same(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let low = LowPage::new()?;
    let pointer = low.put(0, abi::attach_request())?;
    expect::succeeds(
        "ATTACH",
        compat::ioctl(&context, uapi::QAT_IOMMU_ATTACH, pointer),
    )?;
    let narrow: uapi::qat_iommu_attach = low.get(0);
    expect::equal("space", narrow.space, context.info()?.fixed.space)
}

fn map_reach_unmap(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let low = LowPage::new()?;
    let iova = fresh_iova(1);
    let pointer = low.put(0, abi::map_request(page.phys(), iova, 1))?;
    expect::succeeds(
        "MAP_PHYS",
        compat::ioctl(&bench.context, uapi::QAT_IOMMU_MAP_PHYS, pointer),
    )?;
    let request: uapi::qat_iommu_map_phys = low.get(0);
    expect::equal("bytes mapped", request.mapped, PAGE_U64)?;
    bench.reaches(iova, &page)?;
    let pointer = low.put(0, abi::unmap_request(iova, PAGE_U64))?;
    expect::succeeds(
        "UNMAP",
        compat::ioctl(&bench.context, uapi::QAT_IOMMU_UNMAP, pointer),
    )?;
    bench.refused(iova, &page)
}

fn refusals_are_the_same(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    let low = LowPage::new()?;
    let iova = fresh_iova(1);
    let good = abi::map_request(page.phys(), iova, PAGE_U64);
    let map = |request: uapi::qat_iommu_map_phys| -> Result<Result<(), Errno>> {
        let pointer = low.put(0, request)?;
        Ok(compat::ioctl(&context, uapi::QAT_IOMMU_MAP_PHYS, pointer))
    };
    let short = uapi::qat_iommu_map_phys {
        size: good.size - 8,
        ..good
    };
    expect::fails("a short structure", map(short)?, Errno::INVAL)?;
    let long = uapi::qat_iommu_map_phys { size: 4097, ..good };
    expect::fails("a structure above a page", map(long)?, Errno::TOOBIG)?;
    let flags = uapi::qat_iommu_map_phys {
        flags: 1 << 31,
        ..good
    };
    expect::fails("an unknown flag", map(flags)?, Errno::OPNOTSUPP)?;
    let unaligned = uapi::qat_iommu_map_phys {
        iova: iova + 1,
        ..good
    };
    expect::fails("an unaligned IOVA", map(unaligned)?, Errno::INVAL)?;
    let beyond = uapi::qat_iommu_map_phys {
        iova: 0xffff_ffff_ffff_f000,
        ..good
    };
    expect::fails("an IOVA beyond the aperture", map(beyond)?, Errno::RANGE)?;
    expect::fails(
        "a null pointer",
        compat::ioctl(&context, uapi::QAT_IOMMU_MAP_PHYS, 0),
        Errno::FAULT,
    )?;
    expect::fails(
        "a pointer to nothing",
        compat::ioctl(&context, uapi::QAT_IOMMU_MAP_PHYS, 0xffff_f000),
        Errno::FAULT,
    )?;
    let pointer = low.put(0, good)?;
    for command in [0, 0x71ff, 0xc028_7182, 0x7282] {
        expect::fails(
            &format!("command {command:#x}"),
            compat::ioctl(&context, command, pointer),
            Errno::NOTTY,
        )?;
    }
    Ok(())
}
