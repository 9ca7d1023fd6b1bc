// SPDX-License-Identifier: GPL-2.0
//! What INFO and ATTACH say: the PFs, the space and its limits, how much room
//! the lists need, and the number that changes with every PF that comes or goes.

use anyhow::{ensure, Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::abi::{self, Context};
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::{self, Bdf, Host, PfState};
use crate::ktap::{list_tests, Test};
use crate::mem::Buffer;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        version_and_mode,
        every_pf_is_listed,
        aperture_and_page_sizes,
        reserved_ranges,
        list_room,
        attach_chooses_the_space,
        attach_by_address,
        attach_to_no_pf,
        generation_grows,
        iommu_pages_grow,
    ]
}

fn version_and_mode(host: &Host) -> Result<()> {
    let info = Context::open()?.info()?;
    expect::equal(
        "ABI version",
        info.fixed.abi_version,
        uapi::QAT_IOMMU_ABI_VERSION.into(),
    )?;
    host::expect_mode(match host.pf_state {
        PfState::Unbound => uapi::QAT_IOMMU_MODE_NONE,
        _ if !host.translated() => uapi::QAT_IOMMU_MODE_UNTRANSLATED,
        PfState::Owned => uapi::QAT_IOMMU_MODE_OWNED,
        PfState::Shared => uapi::QAT_IOMMU_MODE_SHARED,
    })
}

fn every_pf_is_listed(host: &Host) -> Result<()> {
    let info = Context::open()?.info()?;
    let there = host.all_pfs()?;
    expect::equal("PFs of the machine", there.len(), host.pfs)?;
    expect::equal("PFs that INFO lists", info.pfs.len(), host.pfs)?;
    let (vendor, device) = host.device.ids();
    let mut flags = 0;
    if host.pf_state == PfState::Owned {
        flags |= uapi::QAT_IOMMU_PF_OWNED;
    }
    if host.translated() {
        flags |= uapi::QAT_IOMMU_PF_TRANSLATED;
    }
    for pf in there {
        let numbers = pf.numbers()?;
        let listed = info
            .pfs
            .iter()
            .find(|listed| (listed.segment, listed.bus, listed.device, listed.function) == numbers)
            .with_context(|| format!("INFO does not list {}", pf.0))?;
        expect::equal(
            "ids",
            (listed.vendor_id, listed.device_id),
            (vendor, device),
        )?;
        let no_fixed = listed.flags & uapi::QAT_IOMMU_PF_NO_FIXED;
        let unreserved = match flags {
            uapi::QAT_IOMMU_PF_TRANSLATED if no_fixed == 0 => uapi::QAT_IOMMU_PF_UNRESERVED,
            _ => 0,
        };
        expect::equal("flags", listed.flags & !no_fixed, flags | unreserved)?;
        expect::equal("reserved field", listed.reserved, 0)?;
        expect::equal("space", listed.space, info.fixed.space)?;
    }
    expect::holds("the space has a number", info.fixed.space != 0)
}

fn aperture_and_page_sizes(host: &Host) -> Result<()> {
    let info = Context::open()?.info()?.fixed;
    expect::holds("pages of 4 KiB", info.page_sizes & PAGE_U64 != 0)?;
    expect::holds("no smaller pages", info.page_sizes & (PAGE_U64 - 1) == 0)?;
    expect::holds(
        "the aperture is not empty",
        info.aperture_first < info.aperture_last,
    )?;
    expect::equal(
        "bytes in the last page",
        info.aperture_last % PAGE_U64,
        PAGE_U64 - 1,
    )?;
    if host.translated() {
        // 48 bits unless the id table knows better; a virtual IOMMU may have fewer.
        expect::holds(
            &format!(
                "the aperture ends within 48 bits ({:#x})",
                info.aperture_last
            ),
            info.aperture_last < 1 << 48,
        )?;
    }
    Ok(())
}

fn reserved_ranges(host: &Host) -> Result<()> {
    let info = Context::open()?.info()?;
    for range in &info.reserved {
        expect::holds(
            "a range does not end before it begins",
            range.first <= range.last,
        )?;
    }
    for pair in info.reserved.windows(2) {
        expect::holds(
            "ranges are in order and apart",
            pair[0].last < pair[1].first,
        )?;
    }
    if host.translated() {
        let covered = |first: u64, last: u64| {
            info.reserved
                .iter()
                .any(|range| range.first <= first && last <= range.last)
        };
        expect::holds(
            "the MSI window is reserved",
            covered(0xfee0_0000, 0xfeef_ffff),
        )?;
        expect::holds("the page at 0 is reserved", covered(0, 0xfff))?;
        for (first, last) in reserved_by_the_kernel(&host.pf()?)? {
            expect::holds(
                &format!("{first:#x} to {last:#x} is reserved, as the kernel says"),
                first > info.fixed.aperture_last || covered(first, last),
            )?;
        }
    }
    Ok(())
}

/// What the kernel lists for the group of a PF, but for what a driver of its own may use.
fn reserved_by_the_kernel(pf: &Bdf) -> Result<Vec<(u64, u64)>> {
    let text = fs::read_to_string(pf.path().join("iommu_group/reserved_regions"))?;
    let number = |word: Option<&str>| -> Result<u64> {
        let digits = word.and_then(|word| word.strip_prefix("0x"));
        Ok(u64::from_str_radix(digits.context("no number")?, 16)?)
    };
    let mut ranges = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.ends_with(" direct-relaxable"))
    {
        let mut words = line.split_whitespace();
        ranges.push((number(words.next())?, number(words.next())?));
    }
    ensure!(!ranges.is_empty(), "the kernel lists none");
    Ok(ranges)
}

