// SPDX-License-Identifier: GPL-2.0
//! PFs bound and unbound, with a buffer and a physical range mapped all the while.

use anyhow::{ensure, Context as _, Result};
use rustix::io::Errno;
use std::fs::File;

use super::sweep::sweep_told;
use crate::abi::Context;
use crate::dma::{self, fresh_iova};
use crate::expect;
use crate::faults::Faults;
use crate::host::{Bdf, Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::module::HOSTDRV;
use crate::suites::user::Rig;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![bind, unbind, bind_another]
}

pub fn shared_tests() -> Vec<Test<Host>> {
    list_tests![unbind_shared, bind_shared]
}

/// A file of a driver's that takes the address of a device.
fn control(driver: &str, name: &str) -> Result<File> {
    let path = format!("/sys/bus/pci/drivers/{driver}/{name}");
    File::options()
        .write(true)
        .open(&path)
        .with_context(|| path.clone())
}

/// Writes a PF's address to such a file.
fn tell(file: &File, pf: &Bdf, faults: &Faults) -> Result<Result<(), Errno>> {
    let address = pf.0.as_bytes();
    Ok(faults
        .during(|| rustix::io::pwrite(file, address, 0))?
        .map(drop))
}

/// The same, and sees that the PF then has a driver, or has not, as was said: `binds` is what the file
/// is for.
fn ask(file: &File, binds: bool, pf: &Bdf, faults: &Faults) -> Result<Result<(), Errno>> {
    let answer = tell(file, pf, faults)?;
    let bound = pf.driver().is_some();
    ensure!(
        bound == (answer.is_ok() == binds),
        "bound is {bound}, {answer:?} was said"
    );
    Ok(answer)
}

/// What is mapped while PFs come and go.
struct Kept {
    memory: UserMemory,
    iova: u64,
    page: Buffer,
    fixed: u64,
    context: Context,
}

impl Kept {
    fn new() -> Result<Self> {
        let context = Context::open()?;
        let memory = UserMemory::scattered(20 * PAGE)?;
        let answer = context.map_user(memory.va(), memory.length());
        let iova = expect::succeeds("map", answer)?;
        let (page, fixed) = (Buffer::page()?, fresh_iova(1));
        expect::succeeds("map", context.map(page.phys(), fixed, PAGE_U64))?;
        Ok(Self {
            memory,
            iova,
            page,
            fixed,
            context,
        })
    }

    fn is_reached(&self, rig: &mut Rig) -> Result<()> {
        rig.reaches(self.iova, &self.memory)?;
        rig.reaches(self.fixed, &self.page)
    }
}

/// The second PF, without a driver, if there is one.
fn second(host: &Host) -> Result<Option<Bdf>> {
    let Some(pf) = host.all_pfs()?.into_iter().nth(1) else {
        return Ok(None);
    };
    if pf.driver().is_some() {
        pf.unbind()?;
    }
    Ok(Some(pf))
}

/// A PF that could not be bound has not come: nothing is different. Then it comes, and what was
/// mapped holds for it.
fn bind(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    // It is to be the only one.
    second(host)?;
    let (binds, unbinds) = (control(OWN_DRIVER, "bind")?, control(OWN_DRIVER, "unbind")?);
    let mut rig = Rig::new(host)?;
    let kept = Kept::new()?;
    tell(&unbinds, &pf, &Faults::none())??;
    let result = sweep_told(
        &mut rig,
        &[],
        3,
        |_| Ok(()),
        |_, _, faults| ask(&binds, true, &pf, faults),
        |rig, (), ()| {
            kept.is_reached(rig)?;
            tell(&unbinds, &pf, &Faults::none())??;
            Ok(())
        },
    );
    tell(&binds, &pf, &Faults::none())??;
    kept.is_reached(&mut rig)?;
    drop(kept.context);
    result
}

