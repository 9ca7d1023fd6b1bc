// SPDX-License-Identifier: GPL-2.0
//! Physical ranges, mapped and unmapped by a program.

use anyhow::Result;

use super::sweep::sweep;
use crate::abi::Context;
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::Buffer;
use crate::suites::user::Rig;

/// Over the end of a table of the IOMMU's.
const PAGES: usize = 3;
const BYTES: u64 = 3 * 4096;

pub fn map_tests() -> Vec<Test<Host>> {
    list_tests![map_phys]
}

pub fn unmap_tests() -> Vec<Test<Host>> {
    list_tests![unmap]
}

/// Behind an IOVA where two tables meet.
fn place() -> u64 {
    fresh_iova(PAGES) + (2 << 20) - 4096
}

fn map_phys(host: &Host) -> Result<()> {
    if !host.takes_fixed() {
        return Err(crate::ktap::skip("this space takes no fixed ranges"));
    }
    let buffer = Buffer::pages(PAGES)?;
    sweep(
        &mut Rig::new(host)?,
        3,
        |_| Ok((Context::open()?, place())),
        |_, (context, iova), faults| faults.during(|| context.map(buffer.phys(), *iova, BYTES)),
        |rig, (context, iova), mapped| {
            expect::equal("bytes mapped", mapped, BYTES)?;
            rig.reaches(iova, &buffer)?;
            expect::succeeds("unmap", context.unmap(iova, BYTES))?;
            rig.refused(iova, &buffer)
        },
    )
}

fn unmap(host: &Host) -> Result<()> {
    let buffer = Buffer::pages(PAGES)?;
    sweep(
        &mut Rig::new(host)?,
        1,
        |rig| {
            let (context, iova) = (Context::open()?, place());
            expect::succeeds("map", context.map(buffer.phys(), iova, BYTES))?;
            rig.reaches(iova, &buffer)?;
            Ok((context, iova))
        },
        |_, (context, iova), faults| faults.during(|| context.unmap(*iova, BYTES)),
        |rig, (_context, iova), ()| rig.refused(iova, &buffer),
    )
}
