// SPDX-License-Identifier: GPL-2.0
//! A quiet point: nothing is done to any PF, no thread works. What the threads believe
//! to be mapped, what the module says, what each PF's record says, and what the kernel
//! counts as pinned and locked must be the same.

use anyhow::{ensure, Context as _, Result};
use qat_iommu_uapi as uapi;
use std::collections::BTreeSet;
use std::sync::MutexGuard;

use super::fleet::{Holder, Seat};
use super::listing::{self, Line};
use super::model::{Held, Place, PAGE_U64};
use super::worker::Worker;
use super::Crew;
use crate::abi::Context;
use crate::dma::pf::{sum_of, Engine};
use crate::host::Iommu;
use crate::ledger;
use crate::mem::Memory;
use crate::vfio;

type Workers<'a, 'b> = [MutexGuard<'a, Worker<'b>>];

/// A page that a PF must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reach {
    iova: u64,
    /// Sum of what the processor sees there.
    sum: u64,
}

/// How many bytes of a page are looked at.
const LOOK: usize = 64;

pub(super) fn check(crew: &Crew<'_>, workers: &mut Workers<'_, '_>) -> Result<()> {
    for worker in workers.iter_mut() {
        worker.settle()?;
        if worker.held.is_some() && worker.held()?.place == Place::Owned {
            worker.list()?;
        }
    }
    pins(crew, workers).context("at a quiet point")?;
    info(crew).context("at a quiet point")?;
    list(workers).context("at a quiet point")?;
    for (number, seat) in crew.fleet.seats.iter().enumerate() {
        reach(crew, workers, number, seat)
            .with_context(|| format!("at a quiet point, {} ({:?})", seat.pf.0, seat.pf.driver()))?;
    }
    Ok(())
}

fn held<'b>(workers: &'b Workers<'_, '_>) -> Vec<&'b Held> {
    let held = workers.iter().filter_map(|worker| worker.held.as_ref());
    held.collect()
}

/// Each page of a mapped buffer is pinned and charged once.
fn pins(crew: &Crew<'_>, workers: &Workers<'_, '_>) -> Result<()> {
    let pages: usize = held(workers)
        .into_iter()
        .flat_map(|held| &held.users)
        .map(|user| user.pages())
        .sum();
    let pages = pages + vfio::pinned();
    let pins = ledger::pins()? - crew.pins;
    ensure!(
        pins == i64::try_from(pages)?,
        "{pins} pins are held for {pages} pages that are mapped"
    );
    let locked = ledger::locked()? - crew.locked;
    let want = u64::try_from(pages)? * PAGE_U64 / 1024;
    ensure!(
        locked == want,
        "{locked} KiB are charged for {want} KiB that are mapped"
    );
    Ok(())
}

/// INFO lists exactly the usable PFs, each as what it is.
fn info(crew: &Crew<'_>) -> Result<()> {
    let mut want = BTreeSet::new();
    for (number, seat) in crew.fleet.seats.iter().enumerate() {
        match crew.fleet.holder(number) {
            Holder::Nobody => {}
            holder => {
                want.insert((seat.pf.numbers()?, holder == Holder::Owned));
            }
        }
    }
    let listed: BTreeSet<_> = Context::open()?
        .info()?
        .pfs
        .iter()
        .map(|pf| {
            let address = (pf.segment, pf.bus, pf.device, pf.function);
            (address, pf.flags & uapi::QAT_IOMMU_PF_OWNED != 0)
        })
        .collect();
    ensure!(
        listed == want,
        "INFO lists the PFs {listed:x?} (address, owned), there are {want:x?}"
    );
    Ok(())
}

/// The module's own list is what the threads have mapped. (A page is listed once for each space.)
fn list(workers: &Workers<'_, '_>) -> Result<()> {
    let Some(lines) = listing::read()? else {
        return Ok(());
    };
    let mut want = BTreeSet::new();
    for worker in workers {
        let Some(held) = &worker.held else {
            continue;
        };
        let context = listing::number_of(&held.context)?;
        for user in &held.users {
            want.insert(Line {
                context,
                range: user.range(),
                user: true,
                backing: user.va & !(PAGE_U64 - 1),
            });
        }
        for classic in &held.classics {
            want.insert(Line {
                context,
                range: classic.range(),
                user: false,
                backing: worker.pages[classic.page].phys(),
            });
        }
    }
    let listed: BTreeSet<Line> = lines.into_iter().collect();
    let (more, less): (Vec<_>, Vec<_>) = (
        listed.difference(&want).collect(),
        want.difference(&listed).collect(),
    );
    ensure!(
        more.is_empty() && less.is_empty(),
        "the module lists {more:x?} that are not mapped, and not {less:x?} that are"
    );
    Ok(())
}

/// Every page that a PF must reach.
fn wanted(crew: &Crew<'_>, workers: &Workers<'_, '_>, number: usize) -> Result<BTreeSet<Reach>> {
    let holder = crew.fleet.holder(number);
    let mut pages = BTreeSet::new();
    for worker in workers {
        let Some(held) = &worker.held else {
            continue;
        };
        let seen = match held.place {
            Place::Nowhere => false,
            Place::Owned => holder == Holder::Owned,
            Place::Shared { seat, presence } => {
                seat == number && crew.fleet.presence(number) == presence
            }
        };
        for user in held.users.iter().filter(|_| seen) {
            let (first, _) = user.range();
            let start = (user.va & !(PAGE_U64 - 1)) - worker.memory.va();
            for page in 0..user.pages() {
                let ahead = u64::try_from(page)? * PAGE_U64;
                let offset = usize::try_from(start + ahead)?;
                pages.insert(Reach {
                    iova: first + ahead,
                    sum: sum_of(&worker.memory.read(offset, LOOK)),
                });
            }
        }
        // One that is shared behind virtio-iommu cannot have them.
        let classics = match holder {
            Holder::Nobody => false,
            Holder::Owned => true,
            Holder::Shared => crew.host.iommu != Iommu::Virtio,
        };
        for classic in held.classics.iter().filter(|_| classics) {
            pages.insert(Reach {
                iova: classic.iova,
                sum: sum_of(&worker.pages[classic.page].read(0, LOOK)),
            });
        }
    }
    Ok(pages)
}

