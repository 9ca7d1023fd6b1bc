// SPDX-License-Identifier: GPL-2.0
//! `doctor` on hosts that are broken on purpose, as far as one machine can be broken and mended
//! again: each cause is named, with the line that mends it, and nothing else fails.

use anyhow::{ensure, Context as _, Result};
use std::fs::{self, Permissions};
use std::os::unix::fs::{chown, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use super::setting::{nobody, run, with_leftover, Changed, WritableModules};
use crate::abi::NODE;
use crate::expect;
use crate::host::{Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::HUGE;
use crate::module::{Absent, Reloaded};
use crate::tool::{self, Diagnosis};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        a_good_host,
        in_an_order_that_makes_sense,
        people_see_the_line_to_type,
        pf_without_a_driver,
        pf_held_by_vfio_pci,
        one_of_two_pfs_missing,
        pf_that_the_module_was_not_given,
        node_closed_to_a_user,
        user_not_in_the_group,
        node_open_to_all,
        node_missing,
        node_that_is_none,
        memory_lock_limit,
        huge_pages_off,
        huge_pages_used_up,
        module_not_loaded,
        module_of_another_kernel,
        module_told_that_this_is_a_vm,
        physical_maps_off,
        mapping_left_behind,
        boot_file_with_an_error,
        boot_file_with_a_stranger,
    ]
}

fn a_good_host(host: &Host) -> Result<()> {
    let found = Diagnosis::new(&[])?;
    for id in [
        "pf",
        "iommu",
        "module-loaded",
        "driver",
        "group",
        "reserved",
        "node",
        "vm",
        "sriov",
    ] {
        found.is_well(id)?;
    }
    found.fails_only_with(&[])?;
    // One finding for each PF.
    let pfs = host.all_pfs()?;
    for pf in &pfs {
        found.names("driver", "ok", &pf.0, "")?;
    }
    ensure!(found.findings("driver").count() == pfs.len());
    Ok(())
}

/// What is missing at all is said before what is only badly set.
fn in_an_order_that_makes_sense(_: &Host) -> Result<()> {
    let found = Diagnosis::new(&[])?;
    let all = found.report["checks"].as_array().context("checks")?;
    let mut ids: Vec<&str> = all.iter().filter_map(|one| one["id"].as_str()).collect();
    ids.dedup();
    let want = [
        "pf",
        "iommu",
        "module-built",
        "module-loaded",
        "module-signed",
        "lockdown",
        "driver",
        "sriov",
        "group",
        "reserved",
        "node",
        "memlock",
        "hugepages",
        "vm",
    ];
    expect::equal("order", ids, want.to_vec())
}

fn people_see_the_line_to_type(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    pf.unbind()?;
    let said = tool::output(&mut tool::tool(&["doctor", "--quiet"]));
    let report = Diagnosis::new(&["--quiet"]);
    pf.bind(OWN_DRIVER)?;
    let (said, report) = (said?, report?);
    let text = String::from_utf8(said.stdout)?;
    let remedy = format!("\n           sudo qat-iommu bind {}\n", pf.0);
    ensure!(
        text.contains("[ warn ] ") && text.contains(&remedy),
        "{text}"
    );
    // Nothing is said of what is well, but counted is all.
    ensure!(!text.contains("[  ok  ]"), "{text}");
    let warnings = &report.report["warnings"];
    ensure!(
        text.ends_with(&format!("0 failures, {warnings} warning\n")),
        "{text}"
    );
    report.names("driver", "warning", &pf.0, "qat-iommu bind")?;
    ensure!(report.findings("pf").count() == 0, "{}", report.report);
    let whole = tool::output(&mut tool::tool(&["doctor"]))?;
    let text = String::from_utf8(whole.stdout)?;
    ensure!(text.contains("[  ok  ] 2 QAT PFs: "), "{text}");
    Ok(())
}

/// Without the drivers of all PFs, while something is done.
fn with_free_pfs(host: &Host, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let pfs = host.all_pfs()?;
    for pf in &pfs {
        pf.unbind()?;
    }
    let result = act();
    for pf in &pfs {
        pf.bind(OWN_DRIVER)?;
    }
    result
}

fn pf_without_a_driver(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    with_free_pfs(host, || {
        for pf in host.all_pfs()? {
            fs::write(pf.path().join("driver_override"), "\n")?;
        }
        let found = Diagnosis::new(&[])?;
        let remedy = format!("sudo qat-iommu bind {}", pf.0);
        found.names("driver", "failure", "has no driver", &remedy)?;
        found.fails_only_with(&["driver"])
    })
}

fn pf_held_by_vfio_pci(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    with_free_pfs(host, || {
        run(Command::new("modprobe").arg("vfio-pci"))?;
        pf.bind("vfio-pci")?;
        let found = Diagnosis::new(&[]);
        let tried = refused_while_vfio_is_open(&pf).and_then(|()| there_and_back(&pf));
        pf.release()?;
        tried?;
        let found = found?;
        let remedy = format!("sudo qat-iommu bind {}", pf.0);
        found.names("driver", "failure", "held by vfio-pci", &remedy)?;
        found.fails_only_with(&["driver"])
    })
}

