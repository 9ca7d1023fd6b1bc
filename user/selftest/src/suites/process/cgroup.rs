// SPDX-License-Identifier: GPL-2.0
//! A memory cgroup that runs out of memory in the middle of a map: whoever dies of it
//! leaves nothing pinned, nothing mapped, and nothing charged to the cgroup. And that each
//! record of a mapping is charged to somebody, and that not many stay behind.

use anyhow::{ensure, Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::abi::Context;
use crate::dma::fresh_iova;
use crate::expect;
use crate::helper::user::{Confined, Task};
use crate::helper::Helper;
use crate::host::Host;
use crate::ktap::{list_tests, skip, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::suites::leaks::KMEMLEAK;
use crate::suites::user::Rig;

const TOP: &str = "/sys/fs/cgroup";
const MIB: u64 = 1 << 20;
const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        out_of_memory_for_pages,
        out_of_memory_for_records,
        tables_are_charged,
        every_record_is_charged,
        few_records_are_kept,
    ]
}

/// A cgroup with a limit of memory, removed when this goes.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str, bytes: u64) -> Result<Self> {
        let top = Path::new(TOP);
        if !top.join("cgroup.controllers").exists() {
            let mounted = Command::new("mount")
                .args(["-t", "cgroup2", "cgroup2", TOP])
                .status()?;
            ensure!(mounted.success(), "cannot mount cgroup2 at {TOP}");
        }
        if fs::write(top.join("cgroup.subtree_control"), "+memory").is_err() {
            return Err(skip("this kernel has no cgroups of memory"));
        }
        let cgroup = Self(top.join(name));
        fs::create_dir(&cgroup.0)?;
        fs::write(cgroup.0.join("memory.max"), bytes.to_string())?;
        Ok(cgroup)
    }

    /// Bytes that are charged to it.
    fn charged(&self) -> Result<u64> {
        let text = fs::read_to_string(self.0.join("memory.current"))?;
        Ok(text.trim().parse()?)
    }

    /// How many processes the kernel has killed in it.
    fn killed(&self) -> Result<u64> {
        let text = fs::read_to_string(self.0.join("memory.events"))?;
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .context("memory.events has no oom_kill")?;
        Ok(count.parse()?)
    }

    /// What was charged is given back, but for a little that the kernel keeps at hand.
    fn is_let_go(&self) -> Result<()> {
        let late = Instant::now() + Duration::from_secs(20);
        while self.charged()? > MIB && Instant::now() < late {
            std::thread::sleep(Duration::from_millis(50));
        }
        let left = self.charged()?;
        ensure!(left <= MIB, "{left} bytes are still charged to the cgroup");
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A test that failed may have left a process in it.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Maps until there is no memory left in the cgroup; what it charged by then must go again.
fn exhausted(host: &Host, cgroup: &Cgroup, what: Confined) -> Result<()> {
    let pins = ledger::pins()?;
    let task = Task::Confined {
        cgroup: cgroup.0.clone(),
        what,
    };
    let mut helper = Helper::doing(&task, None)?;
    expect::equal("what it says", helper.line()?.as_str(), "mapping")?;
    match helper.line() {
        // Refused instead of killed: it is still there, and has nothing that it was not given.
        Ok(refused) => {
            expect::equal("the refusal", refused.as_str(), "ENOMEM")?;
            helper.tell("end")?;
            helper.wait()?;
        }
        Err(_) => {
            expect::equal("the signal that ended it", helper.signal()?, Some(9))?;
            expect::holds("the cgroup killed it", cgroup.killed()? > 0)?;
        }
    }
    expect::equal("pins", ledger::pins()?, pins)?;
    cgroup.is_let_go()?;
    // The space is as good as before.
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(16 * PAGE)?;
    let iova = rig.map(&memory)?;
    rig.reaches(iova, &memory)?;
    rig.unmap(&memory)?;
    rig.refused(iova, &memory)
}

fn out_of_memory_for_pages(host: &Host) -> Result<()> {
    let cgroup = Cgroup::new("qat-pages", 32 * MIB)?;
    exhausted(host, &cgroup, Confined::Pages)
}

/// The kernel's own memory for mappings is charged to who maps: the cgroup bounds it.
fn out_of_memory_for_records(host: &Host) -> Result<()> {
    let cgroup = Cgroup::new("qat-records", 8 * MIB)?;
    exhausted(host, &cgroup, Confined::Records)
}

/// So are the IOMMU's tables, of which mappings that lie far apart need one each.
fn tables_are_charged(_: &Host) -> Result<()> {
    let cgroup = Cgroup::new("qat-tables", 64 * MIB)?;
    let task = Task::Confined {
        cgroup: cgroup.0.clone(),
        what: Confined::Tables,
    };
    let mut helper = Helper::doing(&task, None)?;
    expect::equal("what it says", helper.line()?.as_str(), "mapping")?;
    expect::equal("what it says", helper.line()?.as_str(), "mapped")?;
    let charged = cgroup.charged()?;
    // A thousand tables of a page are 4 MB; all else is less than 1.
    ensure!(
        charged >= 3 * MIB,
        "a thousand tables, and only {charged} bytes are charged"
    );
    // They stay until the space needs none any more.
    helper.tell("end")?;
    helper.wait()
}

/// Objects in those of the kernel's general caches whose names are `wanted`.
fn objects(wanted: impl Fn(&str) -> bool) -> Result<u64> {
    let text = fs::read_to_string("/proc/slabinfo").context("/proc/slabinfo")?;
    let mut all = 0;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        if name.starts_with("kmalloc-") && wanted(name) {
            all += words.next().context("a count")?.parse::<u64>()?;
        }
    }
    ensure!(all > 0, "/proc/slabinfo has no such caches");
    Ok(all)
}