/// What a PF reaches is what is mapped for it.
fn reach(crew: &Crew<'_>, workers: &Workers<'_, '_>, number: usize, seat: &Seat) -> Result<()> {
    let wanted = wanted(crew, workers, number)?;
    // One that nobody holds is woken for the look; what a stranger holds is the stranger's.
    let _awake = match crew.fleet.holder(number) {
        Holder::Nobody if !seat.pf.exists() || seat.pf.driver().is_some() => return Ok(()),
        Holder::Nobody => Some(seat.pf.awake(true)?),
        _ => None,
    };
    let engine = Engine::open(&seat.pf)?;
    if crew.host.iommu != Iommu::IntelFs {
        record(&engine, &wanted, crew.fleet.holder(number), crew.host.iommu)?;
    }
    probe(&engine, &wanted)?;
    let most = match crew.host.iommu {
        // Nothing else tells there.
        Iommu::IntelFs => usize::MAX,
        _ => 4,
    };
    refused(&engine, workers, &wanted, crew.fleet.holder(number), most)
}

/// How many pages a PF reaches that are not the module's: the driver of shared PFs has one.
fn own(holder: Holder) -> usize {
    usize::from(holder == Holder::Shared)
}

/// The PF's own record has exactly these pages. QEMU's AMD IOMMU does not always tell a PF that
/// joins what is mapped already: there DMA, which is looked at next, finds what the record lacks.
fn record(engine: &Engine, wanted: &BTreeSet<Reach>, holder: Holder, iommu: Iommu) -> Result<()> {
    let want: BTreeSet<u64> = wanted.iter().map(|page| page.iova).collect();
    let mut found = BTreeSet::new();
    for (range, read, write) in engine.recorded() {
        // An identity mapping of all memory would make a long list.
        let pages = (range.end - range.start) / PAGE_U64;
        ensure!(
            read && write && pages < 1 << 16,
            "the PF's own record says that it reaches {range:x?}, read {read}, write {write}"
        );
        found.extend((0..pages).map(|page| range.start + page * PAGE_U64));
    }
    let missing: Vec<_> = want.difference(&found).collect();
    ensure!(
        missing.is_empty() || iommu == Iommu::Amd,
        "the PF's own record says that it cannot reach {missing:x?}, which are mapped"
    );
    let more: Vec<_> = found.difference(&want).collect();
    let own = own(holder);
    ensure!(
        more.len() == own,
        "the PF's own record says that it reaches {more:x?} too; {own} of them may be its driver's"
    );
    Ok(())
}

/// DMA finds the same.
fn probe(engine: &Engine, wanted: &BTreeSet<Reach>) -> Result<()> {
    for page in wanted {
        let seen = engine.sum(page.iova, u64::try_from(LOOK)?)?;
        ensure!(
            seen == Some(page.sum),
            "the PF reads at {:#x} {seen:x?}, the sum of what is mapped there is {:#x}",
            page.iova,
            page.sum
        );
    }
    Ok(())
}

/// DMA is refused where something is or was mapped, but not for this PF, or no more.
fn refused(
    engine: &Engine,
    workers: &Workers<'_, '_>,
    wanted: &BTreeSet<Reach>,
    holder: Holder,
    most: usize,
) -> Result<()> {
    let reached: BTreeSet<u64> = wanted.iter().map(|page| page.iova).collect();
    let users = held(workers).into_iter().flat_map(|held| &held.users);
    let elsewhere = users.map(|user| user.range().0);
    let before = workers
        .iter()
        .flat_map(|worker| worker.graves.iter().copied());
    let other: BTreeSet<u64> = elsewhere.chain(before).collect();
    let mut seen = Vec::new();
    for iova in other.difference(&reached).take(most) {
        if engine.sum(*iova, u64::try_from(LOOK)?)?.is_some() {
            seen.push(*iova);
        }
    }
    // Its driver's own memory can be where another PF's space had something of ours.
    ensure!(
        seen.len() <= own(holder),
        "the PF still reads at {seen:x?}, where nothing is mapped for it"
    );
    Ok(())
}

/// Nothing at all is within reach of a PF that nobody holds. The threads may be at work.
pub(super) fn unreached(crew: &Crew<'_>, seat: &Seat) -> Result<()> {
    if crew.host.iommu == Iommu::IntelFs {
        // The next quiet point probes.
        return Ok(());
    }
    let _mine = seat.engine.lock().ok().context("a thread panicked")?;
    let _awake = seat.pf.awake(false)?;
    let recorded = Engine::open(&seat.pf)?.recorded();
    ensure!(
        recorded.is_empty(),
        "the PF's own record says that it still reaches {recorded:x?}"
    );
    Ok(())
}

/// Some of the IOVAs that a PF reaches.
pub(super) fn some_pages(
    crew: &Crew<'_>,
    workers: &mut Workers<'_, '_>,
    seat: usize,
) -> Result<Vec<u64>> {
    for worker in workers.iter_mut() {
        worker.settle()?;
    }
    let pages = wanted(crew, workers, seat)?;
    Ok(pages.iter().map(|page| page.iova).take(8).collect())
}
