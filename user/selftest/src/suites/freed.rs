// SPDX-License-Identifier: GPL-2.0
//! Memory that is freed while it is still mapped: many pages, as it would be luck
//! to see a single one handed out again.

use anyhow::{ensure, Result};

use crate::abi::Context;
use crate::expect;
use crate::mem::{Buffer, Pages};

const PAGES: u64 = 64;

/// Maps pages, each at the place that its number and its physical address are given, and frees
/// them. Their physical addresses.
pub fn freed_while_mapped(context: &Context, place: impl Fn(u64, u64) -> u64) -> Result<Vec<u64>> {
    let mut pages = Vec::new();
    for index in 0..PAGES {
        let page = Buffer::page()?;
        let iova = place(index, page.phys());
        expect::succeeds("map", context.map(page.phys(), iova, 4096))?;
        pages.push(page);
    }
    Ok(pages.iter().map(Buffer::phys).collect())
}

/// New memory is none of it.
pub fn not_handed_on(freed: &[u64]) -> Result<()> {
    let new = Pages::new(8192, 0x5a)?;
    let seen = freed.iter().filter(|page| new.phys.contains(page)).count();
    ensure!(
        seen == 0,
        "{seen} of {} pages that are still mapped were handed out again",
        freed.len()
    );
    Ok(())
}
