// SPDX-License-Identifier: GPL-2.0
//! The classic calls: a physical page at an IOVA that equals its address, by the library, by the
//! ioctl, by a kernel client, and by VFIO type1.

use anyhow::{ensure, Context as _, Result};
use qat_iommu::{Access, Context, Iova, Phys};
use std::fs;

use crate::clock::{timed, Mark};
use crate::machine::Machine;
use crate::memory::{frames, Backing, Memory, PAGE};
use crate::record::Records;
use crate::ways::{library, Name, Round};

/// The command file of the kernel client in tests/kclient.
pub const KERNEL_CLIENT: &str = "/sys/kernel/debug/qat_kclient/cmd";

pub const ROW: &str = "classic";

pub fn run(machine: &Machine, ways: &[Name], rounds: usize, records: &mut Records) -> Result<()> {
    let memory = Memory::new(PAGE, Backing::Scattered)?;
    let phys = frames(memory.span())?[0] * PAGE as u64;
    if ways.contains(&Name::Library) {
        let all = by_library(machine, phys, rounds)?;
        records.add_rounds(ROW, "library", &all, 1);
    }
    if ways.contains(&Name::Native) {
        let context = Context::open()?;
        let all = repeat(rounds, || by_ioctl(&context, phys))?;
        records.add_rounds(ROW, "native", &all, 1);
        if machine.has_kernel_client() {
            let all = repeat(rounds, || by_kernel_client(phys))?;
            records.add_rounds(ROW, "kernel", &all, 1);
        }
    }
    for name in [Name::Type1, Name::IommufdFixed, Name::Floor] {
        if ways.contains(&name) && name.available(machine) {
            let mut way = name.open(machine)?;
            let all = repeat(rounds, || way.round(memory.span(), phys))?;
            records.add_rounds(ROW, name.text(), &all, 1);
        }
    }
    Ok(())
}

/// The rounds after the first, which warms up.
pub fn repeat(rounds: usize, mut round: impl FnMut() -> Result<Round>) -> Result<Vec<Round>> {
    round()?;
    (0..rounds).map(|_| round()).collect()
}

fn by_library(machine: &Machine, phys: u64, rounds: usize) -> Result<Vec<Round>> {
    let object = library::open(&machine.libqat_iommu)?;
    // SAFETY: these are their prototypes.
    let (map, unmap) = unsafe {
        (
            *object.get::<library::IcpMap>(b"icp_sal_iommu_map\0")?,
            *object.get::<library::IcpUnmap>(b"icp_sal_iommu_unmap\0")?,
        )
    };
    repeat(rounds, || {
        // SAFETY: the page is nobody else's.
        let (done, map) = timed(Mark::Map, || unsafe { map(phys, phys, PAGE) });
        ensure!(
            done == 0,
            "icp_sal_iommu_map: {}",
            std::io::Error::last_os_error()
        );
        // SAFETY: it looks at no memory.
        let (done, unmap) = timed(Mark::Unmap, || unsafe { unmap(phys, PAGE) });
        ensure!(
            done == 0,
            "icp_sal_iommu_unmap: {}",
            std::io::Error::last_os_error()
        );
        Ok(Round { map, unmap })
    })
}

fn by_ioctl(context: &Context, phys: u64) -> Result<Round> {
    let (at, length) = (Iova::new(phys), PAGE as u64);
    let (done, map) = timed(Mark::Map, || {
        context.map_phys(Phys::new(phys), at, length, Access::ReadWrite)
    });
    done?;
    let (done, unmap) = timed(Mark::Unmap, || context.unmap(at, length));
    done?;
    Ok(Round { map, unmap })
}

/// It times itself.
fn by_kernel_client(phys: u64) -> Result<Round> {
    fs::write(KERNEL_CLIENT, format!("time {phys} {PAGE}"))?;
    let answer = fs::read_to_string(KERNEL_CLIENT)?;
    let mut numbers = answer.split_whitespace().map(str::parse);
    let mut next = || {
        numbers
            .next()
            .context("the kernel client gives two numbers")?
            .context("a number")
    };
    Ok(Round {
        map: next()?,
        unmap: next()?,
    })
}
