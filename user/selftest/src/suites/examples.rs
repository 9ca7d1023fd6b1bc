// SPDX-License-Identifier: GPL-2.0
//! The example programs and kernel modules that are there to be copied, run as they are.

use anyhow::{ensure, Context as _, Result};

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
