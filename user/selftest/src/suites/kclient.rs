// SPDX-License-Identifier: GPL-2.0
//! Kernel clients, in C and in Rust: the exported calls with real DMA, what they
//! may not do to user programs' mappings and the reverse, and what keeps the
//! module loaded.

use anyhow::{ensure, Context as _, Result};
use rustix::io::Errno;

use crate::abi::Context;
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::{fresh_bytes, Buffer};
use crate::module::{self, CommandFile, Loaded, KCLIENT, KCLIENT_RUST, QAT_IOMMU};

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        seven_steps,
        rust_client,
        sizes,
        slab_memory_with_dma,
        any_page_with_dma,
        refusals,
        user_and_kernel_are_strangers,
        many_threads,
        module_stays_while_a_file_is_open,
        module_stays_while_a_client_is_loaded,
        module_stays_while_a_mapping_is_left,
    ]
}

fn client(host: &Host) -> Result<(Loaded, CommandFile)> {
    Ok((Loaded::new(host, KCLIENT, &[])?, CommandFile::kclient()))
}

fn seven_steps(host: &Host) -> Result<()> {
    let (_client, commands) = client(host)?;
    commands.expect("demo", "ok")
}

fn rust_client(host: &Host) -> Result<()> {
    // It tries the calls when it is loaded, and refuses to load if one answers otherwise.
    Loaded::new(host, KCLIENT_RUST, &["expect=0"]).map(drop)?;
    let wrong = Loaded::new(host, KCLIENT_RUST, &["expect=1"]);
    expect::holds(
        "it does not take this host for a virtual machine",
        wrong.is_err(),
    )
}

fn sizes(host: &Host) -> Result<()> {
    let (_client, commands) = client(host)?;
    for (size, want) in [
        ("0", "0"),
        ("1", "4096"),
        ("4096", "4096"),
        ("4097", "8192"),
        ("0x80000000001", "8796093026304"),
        ("0xfffffffffffff001", "0"),
        ("0xffffffffffffffff", "0"),
    ] {
        commands.expect(&format!("size {size}"), want)?;
    }
    Ok(())
}