/// A second PF that could not be bound leaves the first as it was. Then what is mapped is mapped for
/// both, and what comes after.
fn bind_another(host: &Host) -> Result<()> {
    let pf = second(host)?.context("this machine has one PF")?;
    let (binds, unbinds) = (control(OWN_DRIVER, "bind")?, control(OWN_DRIVER, "unbind")?);
    let mut rig = Rig::new(host)?;
    let kept = Kept::new()?;
    let page = Buffer::page()?;
    let result = sweep_told(
        &mut rig,
        &[],
        3,
        |_| Ok(()),
        |_, _, faults| ask(&binds, true, &pf, faults),
        |rig, (), ()| {
            let iova = fresh_iova(1);
            expect::succeeds("map", rig.context().map(page.phys(), iova, PAGE_U64))?;
            let mut second = dma::open(host, &pf)?;
            kept.is_reached(rig)?;
            rig.reaches(iova, &page)?;
            for (iova, memory) in [(kept.fixed, &kept.page), (iova, &page)] {
                dma::reaches(second.as_mut(), iova, memory).context("the second PF")?;
            }
            expect::succeeds("unmap", rig.context().unmap(iova, PAGE_U64))?;
            rig.refused(iova, &page)?;
            dma::refused(second.as_mut(), iova, &page).context("the second PF")?;
            drop(second);
            tell(&unbinds, &pf, &Faults::none())??;
            Ok(())
        },
    );
    if pf.driver().is_some() {
        tell(&unbinds, &pf, &Faults::none())??;
    }
    result
}

/// A PF goes when it is told to, or nobody heard of it: then nothing is different.
fn unbind(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    second(host)?;
    let (binds, unbinds) = (control(OWN_DRIVER, "bind")?, control(OWN_DRIVER, "unbind")?);
    let mut rig = Rig::new(host)?;
    let kept = Kept::new()?;
    sweep_told(
        &mut rig,
        &[],
        1,
        |_| Ok(()),
        |_, _, faults| ask(&unbinds, false, &pf, faults),
        |rig, (), ()| {
            tell(&binds, &pf, &Faults::none())??;
            kept.is_reached(rig)
        },
    )
}

/// The PF's own driver goes, and with it all that was mapped in its space.
fn unbind_shared(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    let (binds, unbinds) = (control(HOSTDRV, "bind")?, control(HOSTDRV, "unbind")?);
    let mut nth = 0;
    loop {
        nth += 1;
        let (locked, pins) = (ledger::locked()?, ledger::pins()?);
        let faults = Faults::at(nth)?;
        let rig = Rig::new(host)?;
        let kept = Kept::new()?;
        if ask(&unbinds, false, &pf, &faults)?.is_err() {
            kept.is_reached(&mut Rig::new(host)?)?;
            tell(&unbinds, &pf, &Faults::none())??;
        }
        // Everyone's pins have gone, though the contexts are open.
        expect::equal("pins", ledger::pins()?, pins)?;
        let left = crate::watching::listing("mappings")?;
        expect::holds("nothing is mapped", left.is_empty())?;
        let answer = kept
            .context
            .unmap_user(kept.memory.va(), kept.memory.length());
        expect::fails("unmap of what has gone", answer, Errno::NODEV)?;
        tell(&binds, &pf, &Faults::none())??;
        drop((rig, kept));
        expect::equal("charged KiB", ledger::locked()?, locked)?;
        let mut rig = Rig::new(host)?;
        Kept::new()?.is_reached(&mut rig)?;
        if !faults.reached() {
            println!("    # {} failures were made", nth - 1);
            return Ok(());
        }
    }
}

/// A PF whose driver comes is usable or is not, and the log says so; the driver comes all the same,
/// if it is not its own allocation that failed.
fn bind_shared(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    let (binds, unbinds) = (control(HOSTDRV, "bind")?, control(HOSTDRV, "unbind")?);
    tell(&unbinds, &pf, &Faults::none())??;
    let (mut nth, mut lacking) = (0, 0);
    loop {
        nth += 1;
        let faults = Faults::at(nth)?;
        let bound = ask(&binds, true, &pf, &faults)?.is_ok();
        let usable = !Context::open()?.info()?.pfs.is_empty();
        ensure!(bound || !usable, "a PF without a driver is usable");
        if usable {
            let mut rig = Rig::new(host)?;
            Kept::new()?.is_reached(&mut rig)?;
        }
        lacking += usize::from(bound && !usable);
        if bound {
            tell(&unbinds, &pf, &Faults::none())??;
        }
        if !faults.reached() {
            println!(
                "    # {} failures were made, of which {lacking} kept the PF from use",
                nth - 1
            );
            break;
        }
    }
    tell(&binds, &pf, &Faults::none())??;
    ensure!(lacking > 0, "no failure kept the PF from use");
    let mut rig = Rig::new(host)?;
    Kept::new()?.is_reached(&mut rig)
}
