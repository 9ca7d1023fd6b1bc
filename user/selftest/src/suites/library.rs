// SPDX-License-Identifier: GPL-2.0
//! The classic calls from a C program through the library, on a host, in a
//! virtual machine, and without the module.

use anyhow::Result;

use crate::classic::Classic;
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::Buffer;
use crate::module::Absent;

const PAGE_U64: u64 = 4096;
const SUCCESS: &str = "0 -";

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        remap_size,
        one_to_one,
        at_another_address,
        refusals_say_why,
        exit_releases,
        a_child_has_a_context_of_its_own,
        without_the_module,
    ]
}

/// Of a virtual machine.
pub fn vm_tests() -> Vec<Test<Host>> {
    list_tests![vm_succeeds, vm_succeeds_without_the_module]
}

fn remap_size(host: &Host) -> Result<()> {
    let mut program = Classic::start(host)?;
    for (size, want) in [
        (0, 0),
        (1, PAGE_U64),
        (4095, PAGE_U64),
        (4096, PAGE_U64),
        (4097, 2 * PAGE_U64),
        (1u64 << 32, 1 << 32),
        ((1 << 43) + 1, (1 << 43) + PAGE_U64),
        (0xffff_ffff_ffff_f000, 0xffff_ffff_ffff_f000),
    ] {
        program.expect(&format!("size {size:#x}"), &want.to_string())?;
    }
    // Rounded up they would not fit.
    program.expect("size 0xffffffffffffffff", "0")?;
    program.expect("size 0xfffffffffffff001", "0")
}

fn one_to_one(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let mut program = Classic::start(host)?;
    let page = Buffer::page()?;
    let phys = page.phys();
    program.map(phys, phys, 100, SUCCESS)?;
    bench.reaches(phys, &page)?;
    program.unmap(phys, 100, SUCCESS)?;
    bench.refused(phys, &page)?;
    program.unmap(phys, 100, "-1 ENOENT")
}

fn at_another_address(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let mut program = Classic::start(host)?;
    let buffer = Buffer::pages(3)?;
    let iova = fresh_iova(3);
    program.map(buffer.phys(), iova, 2 * PAGE_U64 + 1, SUCCESS)?;
    bench.reaches(iova, &buffer)?;
    program.unmap(iova, 3 * PAGE_U64, SUCCESS)?;
    bench.refused(iova, &buffer)
}

fn refusals_say_why(host: &Host) -> Result<()> {
    let mut program = Classic::start(host)?;
    let page = Buffer::page()?;
    let (phys, iova) = (page.phys(), fresh_iova(1));
    program.map(phys, iova, 0, "-1 EINVAL")?;
    program.map(phys + 16, iova, 100, "-1 EINVAL")?;
    program.map(phys, iova + 16, 100, "-1 EINVAL")?;
    program.map(phys, iova, u64::MAX, "-1 EOVERFLOW")?;
    program.map(phys, 1 << 60, 100, "-1 ERANGE")?;
    program.map(phys, 0xfee0_0000, 100, "-1 EADDRNOTAVAIL")?;
    program.map(0xfee0_0000, iova, 100, "-1 EACCES")?;
    program.unmap(iova, 100, "-1 ENOENT")?;
    program.unmap(iova + 1, 100, "-1 EINVAL")?;
    program.unmap(iova, 0, "-1 EINVAL")?;
    program.map(phys, iova, 100, SUCCESS)?;
    program.map(phys, iova, 100, "-1 EEXIST")?;
    program.unmap(iova, PAGE_U64 + 1, "-1 ENOENT")?;
    let mut other = Classic::start(host)?;
    other.unmap(iova, 100, "-1 ENOENT")?;
    program.unmap(iova, 100, SUCCESS)
}

fn exit_releases(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    let mut program = Classic::start(host)?;
    program.map(page.phys(), iova, 100, SUCCESS)?;
    bench.reaches(iova, &page)?;
    program.end()?;
    bench.refused(iova, &page)
}

fn a_child_has_a_context_of_its_own(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (page, other) = (Buffer::page()?, Buffer::page()?);
    let (iova, other_iova) = (fresh_iova(1), fresh_iova(1));
    let mut program = Classic::start(host)?;
    program.map(page.phys(), iova, 100, SUCCESS)?;
    program.expect(&format!("child unmap {iova:#x} 100"), "-1 ENOENT")?;
    bench.reaches(iova, &page)?;
    // What the child maps goes with the child.
    program.expect(
        &format!("child map {:#x} {other_iova:#x} 100", other.phys()),
        SUCCESS,
    )?;
    bench.refused(other_iova, &other)?;
    bench.reaches(iova, &page)?;
    program.unmap(iova, 100, SUCCESS)
}

fn without_the_module(host: &Host) -> Result<()> {
    let absent = Absent::new(host)?;
    let mut program = Classic::start(host)?;
    let page = Buffer::page()?;
    program.map(page.phys(), page.phys(), 100, "-1 ENODEV")?;
    program.unmap(page.phys(), 100, "-1 ENODEV")?;
    drop(absent);
    // The first calls failed, so nothing was opened that could be stale.
    let mut program = Classic::start(host)?;
    let iova = fresh_iova(1);
    program.map(page.phys(), iova, 100, SUCCESS)?;
    program.unmap(iova, 100, SUCCESS)
}

fn succeeds_in_a_vm(host: &Host) -> Result<()> {
    let mut program = Classic::start(host)?;
    program.expect("size 4097", "8192")?;
    program.expect("size 0", "0")?;
    for _ in 0..2 {
        program.map(0x1000, 0x1000, 100, SUCCESS)?;
    }
    program.map(u64::MAX, 3, 1, SUCCESS)?;
    for _ in 0..3 {
        program.unmap(0x1000, 100, SUCCESS)?;
    }
    program.end()
}

fn vm_succeeds(host: &Host) -> Result<()> {
    succeeds_in_a_vm(host)
}

fn vm_succeeds_without_the_module(host: &Host) -> Result<()> {
    let _absent = Absent::new(host)?;
    expect::holds(
        "the node is gone",
        !std::path::Path::new(crate::abi::NODE).exists(),
    )?;
    succeeds_in_a_vm(host)
}
