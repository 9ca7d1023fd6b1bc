// SPDX-License-Identifier: GPL-2.0
//! A mapping that a kernel client left behind: found in the listing, and released by
//! force, by those who may, and nothing else with it.

use anyhow::{Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::PAGE_U64;
use crate::abi::{unmap_request, Context};
use crate::credentials::{apart, drop_capability};
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::{self, Host};
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::module::{self, Absent, CommandFile, Loaded, KCLIENT};
use crate::watching::{listing, mapping_at, unmap_at};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        a_left_mapping_is_released,
        only_what_a_client_left,
        only_with_the_capability,
    ]
}

fn force(context: &Context, iova: u64, length: u64) -> Result<(), Errno> {
    let mut request = unmap_request(iova, length);
    request.flags = uapi::QAT_IOMMU_UNMAP_FORCE;
    context.ioctl(uapi::QAT_IOMMU_UNMAP, &mut request)
}

/// Has a client map something and go; where.
fn left_behind(host: &Host, page: &Buffer) -> Result<u64> {
    let iova = fresh_iova(1);
    let client = Loaded::new(host, KCLIENT, &[])?;
    let phys = page.phys();
    CommandFile::kclient().expect(&format!("map {phys:#x} {iova:#x} 4096"), "0")?;
    drop(client);
    Ok(iova)
}

fn a_left_mapping_is_released(host: &Host) -> Result<()> {
    let page = Buffer::page()?;
    let iova = left_behind(host, &page)?;
    expect::holds(
        "it keeps the module",
        module::unload(module::QAT_IOMMU).is_err(),
    )?;
    let mut bench = Bench::new(host)?;
    bench.reaches(iova, &page)?;
    // The listing has all that is needed.
    let record = mapping_at(iova)?.context("it is not listed")?;
    let (first, last) = (record.number("first")?, record.number("last")?);
    let (answer, log) = host::logged(|| Ok(force(&bench.context, first, last - first + 1)))?;
    expect::succeeds("forced unmap", answer)?;
    bench.refused(iova, &page)?;
    let told = log.contains("of a kernel client is removed by force");
    expect::holds("the log tells of it", told)?;
    expect::equal("why", unmap_at(iova)?.text("why")?, "force")?;
    expect::fails(
        "the same again",
        force(&bench.context, iova, PAGE_U64),
        Errno::NOENT,
    )?;
    // The place is free, and the module can go.
    bench.map(&page, iova)?;
    bench.reaches(iova, &page)?;
    drop(bench);
    drop(Absent::new(host)?);
    module::pfs_are_back(host)
}

fn only_what_a_client_left(host: &Host) -> Result<()> {
    let (page, ours) = (Buffer::page()?, Buffer::page()?);
    let iova = left_behind(host, &page)?;
    let mut bench = Bench::new(host)?;
    let other = Context::open()?;
    let (our_iova, other_iova) = (fresh_iova(1), fresh_iova(1));
    bench.map(&ours, our_iova)?;
    let answer = other.map(ours.phys(), other_iova, PAGE_U64);
    expect::succeeds("map", answer)?;
    let memory = UserMemory::scattered(PAGE)?;
    let user_iova = expect::succeeds("map", other.map_user(memory.va(), PAGE_U64))?;
    let before = listing("mappings")?;
    for (what, iova, length) in [
        ("of this context", our_iova, PAGE_U64),
        ("of another context", other_iova, PAGE_U64),
        ("of a buffer", user_iova, PAGE_U64),
        ("of more than the client's", iova, 2 * PAGE_U64),
        ("from before the client's", iova - PAGE_U64, 2 * PAGE_U64),
        ("of nothing", fresh_iova(1), PAGE_U64),
    ] {
        expect::fails(what, force(&bench.context, iova, length), Errno::NOENT)?;
    }
    expect::fails(
        "an unmap without force",
        bench.context.unmap(iova, PAGE_U64),
        Errno::NOENT,
    )?;
    expect::equal("mappings", listing("mappings")?, before)?;
    bench.reaches(iova, &page)?;
    bench.reaches(our_iova, &ours)?;
    let answer = force(&bench.context, iova, PAGE_U64);
    expect::succeeds("forced unmap", answer)?;
    bench.refused(iova, &page)?;
    bench.reaches(our_iova, &ours)
}

fn only_with_the_capability(host: &Host) -> Result<()> {
    let page = Buffer::page()?;
    let iova = left_behind(host, &page)?;
    let mut bench = Bench::new(host)?;
    let context = &bench.context;
    apart(|| {
        drop_capability(CapabilitySet::SYS_RAWIO)?;
        expect::fails(
            "forced unmap without CAP_SYS_RAWIO",
            force(context, iova, PAGE_U64),
            Errno::PERM,
        )
    })?;
    bench.reaches(iova, &page)?;
    let answer = force(&bench.context, iova, PAGE_U64);
    expect::succeeds("forced unmap", answer)?;
    bench.refused(iova, &page)
}