/// Those that somebody is charged for come from caches of their own.
fn is_charged(name: &str) -> bool {
    name.starts_with("kmalloc-cg-")
}

/// Objects that nobody is charged for.
fn uncharged() -> Result<u64> {
    objects(|name| !is_charged(name))
}

/// However small: who has many mappings has as many of each.
fn every_record_is_charged(_: &Host) -> Result<()> {
    const COUNT: u64 = 4000;
    let context = Context::open()?;
    let (page, memory) = (Buffer::page()?, UserMemory::scattered(PAGE)?);
    let few = |what: &str, before: u64| -> Result<()> {
        let more = uncharged()?.saturating_sub(before);
        ensure!(
            more < COUNT / 2,
            "{COUNT} {what} have {more} objects that nobody is charged for"
        );
        Ok(())
    };
    let before = uncharged()?;
    // Every second page, so that none of them are neighbours.
    let base = fresh_iova(2 * COUNT as usize);
    for index in 0..COUNT {
        let answer = context.map(page.phys(), base + 2 * index * PAGE_U64, PAGE_U64);
        expect::succeeds("map", answer)?;
    }
    few("physical ranges", before)?;
    let before = uncharged()?;
    for _ in 0..COUNT {
        expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
    }
    few("buffers", before)
}

/// Of many buffers only some leave their records behind, however often that is done.
fn few_records_are_kept(_: &Host) -> Result<()> {
    if Path::new(KMEMLEAK).exists() {
        return Err(skip("a debug kernel keeps what was freed for a while"));
    }
    const COUNT: u64 = 20_000;
    let charged = || objects(is_charged);
    let memory = UserMemory::scattered(PAGE)?;
    let context = Context::open()?;
    let mapped = || -> Result<()> {
        for _ in 0..COUNT {
            expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
        }
        Ok(())
    };
    for round in 0..2 {
        let before = charged()?;
        mapped()?;
        let more = charged()?.saturating_sub(before);
        ensure!(
            more > COUNT / 2,
            "{more} records of {COUNT} buffers, in round {round}"
        );
        for _ in 0..COUNT {
            let answer = context.unmap_user(memory.va(), PAGE_U64);
            expect::succeeds("unmap", answer)?;
        }
        let kept = charged()?.saturating_sub(before);
        ensure!(
            kept < COUNT / 4,
            "{kept} records of {COUNT} are kept, in round {round}"
        );
    }
    Ok(())
}
