// SPDX-License-Identifier: GPL-2.0
//! A group that grows while the module holds its only PF: the PF leaves it in good
//! order all the same, and is refused until it is alone again.

use anyhow::{ensure, Context as _, Result};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::abi::Context;
use crate::dma::pf::Engine;
use crate::dma::{self, fresh_iova, Bench};
use crate::expect;
use crate::host::{self, Bdf, Host, Iommu, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::module::{Loaded, HOSTDRV};
use crate::pci;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        grows_while_held,
        grows_again_and_again,
        two_of_another_driver
    ]
}

/// The two functions of a device, in one group.
fn two(host: &Host) -> Result<(Bdf, Bdf)> {
    let pfs = host.all_pfs()?;
    let [first, second] = pfs.as_slice() else {
        anyhow::bail!("this wants a machine with two PFs in one group, not {pfs:?}");
    };
    expect::equal("group", first.group()?, second.group()?)?;
    Ok((first.clone(), second.clone()))
}

/// A group with two PFs is refused.
fn refused(pf: &Bdf) -> Result<()> {
    ensure!(
        pf.bind(OWN_DRIVER).is_err() && pf.driver().is_none(),
        "{} was taken, though it is not alone in its group",
        pf.0
    );
    pf.want("")
}

/// Takes the first PF into the module's hands while the second is not there, and lets that come.
fn grown(first: &Bdf, second: &Bdf) -> Result<()> {
    second.remove()?;
    first.bind(OWN_DRIVER)?;
    let ((), log) = host::logged(|| {
        pci::rescan()?;
        second.appears()
    })?;
    ensure!(
        log.contains("is in the IOMMU group of the owned PF"),
        "the log does not tell that the group has grown:\n{log}"
    );
    expect::equal("devices of the group", first.group()?.devices()?.len(), 2)
}

/// The first PF leaves, and reaches nothing any more.
fn leaves(host: &Host, first: &Bdf) -> Result<()> {
    first.unbind()?;
    first.want("")?;
    if host.iommu != Iommu::IntelFs {
        let _awake = first.awake(false)?;
        let recorded = Engine::open(first)?.recorded();
        ensure!(recorded.is_empty(), "the PF still reaches {recorded:x?}");
    }
    let _awake = first.awake(true)?;
    let engine = Engine::open(first)?;
    let seen = engine.sum(fresh_iova(1), 8)?;
    expect::equal("what it reads where nothing is mapped", seen, None)
}

fn grows_while_held(host: &Host) -> Result<()> {
    let (first, second) = two(host)?;
    refused(&first)?;
    let context = Context::open()?;
    let (page, iova) = (Buffer::page()?, fresh_iova(1));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        // Another thread maps and unmaps all the while.
        let busy = scope.spawn(|| -> Result<()> {
            let context = Context::open()?;
            let memory = UserMemory::scattered(4 * PAGE)?;
            while !done.load(Ordering::Relaxed) {
                match context.map_user(memory.va(), memory.length()) {
                    Err(Errno::NODEV) => {}
                    answer => {
                        expect::succeeds("map", answer)?;
                        let answer = context.unmap_user(memory.va(), memory.length());
                        expect::succeeds("unmap", answer)?;
                    }
                }
            }
            Ok(())
        });
        let result = (|| {
            grown(&first, &second)?;
            expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
            Bench::new(host)?.reaches(iova, &page)?;
            refused(&second).context("the second PF")?;
            Bench::new(host)?.reaches(iova, &page)?;
            leaves(host, &first)?;
            refused(&first).context("back in the group that has grown")?;
            // Alone again it is taken again, and what is mapped holds again.
            second.remove()?;
            first.bind(OWN_DRIVER)?;
            Bench::new(host)?.reaches(iova, &page)?;
            first.unbind()?;
            first.want("")
        })();
        done.store(true, Ordering::Relaxed);
        let busy = busy.join().expect("threads return their errors");
        pci::rescan()?;
        second.appears()?;
        result.and(busy)
    })
}

/// How often the group grows in the search for what stays behind.
const ROUNDS: u64 = 4;

/// No domain and no page table stays behind.
fn grows_again_and_again(host: &Host) -> Result<()> {
    let (first, second) = two(host)?;
    let pages = || -> Result<u64> { Ok(Context::open()?.info()?.fixed.iommu_pages) };
    let round = || -> Result<u64> {
        grown(&first, &second)?;
        let context = Context::open()?;
        let page = Buffer::page()?;
        for index in 0..8 {
            let iova = fresh_iova(1) + (index << 30);
            expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
        }
        first.unbind()?;
        first.want("")?;
        drop(context);
        pages()
    };
    // The kernel counts the tables of all devices, and the disk's may grow by a page meanwhile; what
    // a round leaves behind is there once for each round.
    let once = round()?;
    let last = (0..ROUNDS).try_fold(once, |_, _| round())?;
    ensure!(
        last < once + ROUNDS,
        "the IOMMU's tables had {once} pages and have {last}, {ROUNDS} rounds later"
    );
    Ok(())
}

/// Two PFs in one group that their own driver holds share its domain, and so a space. It ends with the
/// second of them.
fn two_of_another_driver(host: &Host) -> Result<()> {
    let (first, second) = two(host)?;
    let driver = Loaded::new(host, HOSTDRV, &[])?;
    let result = shared(host, &first, &second);
    drop(driver);
    first.want("")?;
    second.want("")?;
    result
}

fn shared(host: &Host, first: &Bdf, second: &Bdf) -> Result<()> {
    first.bind(HOSTDRV)?;
    second.bind(HOSTDRV)?;
    let context = Context::open()?;
    let spaces: Vec<u64> = context.info()?.pfs.iter().map(|pf| pf.space).collect();
    ensure!(
        matches!(spaces[..], [one, other] if one == other),
        "the spaces of both are {spaces:?}"
    );
    let memory = UserMemory::scattered(4 * PAGE)?;
    let answer = context.map_user(memory.va(), memory.length());
    let iova = expect::succeeds("map", answer)?;
    for pf in [first, second] {
        dma::reaches(dma::open(host, pf)?.as_mut(), iova, &memory)?;
    }
    first.unbind()?;
    dma::reaches(dma::open(host, second)?.as_mut(), iova, &memory)?;
    second.unbind()?;
    let answer = context.unmap_user(memory.va(), memory.length());
    expect::fails("unmap of what has gone", answer, Errno::NODEV)
}
