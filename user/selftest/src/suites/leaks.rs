// SPDX-License-Identifier: GPL-2.0
//! Memory that the kernel has lost, as kmemleak finds it. Last in its machine, so that it
//! tells of everything that was done there.

use anyhow::{ensure, Context as _, Result};
use std::fs;
use std::time::Duration;

use crate::dma::fresh_iova;
use crate::host::Host;
use crate::ktap::{list_tests, skip, Test};
use crate::mem::Buffer;
use crate::module::{pfs_are_back, Absent, CommandFile, Loaded, KCLIENT};

/// There is one in debug kernels, whether it is on or not.
pub const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";

pub fn tests() -> Vec<Test<Host>> {
    list_tests![nothing_is_lost]
}

/// Looked for without the module: then nothing of its own can refer to what it has left behind.
fn nothing_is_lost(host: &Host) -> Result<()> {
    if fs::write(KMEMLEAK, "scan=off").is_err() {
        return Err(skip("kmemleak is off in this kernel"));
    }
    if host.translated() {
        a_client_comes_and_goes(host)?;
    }
    let absent = Absent::new(host)?;
    // Only what is older than five seconds is reported.
    std::thread::sleep(Duration::from_secs(6));
    // The first scan takes what it has not seen before for something that is still written to.
    for _ in 0..2 {
        fs::write(KMEMLEAK, "scan").context("kmemleak does not scan")?;
    }
    let found = fs::read_to_string(KMEMLEAK)?;
    drop(absent);
    pfs_are_back(host)?;
    ensure!(found.is_empty(), "kmemleak found:\n{found}");
    Ok(())
}

/// What its mapping lived in is kept for the next one, and goes with the module.
fn a_client_comes_and_goes(host: &Host) -> Result<()> {
    let (page, iova) = (Buffer::page()?, fresh_iova(1));
    let _client = Loaded::new(host, KCLIENT, &[])?;
    let calls = CommandFile::kclient();
    calls.expect(&format!("map {:#x} {iova:#x} 4096", page.phys()), "0")?;
    calls.expect(&format!("unmap {iova:#x} 4096"), "0")
}
