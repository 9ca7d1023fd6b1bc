// SPDX-License-Identifier: GPL-2.0
//! Contexts: opened, closed with all that they hold, asked and told things; and the listings.

use anyhow::Result;
use qat_iommu_uapi as uapi;
use std::fs;
use std::io;

use super::sweep::sweep;
use crate::abi::{self, Context};
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::suites::user::Rig;
use crate::watching;
use rustix::io::Errno;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![open, info, attach, query, listings]
}

pub fn close_tests() -> Vec<Test<Host>> {
    list_tests![close]
}

fn open(host: &Host) -> Result<()> {
    sweep(
        &mut Rig::new(host)?,
        2,
        |_| Ok(()),
        |_, _, faults| faults.during(Context::try_open),
        |rig, _, context| {
            // It is as good as any.
            let memory = UserMemory::scattered(PAGE)?;
            let iova = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
            rig.reaches(iova, &memory)?;
            drop(context);
            rig.refused(iova, &memory)
        },
    )
}

/// The kernel has nobody to tell of a failure: all goes, whatever happens.
fn close(host: &Host) -> Result<()> {
    sweep(
        &mut Rig::new(host)?,
        0,
        |rig| {
            let context = Context::open()?;
            let memories = [
                UserMemory::scattered(PAGE)?,
                UserMemory::scattered(40 * PAGE)?,
            ];
            let page = Buffer::page()?;
            let mut iovas = Vec::new();
            for memory in &memories {
                let answer = context.map_user(memory.va(), memory.length());
                let iova = expect::succeeds("map", answer)?;
                rig.reaches(iova, memory)?;
                iovas.push(iova);
            }
            let fixed = fresh_iova(1);
            expect::succeeds("map", context.map(page.phys(), fixed, PAGE_U64))?;
            Ok((Some(context), memories, iovas, page, fixed))
        },
        |_, ready, faults| {
            let context = ready.0.take();
            faults.during(|| drop(context))?;
            Ok(Ok(()))
        },
        |rig, (_, memories, iovas, page, fixed), ()| {
            for (iova, memory) in iovas.into_iter().zip(&memories) {
                rig.refused(iova, memory)?;
            }
            rig.refused(fixed, &page)
        },
    )
}

fn info(host: &Host) -> Result<()> {
    sweep(
        &mut Rig::new(host)?,
        3,
        |_| Ok(()),
        |rig, _, faults| faults.during(|| rig.context().info_with_room(8, 8)),
        |_, _, _| Ok(()),
    )
}

fn attach(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    let (segment, bus, device, function) = pf.numbers()?;
    sweep(
        &mut Rig::new(host)?,
        2,
        |_| Context::open(),
        |_, context, faults| {
            let mut request = uapi::qat_iommu_attach {
                flags: 0,
                segment,
                bus,
                device,
                function,
                ..abi::attach_request()
            };
            faults.during(|| context.ioctl(uapi::QAT_IOMMU_ATTACH, &mut request))
        },
        |_, context, ()| {
            let space = watching::fdinfo(&context)?.space;
            expect::holds("the context has a space", space != 0)
        },
    )
}

fn query(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(PAGE)?;
    let iova = rig.map(&memory)?;
    sweep(
        &mut rig,
        2,
        |_| Ok(()),
        |rig, _, faults| faults.during(|| rig.context().query(0)),
        |_, _, found| expect::equal("where", found.iova, iova),
    )
}

fn listings(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(PAGE)?;
    rig.map(&memory)?;
    for name in watching::LISTINGS {
        sweep(
            &mut rig,
            2,
            |_| Ok(()),
            |_, _, faults| faults.during(|| fs::read_to_string(watching::path(name)).map_err(told)),
            |_, _, text| watching::records(&text).map(drop),
        )?;
    }
    Ok(())
}

/// The errno of an error of the standard library.
pub fn told(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
