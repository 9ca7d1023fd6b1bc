// SPDX-License-Identifier: GPL-2.0
//! `qat-iommu bind` and `unbind`: PFs to the module's driver and back, by `driver_override`.

pub mod config;
mod journey;
mod previous;
mod refusals;
mod users;

use anyhow::{bail, ensure, Result};
use qat_iommu::PfAddress;
use serde::Serialize;

use crate::host::{Function, Host, OWN_DRIVER};
use crate::output::Output;
use config::CONFIG;
use previous::Previous;

#[derive(Debug, clap::Args)]
pub struct BindArguments {
    /// PCI addresses, as 0000:6b:00.0
    #[arg(required_unless_present = "boot", value_name = "PF")]
    pfs: Vec<PfAddress>,
    /// Bind those that /etc/qat-iommu.conf names: an address a line, or `all`; `force` after it
    /// as the option; # begins a comment
    #[arg(long, conflicts_with = "pfs")]
    boot: bool,
    /// Bind even what would hurt somebody
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
pub struct UnbindArguments {
    /// PCI addresses, as 0000:6b:00.0
    #[arg(required = true, value_name = "PF")]
    pfs: Vec<PfAddress>,
    /// Unbind even while a program uses it or its VFs are on
    #[arg(long)]
    force: bool,
}

/// What became of one PF.
#[derive(Serialize)]
struct Done {
    pf: String,
    /// The driver that holds it now.
    driver: Option<String>,
    /// The one that held it before.
    previous: Option<String>,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub fn run_bind(arguments: &BindArguments, output: Output) -> Result<()> {
    let host = Host::here();
    let wanted = if arguments.boot {
        from_file(&host)?
    } else {
        arguments
            .pfs
            .iter()
            .map(|pf| (*pf, arguments.force))
            .collect()
    };
    if wanted.is_empty() {
        return output.show(&Vec::<Done>::new(), |_| format!("{CONFIG} names no PF\n"));
    }
    ensure_driver(&host)?;
    each(output, wanted, |pf, force| bind(&host, pf, force))
}

pub fn run_unbind(arguments: &UnbindArguments, output: Output) -> Result<()> {
    let host = Host::here();
    let wanted = arguments
        .pfs
        .iter()
        .map(|pf| (*pf, arguments.force))
        .collect();
    each(output, wanted, |pf, force| unbind(&host, pf, force))
}

fn from_file(host: &Host) -> Result<Vec<(PfAddress, bool)>> {
    let entries = match host.read(CONFIG) {
        Ok(text) => config::parse(&text).map_err(|error| error.context(CONFIG))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => bail!("cannot read {CONFIG}: {error}"),
    };
    Ok(config::pfs(&entries, &host.pfs()))
}

fn ensure_driver(host: &Host) -> Result<()> {
    ensure!(
        host.module_loaded(),
        "the kernel module is not loaded; load it with `modprobe qat_iommu`"
    );
    ensure!(
        host.exists(format!("/sys/bus/pci/drivers/{OWN_DRIVER}")),
        "the module takes no PFs in a virtual machine; load it with virt=host if this is to be \
         treated as a host"
    );
    Ok(())
}

/// Does it for each PF, tells of each, and fails if one did.
fn each(
    output: Output,
    wanted: Vec<(PfAddress, bool)>,
    act: impl Fn(PfAddress, bool) -> Result<Done>,
) -> Result<()> {
    let one = wanted.len() == 1;
    let mut all = Vec::new();
    for (pf, force) in wanted {
        match act(pf, force) {
            Ok(done) => all.push(done),
            Err(error) if one => return Err(error),
            Err(error) => all.push(Done {
                pf: pf.to_string(),
                driver: Host::here()
                    .function(pf)
                    .and_then(|function| function.driver),
                previous: None,
                changed: false,
                error: Some(format!("{error:#}")),
            }),
        }
    }
    output.show(&all, |all| all.iter().map(people).collect())?;
    let failed = all.iter().filter(|done| done.error.is_some()).count();
    ensure!(failed == 0, "{failed} of {} PFs failed", all.len());
    Ok(())
}

fn people(done: &Done) -> String {
    let Done {
        pf,
        driver,
        previous,
        changed,
        error,
    } = done;
    let now = driver.as_deref().unwrap_or("no driver");
    let before = previous.as_deref().unwrap_or("no driver");
    match error {
        Some(error) => format!("{error}\n"),
        None if *changed => format!("{pf}: {now} (was: {before})\n"),
        None => format!("{pf}: {now} already\n"),
    }
}

/// The function, if there is one.
fn function(host: &Host, pf: PfAddress) -> Result<Function> {
    match host.function(pf) {
        Some(function) => Ok(function),
        None => bail!("there is no PCI function {pf}; `lspci -D` lists them"),
    }
}

/// One PF to the module's driver. Undone if the module refuses it.
fn bind(host: &Host, pf: PfAddress, force: bool) -> Result<Done> {
    let function = function(host, pf)?;
    if function.driver.as_deref() == Some(OWN_DRIVER) {
        return Ok(Done {
            pf: pf.to_string(),
            driver: function.driver,
            previous: None,
            changed: false,
            error: None,
        });
    }
    if !force {
        refusals::to_bind(host, &function)?;
    }
    let previous = Previous::of(&function);
    journey::to(host, &function, OWN_DRIVER)?;
    // Without this record unbind leaves the choice to the kernel.
    let _ = previous.save(host, pf);
    Ok(Done {
        pf: pf.to_string(),
        driver: Some(OWN_DRIVER.into()),
        previous: function.driver,
        changed: true,
        error: None,
    })
}

/// One PF back to where it was.
fn unbind(host: &Host, pf: PfAddress, force: bool) -> Result<Done> {
    let function = function(host, pf)?;
    ensure!(
        function.driver.as_deref() == Some(OWN_DRIVER),
        "{pf} is held by {}, not by {OWN_DRIVER}: nothing to do",
        function.driver.as_deref().unwrap_or("no driver")
    );
    if !force {
        refusals::to_unbind(host, &function)?;
    }
    let previous = Previous::load(host, pf);
    journey::back(host, &function, &previous)?;
    previous::forget(host, pf);
    Ok(Done {
        pf: pf.to_string(),
        driver: host.function(pf).and_then(|function| function.driver),
        previous: Some(OWN_DRIVER.into()),
        changed: true,
        error: None,
    })
}
