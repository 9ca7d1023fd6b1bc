// SPDX-License-Identifier: GPL-2.0
//! Several PFs, of which this module owns some and their driver holds others: who is
//! in which space, what one mapping reaches, and that it is made for all or for none.
//!
//! For machines with three PFs, the last of them of another kind, that start with
//! their own driver; each test arranges them as it needs them.

mod mixed;
mod owned;
mod shared;

use anyhow::{Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;

use crate::abi::Context;
use crate::dma::{self, Dma};
use crate::expect;
use crate::host::{Bdf, Host, Iommu, OWN_DRIVER};
use crate::hostdrv::{Driver, Held};
use crate::ktap::Test;
use crate::mem::{Memory, PAGE};
use crate::module::{Reloaded, HOSTDRV};

const PAGE_U64: u64 = 4096;

/// The parts of the suite.
pub fn suite_parts() -> Vec<Vec<Test<Host>>> {
    vec![owned::tests(), shared::tests(), mixed::tests()]
}

/// Those for virtio-iommu, where no shared PF takes fixed ranges.
pub fn virtio_parts() -> Vec<Vec<Test<Host>>> {
    vec![
        owned::tests(),
        shared::virtio_tests(),
        mixed::virtio_tests(),
    ]
}

/// What holds a PF.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Us,
    Driver,
    Nobody,
}
use By::{Driver as Its, Nobody, Us};

/// The PFs as a test wants them, until this goes.
struct Stage<'a> {
    host: &'a Host,
    pfs: Vec<Bdf>,
    // Last: the PFs are as they were when the module changes.
    _module: Option<Reloaded<'a>>,
}

impl<'a> Stage<'a> {
    /// Binds the first PFs, in this order; the others have no driver.
    fn new(host: &'a Host, by: &[By]) -> Result<Self> {
        Self::arranged(host, by, None)
    }

    /// The same after the module was loaded with other parameters. Its spaces come in the order of
    /// the PFs, whoever holds them.
    fn with(host: &'a Host, parameters: &[&str], by: &[By]) -> Result<Self> {
        Self::arranged(host, by, Some(Reloaded::with(host, parameters)?))
    }

    fn arranged(host: &'a Host, by: &[By], module: Option<Reloaded<'a>>) -> Result<Self> {
        let stage = Self {
            host,
            pfs: host.all_pfs()?,
            _module: module,
        };
        for pf in &stage.pfs {
            release(pf)?;
        }
        for (pf, by) in stage.pfs.iter().zip(by) {
            stage.bind(pf, *by)?;
        }
        Ok(stage)
    }

    fn bind(&self, pf: &Bdf, by: By) -> Result<()> {
        match by {
            Us => pf.bind(OWN_DRIVER),
            Its => pf.bind(HOSTDRV),
            Nobody => Ok(()),
        }
    }

    /// The first three PFs.
    fn three(&self) -> Result<(&Bdf, &Bdf, &Bdf)> {
        match self.pfs.as_slice() {
            [first, second, third, ..] => Ok((first, second, third)),
            few => anyhow::bail!("{} PFs are too few", few.len()),
        }
    }

    /// A device for each of these PFs.
    fn devices(&self, pfs: &[&Bdf]) -> Result<Vec<Box<dyn Dma>>> {
        let open = |pf: &&Bdf| dma::open(self.host, pf).with_context(|| pf.0.clone());
        pfs.iter().map(open).collect()
    }

    /// All of these PFs reach a memory.
    fn reach(&self, pfs: &[&Bdf], iova: u64, memory: &dyn Memory) -> Result<()> {
        for (dev, pf) in self.devices(pfs)?.iter_mut().zip(pfs) {
            dma::reaches(dev.as_mut(), iova, memory).with_context(|| pf.0.clone())?;
        }
        Ok(())
    }

    /// None of them does; nor do the IOMMU's tables let it, where a PF is told of them.
    fn refused(&self, pfs: &[&Bdf], iova: u64, memory: &dyn Memory) -> Result<()> {
        for (dev, pf) in self.devices(pfs)?.iter_mut().zip(pfs) {
            for offset in (0..memory.len()).step_by(PAGE) {
                dma::refused_at(dev.as_mut(), iova, memory, offset)
                    .with_context(|| pf.0.clone())?;
                if self.host.iommu != Iommu::IntelFs {
                    let at = iova + u64::try_from(offset)?;
                    let told = dma::pf::Engine::open(pf)?.told(at);
                    let what = format!("what {} was told of {at:#x}", pf.0);
                    expect::equal(&what, told, (false, false))?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        for pf in &self.pfs {
            // What follows would fail, with this as the reason.
            if let Err(error) = release(pf) {
                println!("    # {error:#}");
            }
        }
        for pf in &self.pfs {
            if let Err(error) = pf.bind(HOSTDRV) {
                println!("    # {error:#}");
            }
        }
    }
}

fn release(pf: &Bdf) -> Result<()> {
    match pf.driver() {
        Some(_) => pf.unbind(),
        None => Ok(()),
    }
}

/// What INFO says of a PF.
fn listed(pf: &Bdf) -> Result<Option<uapi::qat_iommu_pf>> {
    let numbers = pf.numbers()?;
    let all = Context::open()?.info()?.pfs;
    Ok(all
        .into_iter()
        .find(|pf| (pf.segment, pf.bus, pf.device, pf.function) == numbers))
}

/// What is known of a PF that is listed.
fn facts(pf: &Bdf) -> Result<uapi::qat_iommu_pf> {
    listed(pf)?.with_context(|| format!("INFO does not list {}", pf.0))
}

/// Memory of a PF's driver, where those of other PFs have nothing.
fn foreign(pf: &Bdf) -> Result<(Driver, Held)> {
    let driver = Driver::of(pf);
    let held = driver.coherent(64 * PAGE)?;
    Ok((driver, held))
}

/// Binding a PF to this module's driver is refused; the kernel's log of it.
fn refuses_to_own(pf: &Bdf, want: Errno) -> Result<String> {
    let (answer, log) = crate::host::logged(|| Ok(pf.bind(OWN_DRIVER)))?;
    let error = match answer {
        Ok(()) => anyhow::bail!("{} was bound", pf.0),
        Err(error) => error,
    };
    let cause = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::raw_os_error);
    expect::equal("errno of the bind", cause, Some(want.raw_os_error()))?;
    expect::equal("its driver", pf.driver(), None)?;
    expect::holds("it is not listed", listed(pf)?.is_none())?;
    Ok(log)
}

/// A line of the log tells this of a PF.
fn tells(log: &str, pf: &Bdf, what: &str) -> Result<()> {
    expect::holds(
        &format!("the log tells {what:?} of {}:\n{log}", pf.0),
        log.lines()
            .any(|line| line.contains(&pf.0) && line.contains(what)),
    )
}
