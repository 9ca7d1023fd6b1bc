// SPDX-License-Identifier: GPL-2.0
//! The module loaded and removed many times: nothing accumulates, PFs find their way
//! back, and nobody gets hold of it half gone.
//!
//! `QAT_IOMMU_LOADS` says how often (100).

use anyhow::{ensure, Context as _, Result};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::abi::Context;
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::Buffer;
use crate::module::{self, Absent, QAT_IOMMU};
use crate::suites::leaks::KMEMLEAK;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![loaded_a_hundred_times, removed_while_others_open_it]
}

/// Pages that the kernel keeps for good: its slabs and what it has mapped for modules. In a debug kernel
/// without the slabs, for KASAN keeps what was freed there; what is lost the suite `leaks` tells.
fn kernel_pages() -> Result<i64> {
    let text = fs::read_to_string("/proc/vmstat")?;
    let count = |name: &str| -> Result<i64> {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .with_context(|| format!("/proc/vmstat has no {name}"))?
            .parse()
            .context("a number")
    };
    let areas = fs::read_to_string("/proc/vmallocinfo")?;
    let areas = i64::try_from(areas.lines().count())?;
    if Path::new(KMEMLEAK).exists() {
        return Ok(areas);
    }
    Ok(count("nr_slab_unreclaimable")? + areas)
}

fn works(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    bench.map(&page, iova)?;
    bench.reaches(iova, &page)?;
    bench.unmap(&page, iova)?;
    bench.refused(iova, &page)
}

/// How often the module is loaded.
fn loads() -> Result<usize> {
    match std::env::var("QAT_IOMMU_LOADS") {
        Ok(text) => text.parse().context("QAT_IOMMU_LOADS"),
        Err(_) => Ok(100),
    }
}

fn loaded_a_hundred_times(host: &Host) -> Result<()> {
    /// What the kernel fills up at first use, and counts only now and then.
    const NOISE: i64 = 60;
    let loads = loads()?;
    let mut before = 0;
    let absent = Absent::new(host)?;
    for load in 0..loads {
        let loaded = || -> Result<()> {
            absent.try_load(&[])?;
            module::pfs_are_back(host)?;
            if load % 10 == 0 {
                works(host)?;
            }
            module::unload(QAT_IOMMU)
        };
        loaded().with_context(|| format!("load {load}"))?;
        if load == loads / 10 {
            before = kernel_pages()?;
        }
    }
    let grown = kernel_pages()? - before;
    ensure!(
        grown < NOISE,
        "the kernel keeps {grown} pages and areas more than {} loads before",
        loads * 9 / 10
    );
    drop(absent);
    module::pfs_are_back(host)?;
    works(host)
}

/// Opening it while it goes either works, and keeps it, or finds nothing.
fn removed_while_others_open_it(host: &Host) -> Result<()> {
    let removals = loads()? / 5;
    let (ending, opened) = (AtomicBool::new(false), AtomicU32::new(0));
    let removed = std::thread::scope(|scope| -> Result<usize> {
        for _ in 0..2 {
            scope.spawn(|| {
                while !ending.load(Ordering::Relaxed) {
                    if let Ok(context) = Context::try_open() {
                        opened.fetch_add(1, Ordering::Relaxed);
                        // Whatever it says, the module must be there to say it.
                        let _ = context.info();
                        let _ = context.attach_default();
                    }
                    std::thread::yield_now();
                }
            });
        }
        let mut removed = 0;
        let outcome = (|| -> Result<()> {
            let parameters = module::parameters_now()?;
            for _ in 0..10 * removals {
                if module::unload(QAT_IOMMU).is_ok() {
                    removed += 1;
                    module::load(host, QAT_IOMMU, &parameters)?;
                }
                if removed >= removals {
                    break;
                }
            }
            Ok(())
        })();
        ending.store(true, Ordering::Relaxed);
        outcome.map(|()| removed)
    })?;
    expect::holds("it could be removed now and then", removed > 0)?;
    expect::holds("it could be opened", opened.load(Ordering::Relaxed) > 0)?;
    // Its PFs come back by themselves.
    module::pfs_are_back(host)?;
    works(host)
}
