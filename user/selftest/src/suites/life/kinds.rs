// SPDX-License-Identifier: GPL-2.0
//! The type of the default domain of a PF's group: it cannot be changed while the PF is
//! used, owned or shared; changed while nobody holds the PF it decides what comes.

use anyhow::{Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;

use super::{SEED, STEPS};
use crate::abi::Context;
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::{self, Host, OWN_DRIVER};
use crate::ktap::{list_tests, skip, Test};
use crate::mem::Buffer;
use crate::module::{Loaded, HOSTDRV};
use crate::traffic::{beside, Holder};

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![refused_while_in_use, changed_while_nobody_holds_it]
}

fn refused_while_in_use(host: &Host) -> Result<()> {
    beside(host, SEED, |crew| {
        for holder in [Holder::Owned, Holder::Shared] {
            let seat = 0;
            if crew.fleet.holder(seat) != holder {
                crew.fleet.unbind(seat)?;
                crew.fleet.bind(seat, holder)?;
            }
            let group = crew.fleet.seats[seat].pf.group()?;
            let before = group.kind()?;
            crew.work(STEPS)?;
            for kind in ["identity", "DMA", "auto"] {
                let answer = group.set_kind(kind);
                expect::fails(
                    &format!("type {kind} while {holder:?}"),
                    answer,
                    Errno::PERM,
                )?;
            }
            crew.work(STEPS)?;
            expect::equal("the type", group.kind()?, before)?;
            crew.quiet()?;
        }
        Ok(())
    })
}

/// Gives a group its old type back, and its PF to the module.
struct Restored<'a> {
    pf: &'a host::Bdf,
    kind: String,
}

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        let restore = || -> Result<()> {
            self.pf.release()?;
            self.pf.group()?.set_kind(&self.kind)?;
            self.pf.bind(OWN_DRIVER)
        };
        if let Err(error) = restore() {
            println!("    # {} cannot be had back: {error:#}", self.pf.0);
        }
    }
}

/// An owned PF is translated whatever the type is; a shared one is not under `identity`.
fn changed_while_nobody_holds_it(host: &Host) -> Result<()> {
    let _driver = Loaded::new(host, HOSTDRV, &[])?;
    let others = host.all_pfs()?.split_off(1);
    let pf = host.pf()?;
    let group = pf.group()?;
    let _restored = Restored {
        pf: &pf,
        kind: group.kind()?,
    };
    let context = Context::open()?;
    let (page, iova) = (Buffer::page()?, fresh_iova(1));
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    for other in &others {
        other.unbind()?;
    }
    pf.unbind()?;
    let result = (|| {
        if group.set_kind("identity") == Err(Errno::INVAL) {
            return Err(skip("this IOMMU has no identity domains"));
        }
        expect::equal("the type", group.kind()?.as_str(), "identity")?;
        pf.bind(OWN_DRIVER)?;
        host::expect_mode(uapi::QAT_IOMMU_MODE_OWNED)?;
        Bench::new(host)?
            .reaches(iova, &page)
            .context("owned, type identity")?;
        expect::fails("type", group.set_kind("DMA"), Errno::PERM)?;
        pf.unbind()?;
        pf.bind(HOSTDRV)?;
        host::expect_mode(uapi::QAT_IOMMU_MODE_UNTRANSLATED)?;
        expect::fails("type", group.set_kind("DMA"), Errno::PERM)?;
        let elsewhere = context.map(page.phys(), fresh_iova(1), PAGE_U64);
        expect::fails(
            "map beside the physical address",
            elsewhere,
            Errno::ADDRNOTAVAIL,
        )?;
        pf.unbind()?;
        expect::succeeds("type", group.set_kind("DMA"))?;
        pf.bind(HOSTDRV)?;
        host::expect_mode(uapi::QAT_IOMMU_MODE_SHARED)?;
        Bench::new(host)?
            .reaches(iova, &page)
            .context("shared, type DMA")
    })();
    for other in &others {
        other.bind(OWN_DRIVER)?;
    }
    result
}
