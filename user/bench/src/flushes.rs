// SPDX-License-Identifier: GPL-2.0
//! How many IOTLB invalidations a map and an unmap take: counted by QEMU as it executes them, not by
//! who asks for them. The machine marks where an operation begins and ends by reading bytes of a
//! device's configuration space, which QEMU's trace shows in between; on the build machine the
//! trace is taken apart again.

use anyhow::{ensure, Context as _, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::guest::{AT, CASES, MANY};
use crate::machine::Machine;
use crate::memory::{Backing, Memory, Span, PAGE};
use crate::record::Records;
use crate::ways::{Name, Way};

/// Offsets in configuration space where nothing is that anybody else would read.
const FIRST: u64 = 0xf8;
const BEGIN: u64 = 0xf9;
const END: u64 = 0xfa;

/// The device whose configuration space is read.
struct Marks(File);

impl Marks {
    fn new(address: &str) -> Result<Self> {
        let path = format!("/sys/bus/pci/devices/{address}/config");
        Ok(Self(File::open(&path).context(path)?))
    }

    fn pass(&self, mark: u64) -> Result<()> {
        Ok(self.0.read_exact_at(&mut [0], mark)?)
    }

    fn around<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.pass(BEGIN)?;
        let result = work();
        self.pass(END)?;
        result
    }
}

/// One map and one unmap of each; the values are for the build machine to fill in, in this order.
pub fn run(machine: &Machine, ways: &[Name], records: &mut Records) -> Result<()> {
    ensure!(
        !machine.counter.is_empty(),
        "the row flushes needs --counter"
    );
    let marks = Marks::new(&machine.counter)?;
    marks.pass(FIRST)?;
    for case in CASES.iter().filter(|case| case.length <= 64 << 20) {
        let memory = Memory::new(case.length, case.backing)?;
        for name in ways {
            if !matches!(name, Name::Batch | Name::Floor) {
                let mut way = name.open(machine)?;
                one(&marks, &mut *way, &[memory.span()])?;
                said(records, case.row, *name);
            }
        }
    }
    let memory = Memory::new(2 * MANY * PAGE, Backing::Scattered)?;
    let buffers: Vec<Span> = (0..MANY).map(|index| memory.page(2 * index)).collect();
    for name in ways {
        if *name != Name::Floor {
            let mut way = name.open(machine)?;
            one(&marks, &mut *way, &buffers)?;
            said(records, "many", *name);
        }
    }
    Ok(())
}

/// The second round counts: in the first, tables are made.
fn one(marks: &Marks, way: &mut dyn Way, buffers: &[Span]) -> Result<()> {
    let iovas = way.map_all(buffers, AT)?;
    way.unmap_all(buffers, &iovas)?;
    let iovas = marks.around(|| way.map_all(buffers, AT))?;
    marks.around(|| way.unmap_all(buffers, &iovas))
}

fn said(records: &mut Records, row: &str, name: Name) {
    for op in ["flushes of map", "flushes of unmap"] {
        records.add(row, op, name.text(), 0);
    }
}

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What the machine said, in the order of its marks
    records: PathBuf,
    /// QEMU's trace
    trace: PathBuf,
}

/// Writes the records with what the trace says.
pub fn tell(arguments: &Arguments) -> Result<()> {
    let mut records = Records::read(&std::fs::read_to_string(&arguments.records)?);
    let trace = std::fs::read(&arguments.trace)?;
    let counts = counts(&String::from_utf8_lossy(&trace));
    let wanted = records.0.len();
    ensure!(
        counts.len() == wanted,
        "the trace has {} operations, not {wanted}",
        counts.len()
    );
    for (record, count) in records.0.iter_mut().zip(counts) {
        record.value = count;
    }
    records.write(std::io::stdout().lock())
}

/// Invalidations between each pair of marks.
fn counts(trace: &str) -> Vec<u64> {
    let mut counts = Vec::new();
    let mut now = None;
    let is = |line: &str, mark: u64| {
        line.starts_with("pci_cfg_read edu ") && line.contains(&format!("@{mark:#x} "))
    };
    let lines = trace.lines().skip_while(|line| !is(line, FIRST));
    for line in lines {
        if is(line, BEGIN) {
            now = Some(0);
        } else if is(line, END) {
            counts.extend(now.take());
        } else if line.starts_with("vtd_inv_desc_iotlb") {
            now = now.map(|count| count + 1);
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalidations_between_marks() {
        let trace = "vtd_inv_desc_iotlb_domain x\n\
            pci_cfg_read edu 01:00.0 @0xf9 -> 0x0\n\
            vtd_inv_desc_iotlb_pages before the first mark\n\
            pci_cfg_read edu 01:00.0 @0xf8 -> 0x0\n\
            vtd_inv_desc_iotlb_pages of nobody\n\
            pci_cfg_read edu 01:00.0 @0xf9 -> 0x0\n\
            pci_cfg_read edu 01:00.0 @0xfa -> 0x0\n\
            pci_cfg_read edu 01:00.0 @0xf9 -> 0x0\n\
            vtd_inv_desc_iotlb_pages domain 1\n\
            vtd_inv_desc_iotlb_domain domain 1\n\
            vtd_inv_desc_wait_sw\n\
            pci_cfg_read edu 01:00.0 @0xfa -> 0x0\n";
        assert_eq!(counts(trace), [0, 2]);
    }
}
