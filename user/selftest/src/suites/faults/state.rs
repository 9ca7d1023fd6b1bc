// SPDX-License-Identifier: GPL-2.0
//! All that can be seen of the module from outside, to be compared before and after: what it
//! lists and says, what it has pinned and charged, who holds it, and what the PF can reach.

use anyhow::{bail, Context as _, Result};
use qat_iommu_uapi as uapi;
use std::fmt::Debug;
use std::fs;

use crate::abi::Context;
use crate::dma::pf::Recorded;
use crate::ledger;
use crate::module::QAT_IOMMU;
use crate::suites::user::Rig;
use crate::watching;

/// All but the history, which grows.
const LISTINGS: [&str; 3] = ["spaces", "contexts", "mappings"];
const MAPPINGS: usize = 2;

/// What it looks like at one moment.
#[derive(Clone, Debug)]
pub struct State {
    locked: u64,
    pins: i64,
    holders: String,
    /// The listings of these names.
    listings: Vec<(&'static str, String)>,
    pfs: Vec<uapi::qat_iommu_pf>,
    info: Info,
    /// By the emulated PF's own record, if it answers and its IOMMU tells it.
    reach: Option<Vec<Recorded>>,
}

/// What INFO says beside its lists. Not: how many pages the IOMMU's tables have, which shrink
/// only when a whole table is unmapped; nor how often PFs came and went.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Info {
    mode: u32,
    aperture: (u64, u64),
    page_sizes: u64,
    space: u64,
}

impl State {
    pub fn now(rig: &Rig) -> Result<Self> {
        let info = Context::open()?.info()?;
        Ok(Self {
            locked: ledger::locked()?,
            pins: ledger::pins()?,
            holders: fs::read_to_string(format!("/sys/module/{QAT_IOMMU}/refcnt"))?,
            listings: LISTINGS
                .into_iter()
                .map(|name| Ok((name, fs::read_to_string(watching::path(name))?)))
                .collect::<Result<_>>()?,
            pfs: info.pfs,
            info: Info {
                mode: info.fixed.mode,
                aperture: (info.fixed.aperture_first, info.fixed.aperture_last),
                page_sizes: info.fixed.page_sizes,
                space: info.fixed.space,
            },
            reach: rig.recorded(),
        })
    }

    /// Fails if something is not as it was.
    pub fn is(&self, was: &Self) -> Result<()> {
        same("charged KiB", &self.locked, &was.locked)?;
        same("pins", &self.pins, &was.pins)?;
        same("holders of the module", &self.holders, &was.holders)?;
        for ((name, is), (_, was)) in self.listings.iter().zip(&was.listings) {
            same(name, &but(is, was), &but(was, is))?;
        }
        same("INFO", &self.info, &was.info)?;
        let pfs = |state: &Self| format!("{:?}", state.pfs);
        same("INFO's list of PFs", &pfs(self), &pfs(was))?;
        same("what the PF reaches", &self.reach, &was.reach)
    }

    /// The ranges that the IOMMU failed to remove.
    pub fn poisoned(&self) -> Result<Vec<(u64, u64)>> {
        let mut found = Vec::new();
        for mapping in watching::records(&self.listings[MAPPINGS].1)? {
            if mapping.text("kind")? == "poisoned" {
                found.push((mapping.number("first")?, mapping.number("last")?));
            }
        }
        Ok(found)
    }

    pub fn pins(&self) -> i64 {
        self.pins
    }

    pub fn locked(&self) -> u64 {
        self.locked
    }
}

/// The lines of some text that another has not.
fn but<'a>(text: &'a str, other: &str) -> Vec<&'a str> {
    let here = |line: &&str| !other.lines().any(|there| there == *line);
    text.lines().filter(here).collect()
}

fn same<T: PartialEq + Debug>(what: &str, is: &T, was: &T) -> Result<()> {
    if is == was {
        return Ok(());
    }
    bail!("{what}: was {was:x?}\nis {is:x?}")
}

/// The state now, which must be what it was.
pub fn unchanged(rig: &Rig, was: &State, when: &str) -> Result<()> {
    State::now(rig)?.is(was).with_context(|| when.to_owned())
}
