// SPDX-License-Identifier: GPL-2.0
//! What would hurt somebody, and is done only with `--force`.

use anyhow::{bail, ensure, Result};

use super::users;
use crate::host::{Function, Host, OWN_DRIVER};
use crate::number::count;
use crate::records::Records;

const FORCE: &str = "--force does it all the same";

pub fn to_bind(host: &Host, function: &Function) -> Result<()> {
    let pf = function.address;
    if let Some(owner) = &function.physfn {
        bail!("{pf} is a VF of {owner}; only PFs can be bound, VFs are for VFIO");
    }
    ensure!(
        host.is_pf(function),
        "{pf} ({}) is no QAT PF that the module knows; a new kind is named to it by \
         `modprobe qat_iommu ids={}`",
        function.ids(),
        function.ids()
    );
    vfs_are_off(function)?;
    let group = function.group.and_then(|number| host.group(number));
    let mut others = group.map(|group| group.devices).unwrap_or_default();
    others.retain(|device| *device != pf.to_string());
    ensure!(
        others.is_empty(),
        "{pf} shares its IOMMU group with {}: they could reach each other's memory; put it \
         into a slot of its own ({FORCE}, but the module will refuse it too)",
        others.join(", ")
    );
    not_in_use(host, function)
}

pub fn to_unbind(host: &Host, function: &Function) -> Result<()> {
    let pf = function.address;
    vfs_are_off(function)?;
    users_of_registers(host, function)?;
    let Ok(records) = Records::read(host) else {
        return Ok(());
    };
    let last = records
        .space_of(&pf.to_string())
        .filter(|space| space.pfs.len() == 1);
    if let Some(space) = last.filter(|space| space.mappings > 0) {
        let live = count(
            usize::try_from(space.mappings).unwrap_or(usize::MAX),
            "mapping",
        );
        bail!(
            "{live} in its space are live, and {pf} is its only PF: end the programs that \
             `qat-iommu list` shows first ({FORCE}; the mappings hold again for a PF that comes back)"
        );
    }
    Ok(())
}

fn vfs_are_off(function: &Function) -> Result<()> {
    let vfs = count(usize::try_from(function.vfs).unwrap_or(usize::MAX), "VF");
    ensure!(
        function.vfs == 0,
        "{}: {vfs} on; whoever uses them would lose them; turn them off with \
         `echo 0 | sudo tee {}/sriov_numvfs` ({FORCE})",
        function.address,
        function.directory()
    );
    Ok(())
}

fn not_in_use(host: &Host, function: &Function) -> Result<()> {
    let pf = function.address;
    let algorithms = users::algorithms(host, function);
    ensure!(
        algorithms.is_empty(),
        "{pf}: the kernel uses the services of {} ({}); stop what uses them, for instance \
         encrypted disks ({FORCE})",
        function.driver.as_deref().unwrap_or(OWN_DRIVER),
        algorithms.join(", ")
    );
    users_of_registers(host, function)
}

fn users_of_registers(host: &Host, function: &Function) -> Result<()> {
    let programs = users::programs(host, function);
    ensure!(
        programs.is_empty(),
        "{} is in use by {}; end it first ({FORCE})",
        function.address,
        programs.join(", ")
    );
    Ok(())
}
