// SPDX-License-Identifier: GPL-2.0
//! The exported calls, as a kernel client makes them for whoever writes to its command file.

use anyhow::Result;
use rustix::io::Errno;
use std::fs::File;

use super::sweep::sweep;
use crate::dma::fresh_iova;
use crate::expect;
use crate::faults::Faults;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::Buffer;
use crate::module::{CommandFile, Loaded, KCLIENT};
use crate::suites::user::Rig;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![kernel_map, kernel_unmap]
}

/// Has the client make a call; a refusal, which has no errno, is one for want of memory.
fn call(
    commands: &CommandFile,
    file: &File,
    text: &str,
    faults: &Faults,
) -> Result<Result<(), Errno>> {
    if let Err(error) = faults.during(|| rustix::io::pwrite(file, text.as_bytes(), 0))? {
        return Ok(Err(error));
    }
    Ok(match commands.answer()?.as_str() {
        "0" => Ok(()),
        _ => Err(Errno::NOMEM),
    })
}

fn kernel_map(host: &Host) -> Result<()> {
    let _client = Loaded::new(host, KCLIENT, &[])?;
    let commands = CommandFile::kclient();
    let file = commands.open()?;
    let page = Buffer::page()?;
    sweep(
        &mut Rig::new(host)?,
        2,
        |_| Ok(fresh_iova(1)),
        |_, iova, faults| {
            let text = format!("map {:#x} {iova:#x} {PAGE_U64}", page.phys());
            call(&commands, &file, &text, faults)
        },
        |rig, iova, ()| {
            rig.reaches(iova, &page)?;
            commands.expect(&format!("unmap {iova:#x} {PAGE_U64}"), "0")?;
            rig.refused(iova, &page)
        },
    )
}

fn kernel_unmap(host: &Host) -> Result<()> {
    let _client = Loaded::new(host, KCLIENT, &[])?;
    let commands = CommandFile::kclient();
    let file = commands.open()?;
    let page = Buffer::page()?;
    sweep(
        &mut Rig::new(host)?,
        1,
        |rig| {
            let iova = fresh_iova(1);
            commands.expect(&format!("map {:#x} {iova:#x} {PAGE_U64}", page.phys()), "0")?;
            rig.reaches(iova, &page)?;
            Ok(iova)
        },
        |_, iova, faults| {
            let text = format!("unmap {iova:#x} {PAGE_U64}");
            call(&commands, &file, &text, faults)
        },
        |rig, iova, ()| {
            expect::holds("it is gone", crate::watching::mapping_at(iova)?.is_none())?;
            rig.refused(iova, &page)
        },
    )
}
