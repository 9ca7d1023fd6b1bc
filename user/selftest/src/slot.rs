// SPDX-License-Identifier: GPL-2.0
//! The slots of the machine: a hand outside of it pulls PFs out and puts them in again,
//! when `vm-hotplug`, a command in the test machine, asks it to.

use anyhow::{ensure, Context as _, Result};
use std::process::Command;

use crate::host::Bdf;
use crate::ktap::skip;
use crate::pci::wait_until;
use crate::spawn;

const PROGRAM: &str = "vm-hotplug";

/// How a PF leaves its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// The attention button is pressed, and the kernel switches the slot off.
    Orderly,
    /// It is gone.
    Surprise,
}

/// Whether PFs can be pulled: the kernel lists the slots that can be opened.
pub fn there() -> bool {
    let slots = std::fs::read_dir("/sys/bus/pci/slots");
    slots.is_ok_and(|mut slots| slots.next().is_some())
}

/// Fails as a skip where they cannot.
pub fn needed() -> Result<()> {
    if there() {
        Ok(())
    } else {
        Err(skip("nobody pulls PFs out of this machine"))
    }
}

fn ask(word: &str, slot: usize) -> Result<()> {
    let output = spawn::output(Command::new(PROGRAM).args([word, &slot.to_string()]))
        .with_context(|| format!("cannot run {PROGRAM}"))?;
    ensure!(
        output.status.success(),
        "{PROGRAM} {word} {slot}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Pulls the PF with this number out of its slot, and waits until the kernel has noticed.
pub fn pull(slot: usize, pf: &Bdf, how: Pull) -> Result<()> {
    ask(
        match how {
            Pull::Orderly => "unplug",
            Pull::Surprise => "surprise",
        },
        slot,
    )?;
    wait_until(&format!("{} is gone", pf.0), || Ok(!pf.exists()))
}

/// Puts it in again, and waits until the kernel has found it.
pub fn put(slot: usize, pf: &Bdf) -> Result<()> {
    ask("plug", slot)?;
    pf.appears()
}
