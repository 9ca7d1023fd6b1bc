// SPDX-License-Identifier: GPL-2.0
//! The tool starts at once: on the machine that builds it, where no emulation is counted in.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MOST: Duration = Duration::from_millis(50);
/// Of several starts the quickest counts: the others say how busy the machine is.
const STARTS: usize = 20;

fn quickest(arguments: &[&str]) -> Duration {
    let once = || {
        let start = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_qat-iommu"));
        command.args(arguments).stdin(Stdio::null());
        // What it finds on this machine does not matter.
        let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        ended.unwrap();
        start.elapsed()
    };
    (0..STARTS).map(|_| once()).min().unwrap_or_default()
}

#[test]
fn it_starts_in_less_than_50_ms() {
    for arguments in [
        &["--version"][..],
        &["--help"],
        &["doctor"],
        &["info"],
        &["list"],
        &["explain", "0x1000"],
        &["completions", "bash"],
    ] {
        let took = quickest(arguments);
        println!("qat-iommu {}: {took:?}", arguments.join(" "));
        assert!(took < MOST, "qat-iommu {arguments:?} took {took:?}");
    }
}
