// SPDX-License-Identifier: GPL-2.0
//! The module and its parameters: what modinfo shows, what each value does, and
//! that a bad one is refused with a line that says so.

use anyhow::{ensure, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;
use std::path::Path;

use crate::abi::Context;
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::{self, Device, Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::mem::Buffer;
use crate::module::{self, Absent, Reloaded, QAT_IOMMU};
use crate::watching;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        modinfo_describes_the_module,
        modinfo_describes_every_parameter,
        bad_values_are_refused,
        phys_off,
        phys_any,
        virt_vm,
        ids_bound_the_aperture,
        ids_decide_what_is_a_pf,
        loads_again,
    ]
}

fn modinfo_describes_the_module(host: &Host) -> Result<()> {
    for (field, want) in [("license", "GPL"), ("name", QAT_IOMMU)] {
        let got = module::info(host, QAT_IOMMU, field)?;
        expect::holds(
            &format!("modinfo: {field} is {got:?}"),
            got.trim().starts_with(want),
        )?;
    }
    for field in ["description", "author"] {
        expect::holds(
            &format!("modinfo has a {field}"),
            !module::info(host, QAT_IOMMU, field)?.trim().is_empty(),
        )?;
    }
    // It takes no PF by itself.
    expect::equal(
        "aliases",
        module::info(host, QAT_IOMMU, "alias")?.trim(),
        "",
    )
}

fn modinfo_describes_every_parameter(host: &Host) -> Result<()> {
    let text = module::info(host, QAT_IOMMU, "parm")?;
    let described = |name: &str| {
        text.lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .any(|description| description.trim_end_matches("(charp)").trim().len() > 10)
    };
    for name in ["ids", "shared_fixed", "virt", "phys"] {
        expect::holds(
            &format!("modinfo describes {name}=: {text}"),
            described(name),
        )?;
    }
    for entry in std::fs::read_dir(format!("/sys/module/{QAT_IOMMU}/parameters"))? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        expect::holds(&format!("modinfo describes {name}="), described(&name))?;
    }
    Ok(())
}

fn bad_values_are_refused(host: &Host) -> Result<()> {
    let absent = Absent::new(host)?;
    for parameter in [
        "shared_fixed=low",
        "shared_fixed=",
        "phys=all",
        "virt=yes",
        "ids=8086",
        "ids=8086:zzzz",
        "ids=8086:4940/",
        "ids=8086:4940/65",
        "ids=8086:4940/11",
        "ids=8086:14940",
        "ids=8086:4940,x",
    ] {
        let (result, log) = host::logged(|| Ok(absent.try_load(&[parameter])))?;
        let Err(error) = result else {
            anyhow::bail!("{parameter}: expected to be refused, loaded");
        };
        expect::holds(
            &format!("{parameter}: insmod says why: {error:#}"),
            error.to_string().contains("Invalid"),
        )?;
        let name = parameter.split('=').next().unwrap_or_default();
        let line = log
            .lines()
            .find(|line| line.contains("qat_iommu") && line.contains(name));
        ensure!(
            line.is_some(),
            "{parameter}: the log does not say what was wrong:\n{log}"
        );
    }
    Ok(())
}

fn phys_off(host: &Host) -> Result<()> {
    let _module = Reloaded::with(host, &["phys=off"])?;
    let context = Context::open()?;
    let page = Buffer::page()?;
    expect::fails(
        "map of memory",
        context.map(page.phys(), fresh_iova(1), PAGE_U64),
        Errno::ACCESS,
    )
}

fn phys_any(host: &Host) -> Result<()> {
    let _module = Reloaded::with(host, &["phys=any"])?;
    // The device's own scratch page is ordinary memory: that still works as well.
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    bench.map(&page, iova)?;
    bench.reaches(iova, &page)?;
    let bar = *host.pf()?.bar0()?.start();
    let iova = fresh_iova(1);
    expect::succeeds(
        "map of device memory",
        bench.context.map(bar, iova, PAGE_U64),
    )?;
    expect::succeeds(
        "unmap of device memory",
        bench.context.unmap(iova, PAGE_U64),
    )?;
    let end = 1u64 << host::physical_bits()?;
    expect::fails(
        "map beyond physical memory",
        bench.context.map(end, iova, PAGE_U64),
        Errno::RANGE,
    )
}

fn virt_vm(host: &Host) -> Result<()> {
    let _module = Reloaded::with(host, &["virt=vm"])?;
    host::expect_mode(uapi::QAT_IOMMU_MODE_VM)?;
    let context = Context::open()?;
    expect::succeeds("map", context.map(0, 0, PAGE_U64))?;
    expect::succeeds("unmap", context.unmap(0x5000, 1))?;
    for pf in host.all_pfs()? {
        expect::holds(
            "the module holds no PF",
            pf.driver().as_deref() != Some(OWN_DRIVER),
        )?;
    }
    Ok(())
}

fn ids_bound_the_aperture(host: &Host) -> Result<()> {
    let (vendor, device) = host.device.ids();
    for bits in [32, 36, 39] {
        let ids = format!("ids={vendor:04x}:{device:04x}/{bits}");
        let _module = Reloaded::with(host, &[&ids])?;
        let context = Context::open()?;
        let last = context.info()?.fixed.aperture_last;
        expect::equal("end of the aperture", last, (1u64 << bits) - 1)?;
        let page = Buffer::page()?;
        expect::fails(
            "map beyond it",
            context.map(page.phys(), last + 1, PAGE_U64),
            Errno::RANGE,
        )?;
        expect::succeeds(
            "map at its end",
            context.map(page.phys(), last + 1 - PAGE_U64, PAGE_U64),
        )?;
    }
    Ok(())
}

fn ids_decide_what_is_a_pf(host: &Host) -> Result<()> {
    if host.device == Device::Pf {
        // Some device that is no PF, though Intel's: binding it is refused, and said why.
        let stranger = host.other_intel_device()?;
        let (result, log) = host::logged(|| Ok(stranger.bind(OWN_DRIVER)))?;
        std::fs::write(stranger.path().join("driver_override"), "\n")?;
        expect::holds("a device that is no PF is not bound", result.is_err())?;
        expect::holds(
            &format!("the log says why:\n{log}"),
            log.lines()
                .any(|line| line.contains(&stranger.0) && line.contains("is no QAT PF")),
        )?;
        return Ok(());
    }
    let absent = Absent::new(host)?;
    absent.try_load(&["ids="])?;
    let result = host::expect_mode(uapi::QAT_IOMMU_MODE_NONE);
    drop(absent);
    result
}

fn loads_again(host: &Host) -> Result<()> {
    for _ in 0..3 {
        drop(Reloaded::with(host, &[])?);
    }
    let absent = Absent::new(host)?;
    let stays = Path::new(watching::FOLDER).exists();
    drop(absent);
    expect::holds("the listings went with the module", !stays)?;
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    bench.map(&page, iova)?;
    bench.reaches(iova, &page)
}