/// A program that has the PF's group open would lose the PF.
fn refused_while_vfio_is_open(pf: &crate::host::Bdf) -> Result<()> {
    let path = format!("/dev/vfio/{}", pf.group()?.0);
    let group = fs::File::open(&path).with_context(|| path.clone())?;
    tool::refuses(&["bind", &pf.0], "in use by qat-iommu-self")?;
    drop(group);
    Ok(())
}

/// Typed as `doctor` says; and `unbind` knows who had it, which the kernel would not find out.
fn there_and_back(pf: &crate::host::Bdf) -> Result<()> {
    tool::json(&["bind", &pf.0])?;
    expect::equal("driver", pf.driver().as_deref(), Some(OWN_DRIVER))?;
    tool::json(&["unbind", &pf.0])?;
    expect::equal("driver", pf.driver().as_deref(), Some("vfio-pci"))?;
    expect::equal(
        "driver_override",
        pf.wanted_driver()?.as_deref(),
        Some("vfio-pci"),
    )
}

fn one_of_two_pfs_missing(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    pf.unbind()?;
    let found = Diagnosis::new(&[]);
    pf.bind(OWN_DRIVER)?;
    let found = found?;
    // Another PF can be used, so that it may be meant.
    found.names("driver", "warning", &pf.0, "qat-iommu bind")?;
    found.fails_only_with(&[])
}

fn pf_that_the_module_was_not_given(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    pf.unbind()?;
    // Still kept for the module, but it was not asked to take it.
    let found = Diagnosis::new(&[]);
    pf.bind(OWN_DRIVER)?;
    let found = found?;
    found.names("driver", "warning", "meant for qat_iommu", "dmesg")?;
    found.fails_only_with(&[])
}

/// `doctor` as the user nobody.
fn as_nobody() -> Result<Diagnosis> {
    let doctor = ["qat-iommu", "doctor", "--json", "--memlock", "4K"];
    Diagnosis::by(&mut nobody(&doctor))
}

fn node_closed_to_a_user(_: &Host) -> Result<()> {
    let found = as_nobody()?;
    found.names(
        "node",
        "failure",
        "nobody may not open it",
        "groupadd --system qat-iommu",
    )?;
    found.names(
        "node",
        "failure",
        "root:root 0600",
        "usermod -a -G qat-iommu nobody",
    )?;
    found.fails_only_with(&["node"])
}

fn user_not_in_the_group(_: &Host) -> Result<()> {
    let groups = fs::read_to_string("/etc/group")?;
    let _groups = Changed::new("/etc/group", &format!("{groups}qat-iommu:x:989:\n"))?;
    chown(NODE, None, Some(989))?;
    fs::set_permissions(NODE, Permissions::from_mode(0o660))?;
    let found = as_nobody();
    chown(NODE, None, Some(0))?;
    fs::set_permissions(NODE, Permissions::from_mode(0o600))?;
    let found = found?;
    found.names(
        "node",
        "failure",
        "root:qat-iommu 0660",
        "sudo usermod -a -G qat-iommu nobody",
    )?;
    // The node is as it should be, so that this is all there is to do.
    let remedy = found.findings("node").next().map(|one| &one["remedy"]);
    let remedy = remedy.and_then(|text| text.as_str()).unwrap_or_default();
    ensure!(remedy.starts_with("sudo usermod "), "{remedy}");
    found.fails_only_with(&["node"])
}

fn node_open_to_all(_: &Host) -> Result<()> {
    fs::set_permissions(NODE, Permissions::from_mode(0o666))?;
    let found = Diagnosis::new(&[]);
    fs::set_permissions(NODE, Permissions::from_mode(0o600))?;
    let found = found?;
    found.names("node", "warning", "every user", "chmod 0660 /dev/qat_iommu")?;
    found.fails_only_with(&[])
}

fn node_missing(_: &Host) -> Result<()> {
    const ASIDE: &str = "/dev/qat_iommu.aside";
    fs::rename(NODE, ASIDE)?;
    let found = Diagnosis::new(&[]);
    fs::rename(ASIDE, NODE)?;
    let found = found?;
    found.names(
        "node",
        "failure",
        "missing, although the module is loaded",
        "udevadm trigger",
    )?;
    found.fails_only_with(&["node"])
}

fn node_that_is_none(_: &Host) -> Result<()> {
    const ASIDE: &str = "/dev/qat_iommu.aside";
    fs::rename(NODE, ASIDE)?;
    fs::write(NODE, "")?;
    let found = Diagnosis::new(&[]);
    fs::rename(ASIDE, NODE)?;
    let found = found?;
    found.names(
        "node",
        "failure",
        "is no device node",
        "sudo rm /dev/qat_iommu",
    )?;
    found.fails_only_with(&["node"])
}

