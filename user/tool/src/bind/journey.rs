// SPDX-License-Identifier: GPL-2.0
//! A PF's way from one driver to another: keep it for the new one, take it from the old one, have
//! the kernel look for its driver, and see who holds it. A way that fails is gone back.

use anyhow::{bail, Context as _, Result};
use std::fs;

use super::previous::Previous;
use crate::host::{Function, Host};
use crate::kernel_log;

/// Gives a function to a driver.
pub fn to(host: &Host, function: &Function, driver: &str) -> Result<()> {
    let before = Previous::of(function);
    let arrived = keep_for(host, function, Some(driver))
        .and_then(|()| leave(host, function))
        .and_then(|()| look_for_driver(host, function))
        .and_then(|()| is_held(host, function, driver));
    let Err(error) = arrived else {
        return Ok(());
    };
    match back(host, function, &before) {
        Ok(()) => Err(error.context("nothing has changed")),
        Err(worse) => Err(error.context(format!("and it could not be put back: {worse:#}"))),
    }
}

/// Gives a function back to what held it before.
pub fn back(host: &Host, function: &Function, before: &Previous) -> Result<()> {
    keep_for(host, function, before.driver_override.as_deref())?;
    leave(host, function)?;
    match &before.driver {
        // A function that had no driver, or nobody knows of one.
        None => look_for_driver(host, function),
        Some(driver) => {
            look_for_driver(host, function)?;
            is_held(host, function, driver)
        }
    }
}

fn keep_for(host: &Host, function: &Function, driver: Option<&str>) -> Result<()> {
    // An empty line is for anybody.
    let text = driver.unwrap_or("\n");
    write(
        host,
        &format!("{}/driver_override", function.directory()),
        text,
    )
}

fn leave(host: &Host, function: &Function) -> Result<()> {
    let driver = format!("{}/driver", function.directory());
    if !host.exists(&driver) {
        return Ok(());
    }
    write(
        host,
        &format!("{driver}/unbind"),
        &function.address.to_string(),
    )
}

fn look_for_driver(host: &Host, function: &Function) -> Result<()> {
    // What a probe answers does not matter: who holds it in the end does.
    let _ = write(
        host,
        "/sys/bus/pci/drivers_probe",
        &function.address.to_string(),
    );
    Ok(())
}

fn is_held(host: &Host, function: &Function, driver: &str) -> Result<()> {
    let pf = function.address;
    let now = host.function(pf).and_then(|function| function.driver);
    if now.as_deref() == Some(driver) {
        return Ok(());
    }
    let address = pf.to_string();
    let reason = kernel_log::last_about(&[driver, &address]);
    match reason {
        Some(reason) => bail!("{driver} did not take {pf}; the kernel log says: {reason}"),
        None => bail!(
            "{driver} did not take {pf} (held by {}), and the kernel log does not say why",
            now.as_deref().unwrap_or("no driver")
        ),
    }
}

fn write(host: &Host, path: &str, text: &str) -> Result<()> {
    let done = fs::write(host.path(path), text);
    if let Err(error) = &done {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            bail!("only root may write {path}; use sudo");
        }
    }
    done.with_context(|| format!("cannot write {path}"))
}
