// SPDX-License-Identifier: GPL-2.0
//! `doctor` on hosts that have to be booted as what they are.

use anyhow::{ensure, Context as _, Result};
use serde_json::json;
use std::fs;

use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::module::Reloaded;
use crate::tool::{self, Diagnosis};

pub fn no_iommu() -> Vec<Test<Host>> {
    list_tests![no_iommu_at_all]
}

pub fn iommu_off() -> Vec<Test<Host>> {
    list_tests![iommu_turned_off]
}

pub fn passthrough() -> Vec<Test<Host>> {
    list_tests![iommu_passed_through]
}

pub fn no_pf() -> Vec<Test<Host>> {
    list_tests![no_pf_at_all]
}

pub fn in_a_vm() -> Vec<Test<Host>> {
    list_tests![a_virtual_machine]
}

pub fn shared() -> Vec<Test<Host>> {
    list_tests![a_shared_pf, fixed_addresses_off]
}

pub fn shared_virtio() -> Vec<Test<Host>> {
    list_tests![fixed_addresses_impossible]
}

pub fn vfs() -> Vec<Test<Host>> {
    list_tests![vfs_that_are_on, vfs_of_an_owned_pf]
}

pub fn grouped() -> Vec<Test<Host>> {
    list_tests![a_group_of_several_devices]
}

pub fn signatures() -> Vec<Test<Host>> {
    list_tests![unsigned_module]
}

pub fn lockdown() -> Vec<Test<Host>> {
    list_tests![locked_down]
}

fn no_iommu_at_all(_: &Host) -> Result<()> {
    let found = Diagnosis::new(&[])?;
    found.names("iommu", "failure", "no IOMMU", "firmware's setup")?;
    found.is_well("driver")?.fails_only_with(&["iommu"])
}

fn iommu_turned_off(_: &Host) -> Result<()> {
    let found = Diagnosis::new(&[])?;
    found.names(
        "iommu",
        "failure",
        "the IOMMU is off",
        "sudo update-grub && sudo reboot",
    )?;
    found.names(
        "iommu",
        "failure",
        "booted with intel_iommu=off",
        "take intel_iommu=off out of, and put intel_iommu=on into, GRUB_CMDLINE_LINUX",
    )?;
    found.fails_only_with(&["iommu"])
}

fn iommu_passed_through(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    let found = Diagnosis::new(&[])?;
    let remedy = format!("sudo qat-iommu bind {}", pf.0);
    found.names("iommu", "warning", "passes through", &remedy)?;
    found.names("iommu", "warning", "qat_hostdrv", "without iommu=pt")?;
    found.fails_only_with(&[])
}

fn no_pf_at_all(_: &Host) -> Result<()> {
    let found = Diagnosis::new(&[])?;
    found.names("pf", "failure", "no QAT PF", "lspci -nn")?;
    found.fails_only_with(&["pf"])
}

fn a_virtual_machine(host: &Host) -> Result<()> {
    let found = Diagnosis::new(&[])?;
    if host.iommu == crate::host::Iommu::None {
        found.names("vm", "ok", "nothing has to be done", "")?;
    } else {
        found.names("vm", "warning", "an IOMMU of its own", "virt=host")?;
    }
    found.is_well("iommu")?.fails_only_with(&[])?;
    // Told to be a host it is judged as one.
    let _told = Reloaded::with(host, &["virt=host"])?;
    let found = Diagnosis::new(&[])?;
    found.names("vm", "ok", "treats as a host (virt=host)", "")?;
    if host.iommu == crate::host::Iommu::None {
        found.names("iommu", "failure", "no IOMMU", "firmware's setup")?;
    } else {
        found.names("iommu", "ok", "is on and translates", "")?;
    }
    Ok(())
}

fn a_shared_pf(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    let found = Diagnosis::new(&[])?;
    found.names("driver", "ok", &format!("{} is shared", pf.0), "")?;
    found.names("fixed-addresses", "ok", "from 4 GiB up", "")?;
    found.fails_only_with(&[])?;
    let told = tool::json(&["info"])?;
    expect::equal("fixed", &told["pfs"][0]["fixed"], &json!(true))?;
    expect::equal("owned", &told["pfs"][0]["owned"], &json!(false))?;
    expect::equal(
        "parameter",
        &told["parameters"]["shared_fixed"],
        &json!("high"),
    )
}

fn fixed_addresses_off(host: &Host) -> Result<()> {
    let _told = Reloaded::with(host, &["shared_fixed=off"])?;
    let found = Diagnosis::new(&[])?;
    found.names(
        "fixed-addresses",
        "warning",
        "shared_fixed=off",
        "shared_fixed=high",
    )?;
    found.fails_only_with(&[])?;
    let told = tool::json(&["info"])?;
    expect::equal("fixed", &told["pfs"][0]["fixed"], &json!(false))?;
    expect::equal(
        "parameter",
        &told["parameters"]["shared_fixed"],
        &json!("off"),
    )
}

