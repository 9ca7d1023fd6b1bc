// SPDX-License-Identifier: GPL-2.0
//! Large pages cost one entry of the IOMMU each. The emulated PF counts the entries
//! that the IOMMU tells it of; where it is told nothing, the pages of the page
//! tables tell.

use anyhow::{ensure, Result};

use super::{Rig, PAGE_U64};
use crate::dma::pf::Engine;
use crate::expect;
use crate::host::{Host, Iommu};
use crate::ktap::{list_tests, skip, Test};
use crate::mem::user::{UserMemory, GIGANTIC};
use crate::mem::{HUGE, PAGE};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        a_transparent_huge_page_is_one,
        a_reserved_huge_page_is_one,
        huge_pages_and_a_small_one,
        part_of_a_huge_page_is_small_pages,
        a_gigantic_page_is_one,
        huge_pages_need_no_tables_of_small_ones,
        a_gigantic_page_needs_no_tables_below,
    ]
}

/// Counts what mapping a buffer adds to the PF's table.
struct Counter {
    rig: Rig,
    engine: Engine,
    _page: UserMemory,
}

impl Counter {
    fn new(host: &Host) -> Result<Self> {
        if host.iommu == Iommu::IntelFs {
            return Err(skip("QEMU tells the PF of no entries of the first stage"));
        }
        let rig = Rig::new(host)?;
        // At the top of the space, so that nothing that follows is aligned by chance.
        let page = UserMemory::scattered(PAGE)?;
        rig.map(&page)?;
        Ok(Self {
            rig,
            engine: Engine::open(&host.pf()?)?,
            _page: page,
        })
    }

    fn has(&self, size: usize) -> Result<()> {
        let sizes = self.rig.context().info()?.fixed.page_sizes;
        if sizes & u64::try_from(size)? == 0 {
            return Err(skip(format!("this IOMMU has no pages of {size:#x} bytes")));
        }
        Ok(())
    }

    /// Entries for so much of a buffer, which is mapped and unmapped for it.
    fn entries(&mut self, memory: &UserMemory, offset: usize, len: usize) -> Result<u64> {
        let (va, length) = (memory.va() + u64::try_from(offset)?, u64::try_from(len)?);
        let before = self.engine.entries();
        let iova = expect::succeeds("map", self.rig.context().map_user(va, length))?;
        let added = self.engine.entries() - before;
        let start = iova - u64::try_from(offset)?;
        self.rig.reaches_at(start, memory, offset)?;
        self.rig.reaches_at(start, memory, offset + len - PAGE)?;
        expect::succeeds("unmap", self.rig.context().unmap_user(va, length))?;
        expect::equal("entries afterwards", self.engine.entries(), before)?;
        Ok(added)
    }
}

fn a_transparent_huge_page_is_one(host: &Host) -> Result<()> {
    let mut counter = Counter::new(host)?;
    counter.has(HUGE)?;
    let memory = UserMemory::transparent(HUGE)?;
    expect::equal("entries", counter.entries(&memory, 0, HUGE)?, 1)
}

fn a_reserved_huge_page_is_one(host: &Host) -> Result<()> {
    let mut counter = Counter::new(host)?;
    counter.has(HUGE)?;
    let memory = UserMemory::huge(HUGE)?;
    expect::equal("entries", counter.entries(&memory, 0, HUGE)?, 1)
}

fn huge_pages_and_a_small_one(host: &Host) -> Result<()> {
    let mut counter = Counter::new(host)?;
    counter.has(HUGE)?;
    // The small page is of a huge page, too, but alone.
    let memory = UserMemory::transparent(2 * HUGE + PAGE)?;
    let entries = counter.entries(&memory, 0, 2 * HUGE + PAGE)?;
    // Neighbouring huge pages may be one entry where an IOMMU has pages of other sizes.
    ensure!(
        (2..=3).contains(&entries),
        "{entries} entries for two huge pages and a small one"
    );
    Ok(())
}

/// One entry for each page, or fewer where the IOMMU has pages of every power of two.
fn part_of_a_huge_page_is_small_pages(host: &Host) -> Result<()> {
    let mut counter = Counter::new(host)?;
    let memory = UserMemory::transparent(HUGE)?;
    let entries = counter.entries(&memory, PAGE, 16 * PAGE)?;
    ensure!(
        (1..=16).contains(&entries),
        "{entries} entries for 16 small pages"
    );
    Ok(())
}

fn a_gigantic_page_is_one(host: &Host) -> Result<()> {
    let mut counter = Counter::new(host)?;
    counter.has(GIGANTIC)?;
    let memory = UserMemory::gigantic()?;
    expect::equal("entries", counter.entries(&memory, 0, GIGANTIC)?, 1)
}

/// Pages of the page tables that mapping a buffer adds, in a region of the space that is empty.
fn tables(rig: &mut Rig, memory: &UserMemory) -> Result<u64> {
    let before = rig.context().info()?.fixed.iommu_pages;
    let (va, length) = (memory.va(), memory.length());
    // Far from everything else; a level of tables of its own has 512 GiB.
    let answer = rig.context().map_user_aligned(va, length, 1 << 38);
    let iova = expect::succeeds("map", answer)?;
    let after = rig.context().info()?.fixed.iommu_pages;
    rig.reaches_at(iova, memory, 0)?;
    rig.reaches_at(iova, memory, memory.length() as usize - PAGE)?;
    rig.unmap(memory)?;
    Ok(after.saturating_sub(before))
}

fn has_tables(host: &Host) -> Result<()> {
    if host.iommu == Iommu::Virtio {
        return Err(skip("virtio-iommu keeps its tables to itself"));
    }
    Ok(())
}

fn huge_pages_need_no_tables_of_small_ones(host: &Host) -> Result<()> {
    has_tables(host)?;
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::transparent(16 * HUGE)?;
    let added = tables(&mut rig, &memory)?;
    ensure!(
        added <= 3,
        "{added} table pages for {} huge pages; small pages would take {}",
        memory.length() / (512 * PAGE_U64),
        memory.length() / (512 * PAGE_U64) + 2
    );
    Ok(())
}

fn a_gigantic_page_needs_no_tables_below(host: &Host) -> Result<()> {
    has_tables(host)?;
    let mut rig = Rig::new(host)?;
    if rig.context().info()?.fixed.page_sizes & (1 << 30) == 0 {
        return Err(skip("this IOMMU has no pages of 1 GiB"));
    }
    let memory = UserMemory::gigantic()?;
    let added = tables(&mut rig, &memory)?;
    // Entries of 2 MiB would need one more.
    ensure!(added <= 2, "{added} table pages for one page of 1 GiB");
    Ok(())
}
