// SPDX-License-Identifier: GPL-2.0
//! A process with many mappings: how long its end takes, what the kernel keeps for each, and what
//! a fork and an exec cost.

use anyhow::{ensure, Context as _, Result};
use std::fs;

use crate::clock::{median, timed, Mark};
use crate::growth::fill;
use crate::machine::Machine;
use crate::memory::{Backing, Memory, PAGE};
use crate::record::Records;
use crate::ways::Name;

/// Mappings of what is closed.
pub const CLOSED: usize = 50_000;
/// Mappings of what forks.
pub const FORKED: usize = 1_000;

/// Those whose mappings go with one value.
const CLOSABLE: [Name; 3] = [Name::Native, Name::Type1, Name::IommufdFixed];

pub fn close(machine: &Machine, ways: &[Name], records: &mut Records) -> Result<()> {
    let memory = Memory::new(CLOSED * PAGE, Backing::Scattered)?;
    for name in CLOSABLE.into_iter().filter(|name| ways.contains(name)) {
        let mut way = name.open(machine)?;
        // What is allocated once, at the first mapping, is not for each.
        fill(&mut *way, &memory, 0..1)?;
        let before = Kernel::now()?;
        fill(&mut *way, &memory, 1..CLOSED)?;
        let after = Kernel::now()?;
        let ((), time) = timed(Mark::Other, || drop(way));
        records.add("close", "close", name.text(), time);
        let mappings = CLOSED as u64 - 1;
        let bytes = after.slab.saturating_sub(before.slab) / mappings;
        records.add("memory", "bytes", name.text(), bytes);
        let tables = after.tables.saturating_sub(before.tables) / mappings;
        records.add("memory", "tables", name.text(), tables);
    }
    Ok(())
}

/// Bytes of memory that the kernel uses.
struct Kernel {
    /// In objects of the slab allocator. (What it keeps for later is not used: free memory would
    /// tell of that instead.)
    slab: u64,
    /// The IOMMU's page tables.
    tables: u64,
}

impl Kernel {
    fn now() -> Result<Self> {
        let caches = fs::read_to_string("/proc/slabinfo").context("no /proc/slabinfo")?;
        // name, active objects, objects, bytes of an object; after two lines of headers.
        let bytes = |line: &str| -> Option<u64> {
            let mut fields = line.split_whitespace().skip(1);
            let objects: u64 = fields.next()?.parse().ok()?;
            let size: u64 = fields.nth(1)?.parse().ok()?;
            Some(objects * size)
        };
        let memory = fs::read_to_string("/proc/meminfo")?;
        let tables = memory
            .lines()
            .find(|line| line.starts_with("SecPageTables:"));
        let tables = tables.and_then(|line| line.split_whitespace().nth(1));
        Ok(Self {
            slab: caches.lines().skip(2).filter_map(bytes).sum(),
            tables: tables.context("no SecPageTables")?.parse::<u64>()? * 1024,
        })
    }
}

/// With nothing mapped, and with much.
pub fn fork(machine: &Machine, ways: &[Name], rounds: usize, records: &mut Records) -> Result<()> {
    let memory = Memory::new(FORKED * PAGE, Backing::Scattered)?;
    forks("none", rounds, records)?;
    for name in CLOSABLE.into_iter().filter(|name| ways.contains(name)) {
        let mut way = name.open(machine)?;
        fill(&mut *way, &memory, 0..FORKED)?;
        forks(name.text(), rounds, records)?;
    }
    Ok(())
}

fn forks(way: &str, rounds: usize, records: &mut Records) -> Result<()> {
    let (mut forks, mut execs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (child, time) = timed(Mark::Map, || child(false));
        wait(child)?;
        forks.push(time);
        let (done, time) = timed(Mark::Unmap, || wait(child_of_exec()));
        done?;
        execs.push(time);
    }
    records.add("fork", "fork", way, median(forks));
    records.add("fork", "fork-exec-wait", way, median(execs));
    Ok(())
}

fn child_of_exec() -> libc::pid_t {
    child(true)
}

/// A child that ends at once, or executes a program that does.
fn child(exec: bool) -> libc::pid_t {
    // SAFETY: there is one thread, and the child does nothing but end or execute.
    unsafe {
        match libc::fork() {
            0 => {
                if exec {
                    let program = c"/bin/true".as_ptr();
                    libc::execv(program, [program, std::ptr::null()].as_ptr());
                }
                libc::_exit(i32::from(exec))
            }
            pid => pid,
        }
    }
}

fn wait(pid: libc::pid_t) -> Result<()> {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    let done = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    ensure!(
        done == pid && pid > 0 && status == 0,
        "a child failed: {status:#x}"
    );
    Ok(())
}