fn memory_lock_limit(_: &Host) -> Result<()> {
    let limited = |limits: &str, wanted: &str| {
        let script = format!(
            "{limits} && exec setpriv --bounding-set=-ipc_lock,-sys_resource --inh-caps=-ipc_lock \
             qat-iommu doctor --json --memlock {wanted}"
        );
        Diagnosis::by(Command::new("bash").args(["-c", &script]))
    };
    let hard = limited("ulimit -l 8192", "64M")?;
    let line = "'@qat-iommu - memlock 65536' | sudo tee /etc/security/limits.d/qat-iommu.conf";
    hard.names("memlock", "failure", "may lock 8M, not 64M", line)?;
    hard.fails_only_with(&["memlock"])?;
    limited("ulimit -H -l unlimited && ulimit -S -l 8192", "64M")?.names(
        "memlock",
        "failure",
        "may lock 8M, not 64M",
        "ulimit -l 65536",
    )?;
    limited("ulimit -l 8192", "8M")?
        .is_well("memlock")?
        .fails_only_with(&[])
}

fn huge_pages_off(_: &Host) -> Result<()> {
    let _none = Changed::new("/proc/sys/vm/nr_hugepages", "0")?;
    let _off = Changed::new("/sys/kernel/mm/transparent_hugepage/enabled", "never")?;
    let found = Diagnosis::new(&[])?;
    found.names(
        "hugepages",
        "warning",
        "none reserved, and transparent ones are off",
        "madvise",
    )?;
    found.fails_only_with(&[])
}

fn huge_pages_used_up(_: &Host) -> Result<()> {
    let _two = Changed::new("/proc/sys/vm/nr_hugepages", "2")?;
    let used = UserMemory::huge(2 * HUGE)?;
    used.touch();
    let found = Diagnosis::new(&[])?;
    found.names(
        "hugepages",
        "warning",
        "all 2 pages are in use",
        "/proc/sys/vm/nr_hugepages",
    )?;
    found.fails_only_with(&[])?;
    drop(used);
    Diagnosis::new(&[])?
        .is_well("hugepages")?
        .fails_only_with(&[])
}

fn module_not_loaded(host: &Host) -> Result<()> {
    let modules = WritableModules::new()?;
    modules.install(host)?;
    let absent = Absent::new(host)?;
    let found = Diagnosis::new(&[]);
    drop(absent);
    let found = found?;
    found.is_well("module-built")?;
    found.names(
        "module-loaded",
        "failure",
        "is not loaded",
        "sudo modprobe qat_iommu",
    )?;
    ensure!(found.findings("module-loaded").count() == 1);
    found.fails_only_with(&["module-loaded"])
}

fn module_of_another_kernel(host: &Host) -> Result<()> {
    let other = Path::new("/lib/modules/6.1.0-tool/updates");
    fs::create_dir_all(other)?;
    fs::write(other.join("qat_iommu.ko"), "")?;
    let absent = Absent::new(host)?;
    let found = Diagnosis::new(&[]);
    drop(absent);
    fs::remove_dir_all("/lib/modules/6.1.0-tool")?;
    let (found, release) = (found?, rustix::system::uname());
    let release = release.release().to_string_lossy();
    let package = format!("apt install qat-iommu-modules-{release}");
    found.names("module-built", "failure", &release, &package)?;
    found.names(
        "module-built",
        "failure",
        "it is for 6.1.0-tool",
        "make install",
    )?;
    Ok(())
}

fn module_told_that_this_is_a_vm(host: &Host) -> Result<()> {
    let _told = Reloaded::with(host, &["virt=vm"])?;
    let found = Diagnosis::new(&[])?;
    found.names(
        "vm",
        "warning",
        "told that it is a virtual machine",
        "virt=auto",
    )?;
    found.fails_only_with(&[])
}

fn physical_maps_off(host: &Host) -> Result<()> {
    let _told = Reloaded::with(host, &["phys=off"])?;
    let found = Diagnosis::new(&[])?;
    found.names(
        "lockdown",
        "warning",
        "phys=off",
        "modprobe qat_iommu phys=ram",
    )?;
    found.fails_only_with(&[])
}

fn mapping_left_behind(host: &Host) -> Result<()> {
    with_leftover(host, |iova| {
        let found = Diagnosis::new(&[])?;
        let remedy = format!("sudo qat-iommu unmap --force {iova:#x} 0x1000");
        found.names("leftovers", "warning", "1 mapping left behind", &remedy)?;
        found.fails_only_with(&[])
    })?;
    ensure!(Diagnosis::new(&[])?.findings("leftovers").count() == 0);
    Ok(())
}

fn boot_file_with_an_error(_: &Host) -> Result<()> {
    let _file = Changed::new("/etc/qat-iommu.conf", "# PFs\n6b:00.0\n")?;
    let found = Diagnosis::new(&[])?;
    found.names("boot", "failure", "line 2", "/etc/qat-iommu.conf")?;
    found.fails_only_with(&["boot"])
}

fn boot_file_with_a_stranger(_: &Host) -> Result<()> {
    let _file = Changed::new("/etc/qat-iommu.conf", "0000:ff:1f.0\n")?;
    let found = Diagnosis::new(&[])?;
    found.names("boot", "warning", "0000:ff:1f.0", "/etc/qat-iommu.conf")?;
    found.fails_only_with(&[])
}
