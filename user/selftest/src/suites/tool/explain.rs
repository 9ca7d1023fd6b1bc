// SPDX-License-Identifier: GPL-2.0
//! `explain` on faults that a device really makes: the kernel's line is given to it, and what it
//! says is compared with what was done.

use anyhow::{bail, ensure, Context as _, Result};
use serde_json::{json, Value};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::setting::{with_hostdrv, with_leftover, Client};
use crate::abi::{Context, BOTH, READ, WRITE};
use crate::dma::pf::Engine;
use crate::dma::{self, fresh_iova, Bench, Dma};
use crate::expect;
use crate::helper::Helper;
use crate::host::{self, Bdf, Device, Host, Iommu, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::tool;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        used_after_unmap,
        unmapped_and_mapped_again,
        one_page_past_the_end,
        before_the_start,
        written_though_read_only,
        said_to_people,
        never_mapped,
        mapped_too_late,
        in_another_pfs_space,
        physical_address_of_a_mapping,
        physical_address_of_nothing,
        address_of_the_program,
        address_zero,
        released_by_exit,
        kernel_client_s_mapping,
        forced_out,
        beyond_the_last_iova,
        pf_without_a_driver,
        released_by_unbind,
        bare_addresses,
        a_whole_kernel_log,
    ]
}

/// In short, with QEMU's own device.
pub fn edu_tests() -> Vec<Test<Host>> {
    list_tests![
        used_after_unmap,
        one_page_past_the_end,
        written_though_read_only,
        read_though_write_only,
        never_mapped,
        released_by_exit,
    ]
}

/// Where the IOMMU tells no address.
pub fn amd_tests() -> Vec<Test<Host>> {
    list_tests![what_amd_does_not_tell]
}