fn list_room(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let all = context.info()?;
    expect::holds("there are entries", !all.pfs.is_empty())?;
    // No room at all, and no pointer either.
    let mut none = abi::info_request();
    expect::succeeds("INFO", context.ioctl(uapi::QAT_IOMMU_INFO, &mut none))?;
    expect::equal("PFs", none.num_pfs, all.fixed.num_pfs)?;
    expect::equal(
        "ranges",
        none.num_reserved_ranges,
        all.fixed.num_reserved_ranges,
    )?;

    // Less room than there are entries: what is beyond it stays as it was.
    let canary = uapi::qat_iommu_range {
        first: 0x1111,
        last: 0x2222,
    };
    for room in 0..=all.reserved.len() {
        let mut ranges = vec![canary; all.reserved.len() + 2];
        let mut request = abi::info_request();
        request.reserved_ranges = abi::address(ranges.as_mut_ptr());
        request.num_reserved_ranges = u32::try_from(room)?;
        expect::succeeds("INFO", context.ioctl(uapi::QAT_IOMMU_INFO, &mut request))?;
        expect::equal(
            "ranges",
            request.num_reserved_ranges,
            all.fixed.num_reserved_ranges,
        )?;
        expect::equal("entries with room", &ranges[..room], &all.reserved[..room])?;
        expect::holds(
            "nothing beyond the room",
            ranges[room..].iter().all(|range| *range == canary),
        )?;
    }
    let canary = uapi::qat_iommu_pf {
        space: 0x3333,
        ..Default::default()
    };
    for room in 0..=all.pfs.len() {
        let mut pfs = vec![canary; all.pfs.len() + 2];
        let mut request = abi::info_request();
        request.pfs = abi::address(pfs.as_mut_ptr());
        request.num_pfs = u32::try_from(room)?;
        expect::succeeds("INFO", context.ioctl(uapi::QAT_IOMMU_INFO, &mut request))?;
        expect::equal("PFs", request.num_pfs, all.fixed.num_pfs)?;
        expect::equal("entries with room", &pfs[..room], &all.pfs[..room])?;
        expect::holds(
            "nothing beyond the room",
            pfs[room..].iter().all(|pf| *pf == canary),
        )?;
    }
    Ok(())
}

fn attach_chooses_the_space(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let default = context.info()?.fixed.space;
    let space = expect::succeeds("ATTACH", context.attach_default())?;
    expect::equal("space", space, default)?;
    expect::equal("space that INFO says", context.info()?.fixed.space, default)?;
    expect::succeeds("a second ATTACH to the same", context.attach_default())?;
    Ok(())
}

fn attach_by_address(host: &Host) -> Result<()> {
    let context = Context::open()?;
    for pf in host.all_pfs()? {
        let space = pf.attach(&context)?;
        expect::equal("space", space, context.info()?.fixed.space)?;
    }
    Ok(())
}

fn attach_to_no_pf(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let mut request = uapi::qat_iommu_attach {
        flags: 0,
        segment: 0x1234,
        bus: 0xfe,
        device: 0x1f,
        function: 7,
        ..abi::attach_request()
    };
    expect::fails(
        "ATTACH to an address without a PF",
        context.ioctl(uapi::QAT_IOMMU_ATTACH, &mut request),
        Errno::NODEV,
    )
}

fn generation_grows(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    let driver = pf.driver().context("the PF has no driver")?;
    let context = Context::open()?;
    let first = context.info()?.fixed.generation;
    expect::equal(
        "generation when nothing happens",
        context.info()?.fixed.generation,
        first,
    )?;
    pf.unbind()?;
    let gone = context.info()?;
    pf.bind(&driver)?;
    let back = context.info()?;
    expect::holds("it grows when a PF goes", gone.fixed.generation > first)?;
    expect::holds(
        "it grows when a PF comes",
        back.fixed.generation > gone.fixed.generation,
    )?;
    expect::equal("PFs while one is gone", gone.pfs.len(), host.pfs - 1)?;
    expect::equal("PFs when it is back", back.pfs.len(), host.pfs)
}

fn iommu_pages_grow(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    let before = context.info()?.fixed.iommu_pages;
    if host.translated() {
        // Apart by more than one table covers.
        let base = fresh_iova((64 << 30) / 4096);
        for step in 0..32 {
            let iova = base + (step << 30);
            expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
        }
    } else {
        expect::succeeds("map", context.map(page.phys(), page.phys(), PAGE_U64))?;
    }
    let mut after = context.info()?.fixed.iommu_pages;
    // With virtio the tables are the hypervisor's; untranslated there is nothing to enter.
    if host.iommu == host::Iommu::Virtio || !host.translated() {
        return expect::equal("pages in IOMMU tables", after, before);
    }
    // Each processor counts by itself for a while before the kernel adds it up.
    let begun = Instant::now();
    while after < before + 32 && begun.elapsed() < Duration::from_secs(5) {
        sleep(Duration::from_millis(100));
        after = context.info()?.fixed.iommu_pages;
    }
    expect::holds(
        &format!("IOMMU tables grow ({before} pages before, {after} after)"),
        after >= before + 32,
    )
}
