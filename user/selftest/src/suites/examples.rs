// SPDX-License-Identifier: GPL-2.0
//! The example programs and kernel modules that are there to be copied, run as they are.

use anyhow::{ensure, Context as _, Result};
use std::fs::{self, Permissions};
use std::os::unix::fs::{chown, PermissionsExt as _};
use std::process::Command;

use crate::abi::NODE;
use crate::dma::{Access, Bench};
use crate::host::{logged, Host};
use crate::ktap::{list_tests, Test};
use crate::module::Loaded;
use crate::suites::usdm::run;

/// Of an owned PF.
pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        c_zero_copy,
        c_seven_steps,
        rust_zero_copy,
        c_kernel_client,
        rust_kernel_client,
        rootless_container,
    ]
}

/// Of a shared PF, where fixed ranges lie from 4 GiB up.
pub fn shared_tests() -> Vec<Test<Host>> {
    list_tests![c_zero_copy, c_seven_steps_high, rust_zero_copy]
}

fn c_zero_copy(host: &Host) -> Result<()> {
    run(&host.tree.join("build/bin/zero_copy"), &[])
}

fn c_seven_steps(host: &Host) -> Result<()> {
    run(&host.tree.join("build/bin/seven_steps"), &[])
}

fn c_seven_steps_high(host: &Host) -> Result<()> {
    run(&host.tree.join("build/bin/seven_steps"), &["0x100000000"])
}

fn rust_zero_copy(host: &Host) -> Result<()> {
    run(&host.tree.join("build/bin/zero_copy_rs"), &[])
}

fn c_kernel_client(host: &Host) -> Result<()> {
    kernel_client(host, "qat_client", b"memory of a kernel client\0")
}

fn rust_kernel_client(host: &Host) -> Result<()> {
    kernel_client(host, "qat_client_rust", b"memory of a Rust kernel client\0")
}

/// While the module is loaded the PF reads its text where it says, and afterwards nothing.
fn kernel_client(host: &Host, name: &'static str, text: &[u8]) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (client, log) = logged(|| Loaded::new(host, name, &[]))?;
    let iova = iova_in(&log).with_context(|| format!("{name} names no IOVA: {log}"))?;
    // The device moves whole words.
    let mut seen = [0; 64];
    bench.dev.read(iova, &mut seen)?;
    ensure!(
        seen.starts_with(text),
        "the PF read {:?} at {iova:#x}",
        String::from_utf8_lossy(&seen)
    );
    drop(client);
    let access = bench.dev.read(iova, &mut seen)?;
    ensure!(
        access == Access::Refused,
        "the PF still reads at {iova:#x}: {access:?}"
    );
    Ok(())
}

/// The device node for a group, until this goes.
struct ForGroup;

impl ForGroup {
    fn new(group: u32) -> Result<Self> {
        chown(NODE, None, Some(group))?;
        fs::set_permissions(NODE, Permissions::from_mode(0o660))?;
        Ok(Self)
    }
}

impl Drop for ForGroup {
    fn drop(&mut self) {
        // A later test finds the node as it was, or says that it does not.
        let _ = chown(NODE, None, Some(0));
        let _ = fs::set_permissions(NODE, Permissions::from_mode(0o600));
    }
}

/// What podman does for the example under examples/container, with the tools that are here: a
/// user in the node's group, a user namespace, nothing but the node in /dev, a memory lock limit.
fn rootless_container(host: &Host) -> Result<()> {
    const GROUP: u32 = 990;
    let _node = ForGroup::new(GROUP)?;
    let inside = format!(
        "mount -t tmpfs dev /mnt; touch /mnt/qat_iommu; mount --bind {NODE} /mnt/qat_iommu; \
         mount --rbind /mnt /dev; [ \"$(ls /dev)\" = qat_iommu ]; cd {}; \
         ./qat-iommu map --user 768K -- /usr/bin/true; \
         if ./qat-iommu map --user 2M -- /usr/bin/true 2>/dev/said; then echo no limit; \
         elif ! grep -q ENOMEM /dev/said; then cat /dev/said; else echo ok; fi",
        host.tree.join("build/bin").display()
    );
    let group = GROUP.to_string();
    let setup = ["--reuid=1000", "--regid=1000", "--groups", &group];
    let rights = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"];
    let space = [
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
        "--net",
        "--ipc",
    ];
    let output = Command::new("prlimit")
        .args(["--memlock=1048576:1048576", "setpriv"])
        .args(setup)
        .args(rights)
        .arg("unshare")
        .args(space)
        .args(["sh", "-ec", &inside])
        .output()?;
    ensure!(
        output.stdout.ends_with(b"ok\n"),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The number after "at IOVA 0x".
fn iova_in(log: &str) -> Option<u64> {
    let (_, rest) = log.rsplit_once("at IOVA 0x")?;
    u64::from_str_radix(rest.split_whitespace().next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_log_names_an_iova() {
        let log = "qat_client: the PFs reach 4096 bytes at IOVA 0x3ab3000\n";
        assert_eq!(super::iova_in(log), Some(0x3ab_3000));
        assert_eq!(super::iova_in("nothing"), None);
    }
}