fn fixed_addresses_impossible(_: &Host) -> Result<()> {
    let found = Diagnosis::new(&[])?;
    found.names(
        "fixed-addresses",
        "warning",
        "virtio-iommu",
        "sudo qat-iommu bind",
    )?;
    found.fails_only_with(&[])
}

fn vfs_that_are_on(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    let file = pf.path().join("sriov_numvfs");
    Diagnosis::new(&[])?.names("sriov", "ok", "none of its", "")?;
    fs::write(&file, "2")?;
    let found = Diagnosis::new(&[]);
    let refused = tool::refuses(&["bind", &pf.0], "2 VFs on");
    let vf = pf
        .vfs()
        .and_then(|vfs| vfs.into_iter().next().context("a VF"));
    let vf = vf.and_then(|vf| {
        let owner = format!("is a VF of {}", pf.0);
        tool::refuses(&["bind", &vf.0], &owner)
    });
    fs::write(&file, "0")?;
    vf?;
    let found = found?;
    let remedy = format!(
        "echo 0 | sudo tee /sys/bus/pci/devices/{}/sriov_numvfs",
        pf.0
    );
    found.names("sriov", "warning", "2 VFs of", &remedy)?;
    found.fails_only_with(&[])?;
    refused?;
    ensure!(
        pf.driver().as_deref() == Some("qat_hostdrv"),
        "the PF was moved"
    );
    Ok(())
}

/// An owned PF can have VFs as well; they would go when it leaves the module.
fn vfs_of_an_owned_pf(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    tool::json(&["bind", &pf.0])?;
    let tried = pf.set_vfs(1).and_then(|()| {
        let found = Diagnosis::new(&[])?;
        found.names("sriov", "ok", "1 of 2 VFs are on", "")?;
        tool::refuses(&["unbind", &pf.0], "1 VF on")
    });
    pf.set_vfs(0)?;
    tool::json(&["unbind", &pf.0])?;
    tried?;
    expect::equal("driver", pf.driver().as_deref(), Some("qat_hostdrv"))
}

fn a_group_of_several_devices(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    let found = Diagnosis::new(&[])?;
    found.names("group", "failure", "shares IOMMU group", "ACS")?;
    found.names("driver", "failure", &pf.0, "qat-iommu bind")?;
    found.fails_only_with(&["driver", "group"])?;
    tool::refuses(&["bind", &pf.0], "shares its IOMMU group with")?;
    // The module refuses it as well, and the PF is left as it was.
    tool::refuses(&["bind", "--force", &pf.0], "did not take")?;
    ensure!(
        pf.driver().is_none() && pf.wanted_driver()?.is_none(),
        "the PF is not as it was"
    );
    Ok(())
}

fn unsigned_module(host: &Host) -> Result<()> {
    let modules = super::setting::WritableModules::new()?;
    modules.install(host)?;
    let found = Diagnosis::new(&[])?;
    found.names(
        "module-signed",
        "failure",
        "module.sig_enforce is on",
        "sign-file sha256",
    )?;
    found.names(
        "module-signed",
        "failure",
        "is not signed",
        "mokutil --import",
    )?;
    found.names(
        "module-loaded",
        "failure",
        "is not loaded",
        "sudo modprobe qat_iommu",
    )?;
    found.fails_only_with(&["module-loaded", "module-signed"])?;
    // It is true: the kernel does not take it.
    let refused = crate::module::load(host, crate::host::OWN_DRIVER, &[]);
    ensure!(
        refused.is_err(),
        "the kernel loaded a module that is not signed"
    );
    Ok(())
}

/// It stays so until the machine ends.
fn locked_down(_: &Host) -> Result<()> {
    fs::write("/sys/kernel/security/lockdown", "integrity")?;
    let found = Diagnosis::new(&[])?;
    found.names(
        "lockdown",
        "warning",
        "locked down (integrity)",
        "qaeMemMapContiguousIova",
    )?;
    found.is_well("module-signed")?.fails_only_with(&[])?;
    // The module's files can still be read, and what needs registers says why it is left out.
    tool::json(&["list"])?;
    let report = tool::json(&["selftest"])?;
    let steps = report["steps"].as_array().into_iter().flatten();
    let skipped = steps.filter(|step| step["status"] == "skipped").count();
    ensure!(report["failed"] == 0 && skipped > 0, "{report}");
    Ok(())
}