/// FNV-1a, as the client sums its memory.
fn sum(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn slab_memory_with_dma(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (_client, commands) = client(host)?;
    // kmalloc memory, which the module cannot hold a reference to.
    let answer = commands.run("alloc 8192")?;
    let (id, phys) = answer
        .split_once(' ')
        .context("alloc answers id and address")?;
    let iova = u64::from_str_radix(phys.trim_start_matches("0x"), 16)?;
    commands.expect(&format!("map {iova:#x} {iova:#x} 8192"), "0")?;
    commands.expect(&format!("fill {id} 0xa5"), "ok")?;
    let mut seen = vec![0; 4096];
    bench.dev.read(iova + PAGE_U64, &mut seen)?;
    ensure!(
        seen.iter().all(|byte| *byte == 0xa5),
        "the device reads other than the client wrote"
    );
    let data = fresh_bytes(4096);
    bench.dev.write(iova, &data)?;
    bench.dev.write(iova + PAGE_U64, &data)?;
    let mut whole = data.clone();
    whole.extend(&data);
    commands.expect(&format!("sum {id}"), &format!("{:#018x}", sum(&whole)))?;
    commands.expect(&format!("unmap {iova:#x} 8192"), "0")?;
    bench.refused(iova, &Buffer::page()?)?;
    commands.expect(&format!("sum {id}"), &format!("{:#018x}", sum(&whole)))?;
    commands.expect(&format!("free {id}"), "ok")
}

fn any_page_with_dma(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (_client, commands) = client(host)?;
    let buffer = Buffer::pages(3)?;
    let iova = fresh_iova(3);
    commands.expect(&format!("map {:#x} {iova:#x} 8193", buffer.phys()), "0")?;
    bench.reaches(iova, &buffer)?;
    commands.expect(&format!("unmap {iova:#x} 12288"), "0")?;
    bench.refused(iova, &buffer)
}

fn refusals(host: &Host) -> Result<()> {
    let (_client, commands) = client(host)?;
    let page = Buffer::page()?;
    let (phys, iova) = (page.phys(), fresh_iova(2));
    for request in [
        format!("map {phys:#x} {iova:#x} 0"),
        format!("map {:#x} {iova:#x} 4096", phys + 8),
        format!("map {phys:#x} {:#x} 4096", iova + 8),
        format!("map {phys:#x} 0xfee00000 4096"),
        format!("map {phys:#x} 0x1000000000000000 4096"),
        format!("map 0xfffffffffffff000 {iova:#x} 8192"),
        format!("map {phys:#x} {iova:#x} 0xffffffffffffffff"),
        format!("unmap {iova:#x} 4096"),
        format!("unmap {iova:#x} 0"),
    ] {
        commands.expect(&request, "-1")?;
    }
    commands.expect(&format!("map {phys:#x} {iova:#x} 4096"), "0")?;
    commands.expect(&format!("map {phys:#x} {iova:#x} 4096"), "-1")?;
    commands.expect(&format!("unmap {iova:#x} 8192"), "-1")?;
    commands.expect(&format!("unmap {iova:#x} 4096"), "0")?;
    commands.expect(&format!("unmap {iova:#x} 4096"), "-1")
}

fn user_and_kernel_are_strangers(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (_client, commands) = client(host)?;
    let (ours, theirs) = (Buffer::page()?, Buffer::page()?);
    let (our_iova, their_iova) = (fresh_iova(1), fresh_iova(1));
    bench.map(&ours, our_iova)?;
    commands.expect(
        &format!("map {:#x} {their_iova:#x} 4096", theirs.phys()),
        "0",
    )?;

    commands.expect(&format!("unmap {our_iova:#x} 4096"), "-1")?;
    commands.expect(
        &format!("map {:#x} {our_iova:#x} 4096", theirs.phys()),
        "-1",
    )?;
    bench.reaches(our_iova, &ours)?;
    let context = &bench.context;
    expect::fails(
        "unmap of the client's",
        context.unmap(their_iova, PAGE_U64),
        Errno::NOENT,
    )?;
    expect::fails(
        "map over the client's",
        context.map(ours.phys(), their_iova, PAGE_U64),
        Errno::EXIST,
    )?;
    bench.reaches(their_iova, &theirs)?;

    commands.expect(&format!("unmap {their_iova:#x} 4096"), "0")?;
    bench.unmap(&ours, our_iova)?;
    bench.refused(our_iova, &ours)?;
    bench.refused(their_iova, &theirs)
}

fn many_threads(host: &Host) -> Result<()> {
    let (_client, commands) = client(host)?;
    let answer = commands.run("stress 4 20")?;
    ensure!(
        answer.starts_with("failures 0 of 640 maps"),
        "stress: {answer}"
    );
    Ok(())
}

/// Removing the module under test is refused because it is in use.
fn cannot_be_removed() -> Result<()> {
    match module::unload(QAT_IOMMU) {
        Err(error) => expect::holds(
            &format!("rmmod says that it is in use: {error:#}"),
            error.to_string().contains("in use"),
        ),
        Ok(()) => anyhow::bail!("the module could be removed"),
    }
}

fn module_stays_while_a_file_is_open(_: &Host) -> Result<()> {
    let context = Context::open()?;
    cannot_be_removed()?;
    let duplicate = context.duplicate()?;
    drop(context);
    cannot_be_removed()?;
    drop(duplicate);
    Ok(())
}

fn module_stays_while_a_client_is_loaded(host: &Host) -> Result<()> {
    let (client, _) = client(host)?;
    cannot_be_removed()?;
    drop(client);
    Ok(())
}

fn module_stays_while_a_mapping_is_left(host: &Host) -> Result<()> {
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    let before = module::references(QAT_IOMMU)?;
    let (loaded, commands) = client(host)?;
    commands.expect(&format!("map {:#x} {iova:#x} 4096", page.phys()), "0")?;
    drop(loaded);
    ensure!(!module::is_loaded(KCLIENT), "the client is still loaded");
    cannot_be_removed()?;
    // It is still mapped; another client, being the kernel too, can undo it.
    let mut bench = Bench::new(host)?;
    bench.reaches(iova, &page)?;
    let (loaded, commands) = client(host)?;
    commands.expect(&format!("unmap {iova:#x} 4096"), "0")?;
    bench.refused(iova, &page)?;
    drop((loaded, bench));
    let after = module::references(QAT_IOMMU)?;
    expect::equal("references to the module", after, before)
}