/// Those that another IOMMU's lines are enough for.
pub fn virtio_tests() -> Vec<Test<Host>> {
    list_tests![
        used_after_unmap,
        one_page_past_the_end,
        before_the_start,
        written_though_read_only,
        never_mapped,
        physical_address_of_nothing,
        released_by_exit,
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Access {
    Read,
    Write,
}

/// The line that the kernel logs for an access that is refused. The kernel and QEMU drop lines
/// when there are many, so it is tried again until there is one.
fn line_of(iova: u64, access: Access, mut refused: impl FnMut() -> Result<()>) -> Result<String> {
    let page = format!("{:#x} ", iova & !(PAGE_U64 - 1));
    let about = |line: &&str| {
        let is_fault = line.contains("Request device [")
            || line.contains("fault from EP")
            || line.contains("IO_PAGE_FAULT");
        is_fault && (line.contains(&page) || line.contains("IO_PAGE_FAULT"))
    };
    let late = Instant::now() + Duration::from_secs(60);
    loop {
        let ((), log) = host::logged(|| {
            refused()?;
            std::thread::sleep(Duration::from_millis(300));
            Ok(())
        })?;
        if let Some(line) = log.lines().find(about) {
            return Ok(line.to_owned());
        }
        ensure!(
            Instant::now() < late,
            "the kernel logged no fault for {access:?} at {iova:#x}: {log}"
        );
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Has the device access what it may not; the kernel's line.
fn fault(dev: &mut dyn Dma, iova: u64, access: Access) -> Result<String> {
    line_of(iova, access, || {
        let done = match access {
            Access::Read => dev.read(iova, &mut [0; 16])?,
            Access::Write => dev.write(iova, &[0x77; 16])?,
        };
        ensure!(
            done != dma::Access::Done,
            "the access at {iova:#x} was not refused"
        );
        Ok(())
    })
}

/// What `explain` says of one line.
fn explain(line: &str) -> Result<Value> {
    let answer = tool::json(&["explain", line])?;
    let list = answer.as_array().context("a list")?;
    ensure!(list.len() == 1, "{line}: {} explanations", list.len());
    Ok(list[0].clone())
}

/// The line is explained by this cause, for this PF and access.
fn is(line: &str, pf: &Bdf, access: Access, cause: &str) -> Result<Value> {
    let told = explain(line)?;
    ensure!(
        told["cause"] == cause,
        "{line}: should be {cause}, is {told}"
    );
    expect::equal("PF", &told["pf"], &json!(pf.0))?;
    let access = match access {
        // Where nothing is mapped virtio-iommu does not tell.
        _ if line.ends_with("[]") => Value::Null,
        Access::Read => json!("read"),
        Access::Write => json!("write"),
    };
    expect::equal("access", &told["access"], &access)?;
    Ok(told)
}

/// It names this program as the maker of a mapping that begins here.
fn names_me(mapping: &Value, first: u64) -> Result<()> {
    expect::equal("first", &mapping["first"], &json!(first))?;
    expect::equal("pid", &mapping["pid"], &json!(std::process::id()))?;
    ensure!(mapping["comm"]
        .as_str()
        .is_some_and(|name| name.starts_with("qat-iommu-self")));
    Ok(())
}

/// A page that the PF reaches, and where.
fn mapped(host: &Host) -> Result<(Bench, Buffer, u64)> {
    mapped_for(host, BOTH)
}

/// The same, for some accesses only.
fn mapped_for(host: &Host, access: u32) -> Result<(Bench, Buffer, u64)> {
    let (bench, page, at) = (Bench::new(host)?, Buffer::page()?, fresh_iova(1));
    let done = bench.context.map_with(page.phys(), at, PAGE_U64, access);
    expect::succeeds("map", done)?;
    Ok((bench, page, at))
}

fn used_after_unmap(host: &Host) -> Result<()> {
    let (mut bench, page, at) = mapped(host)?;
    bench.reaches(at, &page)?;
    bench.unmap(&page, at)?;
    for access in [Access::Read, Access::Write] {
        let line = fault(bench.dev.as_mut(), at, access)?;
        let told = is(&line, &host.pf()?, access, "used-after-unmap")?;
        names_me(&told["gone"], at)?;
        expect::equal("why", &told["gone"]["why"], &json!("unmap"))?;
        ensure!(told["mapping"].is_null());
    }
    Ok(())
}

fn unmapped_and_mapped_again(host: &Host) -> Result<()> {
    let (mut bench, page, at) = mapped(host)?;
    bench.unmap(&page, at)?;
    let line = fault(bench.dev.as_mut(), at, Access::Read)?;
    bench.map(&page, at)?;
    let told = is(&line, &host.pf()?, Access::Read, "used-after-unmap")?;
    names_me(&told["mapping"], at)?;
    names_me(&told["gone"], at)?;
    bench.unmap(&page, at)?;
    // What was unmapped after the fault does not explain it; the time of the first one does.
    let told = is(&line, &host.pf()?, Access::Read, "used-after-unmap")?;
    let (when, fault) = (told["gone"]["when"].as_u64(), told["when"].as_u64());
    ensure!(when < fault, "unmapped at {when:?}, fault at {fault:?}");
    Ok(())
}

fn one_page_past_the_end(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let pages = Buffer::pages(3)?;
    let at = fresh_iova(3);
    bench.map(&pages, at)?;
    for access in [Access::Read, Access::Write] {
        let line = fault(bench.dev.as_mut(), at + 3 * PAGE_U64, access)?;
        let told = is(&line, &host.pf()?, access, "past-end")?;
        names_me(&told["mapping"], at)?;
        expect::equal("distance", &told["distance"], &json!(0))?;
    }
    bench.unmap(&pages, at)
}

fn before_the_start(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let at = fresh_iova(2) + PAGE_U64;
    bench.map(&page, at)?;
    let line = fault(bench.dev.as_mut(), at - PAGE_U64, Access::Write)?;
    let told = is(&line, &host.pf()?, Access::Write, "before-start")?;
    names_me(&told["mapping"], at)?;
    expect::equal("distance", &told["distance"], &json!(PAGE_U64))?;
    bench.unmap(&page, at)
}

fn written_though_read_only(host: &Host) -> Result<()> {
    let (mut bench, page, at) = mapped_for(host, READ)?;
    let line = fault(bench.dev.as_mut(), at, Access::Write)?;
    let told = is(&line, &host.pf()?, Access::Write, "write-to-read-only")?;
    names_me(&told["mapping"], at)?;
    bench.unmap(&page, at)?;
    // It was there at the time, and still is the reason.
    let told = is(&line, &host.pf()?, Access::Write, "write-to-read-only")?;
    names_me(&told["gone"], at)
}

/// QEMU hands an emulated PF no page that it may write and not read; edu is held to it.
fn read_though_write_only(host: &Host) -> Result<()> {
    let (mut bench, page, at) = mapped_for(host, WRITE)?;
    let line = fault(bench.dev.as_mut(), at, Access::Read)?;
    let told = is(&line, &host.pf()?, Access::Read, "read-of-write-only")?;
    names_me(&told["mapping"], at)?;
    bench.unmap(&page, at)
}

/// What is found is said: who, where, when, and what to do.
fn said_to_people(host: &Host) -> Result<()> {
    let (mut bench, page, at) = mapped(host)?;
    bench.unmap(&page, at)?;
    let line = fault(bench.dev.as_mut(), at, Access::Read)?;
    let told = is(&line, &host.pf()?, Access::Read, "used-after-unmap")?;
    let (fault, gone) = (
        told["when"].as_u64().context("when")?,
        told["gone"]["when"].as_u64().context("when it went")?,
    );
    let ago = fault.checked_sub(gone).context("before the fault")?;
    let people = tool::output(&mut tool::tool(&["explain", &line]))?;
    let text = String::from_utf8(people.stdout)?;
    for part in [
        "Used after unmap: ".to_owned(),
        format!("{} (QAT 4xxx) read {at:#x}, in {at:#x}-", host.pf()?.0),
        format!("(4K, rw, physical {:#x}) of qat-iommu-self", page.phys()),
        format!("(pid {})", std::process::id()),
        format!(
            "which was unmapped {}.{:06} s before",
            ago / 1_000_000_000,
            ago / 1000 % 1_000_000
        ),
        "before unmapping".into(),
    ] {
        ensure!(text.contains(&part), "{part:?} is not said: {text}");
    }
    Ok(())
}

fn never_mapped(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let at = fresh_iova(1);
    let line = fault(bench.dev.as_mut(), at, Access::Read)?;
    let told = is(&line, &host.pf()?, Access::Read, "never-mapped")?;
    ensure!(
        told["mapping"].is_null() && told["gone"].is_null(),
        "{told}"
    );
    Ok(())
}

fn mapped_too_late(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let at = fresh_iova(1);
    let line = fault(bench.dev.as_mut(), at, Access::Write)?;
    bench.map(&page, at)?;
    let told = is(&line, &host.pf()?, Access::Write, "mapped-now")?;
    names_me(&told["mapping"], at)?;
    bench.unmap(&page, at)
}

/// The second PF with its own driver while something is done.
fn with_shared_pf(host: &Host, act: impl FnOnce(&Bdf) -> Result<()>) -> Result<()> {
    let pfs = host.all_pfs()?;
    let other = pfs.get(1).context("this test wants two PFs")?;
    with_hostdrv(host, other, || act(other))
}

/// A context that maps for one PF.
fn attached(pf: &Bdf) -> Result<Context> {
    let context = Context::open()?;
    pf.attach(&context)?;
    Ok(context)
}

fn in_another_pfs_space(host: &Host) -> Result<()> {
    with_shared_pf(host, |other| {
        let mut bench = Bench::new(host)?;
        let memory = UserMemory::scattered(PAGE)?;
        let context = attached(other)?;
        let iova = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
        let line = fault(bench.dev.as_mut(), iova, Access::Read)?;
        let told = is(&line, &host.pf()?, Access::Read, "another-pf")?;
        names_me(&told["mapping"], iova)?;
        expect::equal("others", &told["others"], &json!([other.0]))?;
        expect::succeeds("unmap", context.unmap(iova, PAGE_U64))
    })
}

fn physical_address_of_a_mapping(host: &Host) -> Result<()> {
    let (mut bench, page, at) = mapped(host)?;
    let line = fault(bench.dev.as_mut(), page.phys(), Access::Read)?;
    let told = is(&line, &host.pf()?, Access::Read, "physical-address")?;
    names_me(&told["mapping"], at)?;
    expect::equal("right", &told["right"], &json!(at))?;
    bench.unmap(&page, at)
}

fn physical_address_of_nothing(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let line = fault(bench.dev.as_mut(), page.phys(), Access::Write)?;
    let told = is(&line, &host.pf()?, Access::Write, "physical-address")?;
    ensure!(
        told["mapping"].is_null() && told["right"].is_null(),
        "{told}"
    );
    Ok(())
}

fn address_of_the_program(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let iova = expect::succeeds("map", bench.context.map_user(memory.va(), memory.length()))?;
    let line = fault(bench.dev.as_mut(), memory.va() + PAGE_U64, Access::Read)?;
    let told = is(&line, &host.pf()?, Access::Read, "program-address")?;
    names_me(&told["mapping"], iova)?;
    expect::equal("right", &told["right"], &json!(iova + PAGE_U64))?;
    expect::succeeds("unmap", bench.context.unmap(iova, memory.length()))
}

fn address_zero(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let line = fault(bench.dev.as_mut(), 0, Access::Write)?;
    is(&line, &host.pf()?, Access::Write, "null").map(drop)
}

fn released_by_exit(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let at = fresh_iova(crate::helper::HELD);
    let helper = Helper::holding(at)?;
    helper.kill()?;
    let line = fault(bench.dev.as_mut(), at, Access::Read)?;
    let told = is(&line, &host.pf()?, Access::Read, "released-by-close")?;
    expect::equal("first", &told["gone"]["first"], &json!(at))?;
    ensure!(
        told["gone"]["pid"] != json!(std::process::id()),
        "that is not who mapped it"
    );
    Ok(())
}

fn kernel_client_s_mapping(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let client = Client::with_a_page(host)?;
    let phys = client.phys;
    client
        .commands
        .expect(&format!("unmap {phys:#x} 4096"), "0")?;
    let line = fault(bench.dev.as_mut(), phys, Access::Read)?;
    let told = is(&line, &host.pf()?, Access::Read, "used-after-unmap")?;
    let caller = told["gone"]["caller"].as_str().unwrap_or_default();
    ensure!(caller.contains("[qat_kclient]"), "the maker is {caller:?}");
    drop(client);
    Ok(())
}

fn forced_out(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let mut at = 0;
    with_leftover(host, |iova| {
        at = iova;
        tool::json(&["unmap", "--force", &format!("{iova:#x}"), "4K"]).map(drop)
    })?;
    let line = fault(bench.dev.as_mut(), at, Access::Write)?;
    let told = is(&line, &host.pf()?, Access::Write, "released-by-force")?;
    expect::equal("first", &told["gone"]["first"], &json!(at))
}

fn beyond_the_last_iova(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let last = bench.context.info()?.fixed.aperture_last;
    let line = fault(bench.dev.as_mut(), last + 1 + PAGE_U64, Access::Read)?;
    let told = is(&line, &host.pf()?, Access::Read, "beyond-aperture")?;
    expect::equal("last", &told["last"], &json!(last))
}

/// Lets a PF that no driver holds make accesses: what its driver would do last.
fn enable(pf: &Bdf) -> Result<()> {
    let output = tool::output(Command::new("setpci").args(["-s", &pf.0, "COMMAND=0006:0006"]))?;
    ensure!(
        output.status.success(),
        "setpci: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// An access of the emulated PF without a page of its own.
fn bare_fault(pf: &Bdf, iova: u64) -> Result<String> {
    let engine = Engine::open(pf)?;
    line_of(iova, Access::Read, || {
        let done = engine.copy(iova, iova, 16)?;
        ensure!(
            done != dma::pf::Verdict::Done,
            "the access at {iova:#x} was not refused"
        );
        Ok(())
    })
}

fn pf_without_a_driver(host: &Host) -> Result<()> {
    ensure!(host.device == Device::Pf, "of the emulated PF");
    let pf = host.pf()?;
    let at = fresh_iova(1);
    pf.unbind()?;
    let result = enable(&pf)
        .and_then(|()| bare_fault(&pf, at))
        .and_then(|line| {
            let told = is(&line, &pf, Access::Read, "not-bound")?;
            expect::equal("driver", &told["driver"], &Value::Null)
        });
    pf.bind(OWN_DRIVER)?;
    result
}

fn released_by_unbind(host: &Host) -> Result<()> {
    with_shared_pf(host, |other| {
        let memory = UserMemory::scattered(PAGE)?;
        let context = attached(other)?;
        let iova = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
        other.unbind()?;
        enable(other)?;
        let line = bare_fault(other, iova)?;
        let told = is(&line, other, Access::Read, "released-by-unbind")?;
        names_me(&told["gone"], iova)
    })
}

fn bare_addresses(host: &Host) -> Result<()> {
    let (bench, page, at) = mapped(host)?;
    let cause = |address: u64| -> Result<Value> { explain(&format!("{address:#x}")) };
    let told = cause(at)?;
    expect::equal("cause", &told["cause"], &json!("mapped-now"))?;
    names_me(&told["mapping"], at)?;
    expect::equal(
        "beside it",
        &cause(at + PAGE_U64)?["cause"],
        &json!("past-end"),
    )?;
    expect::equal("MSI", &cause(0xfee0_0000)?["cause"], &json!("reserved"))?;
    bench.unmap(&page, at)?;
    let told = cause(at)?;
    expect::equal("cause", &told["cause"], &json!("used-after-unmap"))?;
    names_me(&told["gone"], at)?;
    expect::equal(
        "elsewhere",
        &cause(fresh_iova(1))?["cause"],
        &json!("never-mapped"),
    )?;
    tool::refuses(
        &["explain", "what", "is", "this"],
        "neither an address nor a fault line",
    )
}

/// The log as `dmesg` prints it, on standard input.
fn explain_log(log: &str) -> Result<Value> {
    let mut command = tool::tool(&["explain", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    child
        .stdin
        .take()
        .context("a pipe")?
        .write_all(log.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn a_whole_kernel_log(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let (first, second) = (fresh_iova(1), fresh_iova(1));
    fault(bench.dev.as_mut(), first, Access::Read)?;
    let line = fault(bench.dev.as_mut(), second, Access::Write)?;
    let log =
        fs::read_to_string("/proc/sys/kernel/osrelease")? + &host::kernel_log()? + &line + "\n";
    let told = explain_log(&log)?;
    let list = told.as_array().context("a list")?;
    for (at, access) in [(first, "read"), (second, "write")] {
        let same: Vec<&Value> = list
            .iter()
            .filter(|one| one["address"] == json!(at))
            .collect();
        expect::equal("explanations of one fault", same.len(), 1)?;
        expect::equal("access", &same[0]["access"], &json!(access))?;
        if at == second {
            ensure!(same[0]["times"].as_u64() >= Some(2), "{}", same[0]);
        }
    }
    let none = explain_log("nothing of the kind\n")?;
    ensure!(
        none["error"]
            .as_str()
            .is_some_and(|text| text.contains("no DMA fault")),
        "{none}"
    );
    Ok(())
}

fn what_amd_does_not_tell(host: &Host) -> Result<()> {
    if host.iommu != Iommu::Amd {
        bail!("of the AMD IOMMU");
    }
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    // Of two that went, the later is told first.
    let (before, at) = (fresh_iova(1), fresh_iova(1));
    for iova in [before, at] {
        bench.map(&page, iova)?;
        bench.unmap(&page, iova)?;
    }
    let line = fault(bench.dev.as_mut(), at, Access::Read)?;
    let told = explain(&line)?;
    expect::equal("cause", &told["cause"], &json!("no-address"))?;
    // Not even the device.
    expect::equal("PF", &told["pf"], &Value::Null)?;
    expect::equal("PFs", &told["others"], &json!([host.pf()?.0]))?;
    ensure!(
        told["address"].is_null() && told["access"].is_null(),
        "{told}"
    );
    // It says so, and what went last.
    names_me(&told["recent"][0], at)?;
    names_me(&told["recent"][1], before)?;
    let people = tool::output(&mut tool::tool(&["explain", &line]))?;
    let text = String::from_utf8_lossy(&people.stdout).into_owned();
    ensure!(
        text.contains("tells neither the address") && text.contains(&format!("{at:#x}")),
        "{text}"
    );
    Ok(())
}
