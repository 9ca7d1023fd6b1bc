// SPDX-License-Identifier: GPL-2.0
//! What is there: spaces, contexts and mappings as listed, against what this program
//! itself knows of them.

use anyhow::{ensure, Context as _, Result};
use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use super::PAGE_U64;
use crate::abi::{Context, BOTH, READ, WRITE};
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::{Bdf, Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, HUGE, PAGE};
use crate::module::{CommandFile, Loaded, KCLIENT};
use crate::watching::{fdinfo, listing, mapping_at, path, records, FdInfo, Record};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        fdinfo_follows_every_step,
        spaces_agree_with_info,
        spaces_without_a_pf,
        contexts_name_their_process,
        names_cannot_forge_lines,
        mappings_of_a_context,
        page_sizes_of_mappings,
        mappings_of_a_kernel_client,
        listings_while_mappings_churn,
        a_reader_holds_nobody_up,
        a_listing_longer_than_any_buffer,
    ]
}

pub fn shared_tests() -> Vec<Test<Host>> {
    list_tests![
        fdinfo_follows_every_step,
        spaces_agree_with_info,
        contexts_name_their_process,
        listings_while_mappings_churn,
    ]
}

fn fdinfo_follows_every_step(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let start = fdinfo(&context)?;
    let is = |mappings: u64, bytes: u64, pinned: u64| -> Result<FdInfo> {
        let found = fdinfo(&context)?;
        expect::equal("mappings", found.mappings, mappings)?;
        expect::equal("bytes", found.bytes, bytes)?;
        expect::equal("pinned", found.pinned, pinned)?;
        expect::equal("context", found.context, start.context)?;
        Ok(found)
    };
    is(0, 0, 0)?;
    expect::equal("space before one is chosen", start.space, 0)?;
    let memory = UserMemory::scattered(3 * PAGE)?;
    expect::succeeds("map", context.map_user(memory.va(), memory.length()))?;
    let now = is(1, 3 * PAGE_U64, 3 * PAGE_U64)?;
    expect::equal("space", now.space, context.info()?.fixed.space)?;
    // A part of a page pins it whole.
    let part = expect::succeeds("map", context.map_user(memory.va() + 100, 10))?;
    is(2, 4 * PAGE_U64, 4 * PAGE_U64)?;
    let (page, iova) = (Buffer::page()?, fresh_iova(1));
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    is(3, 5 * PAGE_U64, 4 * PAGE_U64)?;
    expect::holds(
        "a map that is refused",
        context.map(page.phys(), iova, PAGE_U64).is_err() && context.map_user(0x1000, 1).is_err(),
    )?;
    is(3, 5 * PAGE_U64, 4 * PAGE_U64)?;
    let duplicate = context.duplicate()?;
    expect::equal("another descriptor", fdinfo(&duplicate)?, fdinfo(&context)?)?;
    let other = Context::open()?;
    expect::holds(
        "another context has another number",
        fdinfo(&other)?.context != start.context,
    )?;
    let found = expect::succeeds("QUERY", context.query(part & !0xfff))?;
    expect::succeeds("unmap", context.unmap(found.iova, found.length))?;
    is(2, 4 * PAGE_U64, 3 * PAGE_U64)?;
    let answer = context.unmap_user(memory.va(), memory.length());
    expect::succeeds("unmap", answer)?;
    is(1, PAGE_U64, 0)?;
    expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
    is(0, 0, 0).map(drop)
}

/// The record of the space that contexts get.
fn default_space(context: &Context) -> Result<Record> {
    let wanted = context.info()?.fixed.space;
    for record in listing("spaces")? {
        if record.number("space")? == wanted {
            return Ok(record);
        }
    }
    anyhow::bail!("space {wanted} is not listed")
}

fn spaces_agree_with_info(host: &Host) -> Result<()> {
    let context = Context::open()?;
    expect::succeeds("ATTACH", context.attach_default())?;
    let info = context.info()?;
    let space = default_space(&context)?;
    let kind = match host.pf_state {
        crate::host::PfState::Shared => "shared",
        _ => "owned",
    };
    expect::equal("kind", space.text("kind")?, kind)?;
    expect::equal("translated", space.text("translated")?, "1")?;
    expect::equal("pages", space.number("pages")?, info.fixed.page_sizes)?;
    let range = |first: u64, last: u64| format!("{first:#x}-{last:#x}");
    expect::equal(
        "aperture",
        space.text("aperture")?,
        range(info.fixed.aperture_first, info.fixed.aperture_last).as_str(),
    )?;
    let reserved: Vec<String> = info
        .reserved
        .iter()
        .map(|reserved| range(reserved.first, reserved.last))
        .collect();
    expect::equal(
        "reserved",
        space.text("reserved")?,
        reserved.join(",").as_str(),
    )?;
    let mut listed: Vec<&str> = space.text("pfs")?.split(',').collect();
    listed.sort_unstable();
    let all = host.all_pfs()?;
    let all: Vec<String> = all.into_iter().map(|pf| pf.0).collect();
    match kind {
        "owned" => expect::equal("PFs", listed, all.iter().map(String::as_str).collect())?,
        _ => expect::holds(
            "its PF is one of them",
            all.iter().any(|pf| pf == listed[0]),
        )?,
    }

    // What one context adds is what the space has more.
    let count = |space: &Record| -> Result<[u64; 3]> {
        Ok([
            space.number("mappings")?,
            space.number("bytes")?,
            space.number("pinned")?,
        ])
    };
    let before = count(&space)?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    expect::succeeds("map", context.map_user(memory.va(), memory.length()))?;
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    let more = [
        before[0] + 2,
        before[1] + 3 * PAGE_U64,
        before[2] + 2 * PAGE_U64,
    ];
    expect::equal("what is mapped", count(&default_space(&context)?)?, more)?;
    let listed = listing("mappings")?;
    expect::equal("mappings listed", listed.len() as u64, more[0])?;
    drop(context);
    let context = Context::open()?;
    expect::equal("what is left", count(&default_space(&context)?)?, before)
}

/// It stays, and says that it has no PF.
fn spaces_without_a_pf(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let before = default_space(&context)?;
    // They are listed as they came.
    let pfs = before.text("pfs")?.split(',');
    let pfs: Vec<_> = pfs.map(|pf| Bdf(pf.to_owned())).collect();
    for pf in &pfs {
        pf.unbind()?;
    }
    let without = listing("spaces");
    for pf in &pfs {
        pf.bind(OWN_DRIVER)?;
    }
    let without = without?;
    expect::equal("spaces", without.len(), 1)?;
    expect::equal("PFs", without[0].text("pfs")?, "-")?;
    expect::equal(
        "its number",
        without[0].text("space")?,
        before.text("space")?,
    )?;
    expect::equal("afterwards", default_space(&context)?, before)
}

fn context_record(context: &Context) -> Result<Record> {
    let number = fdinfo(context)?.context;
    for record in listing("contexts")? {
        if record.number("context")? == number {
            return Ok(record);
        }
    }
    anyhow::bail!("context {number} is not listed")
}

fn contexts_name_their_process(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let record = context_record(&context)?;
    expect::equal(
        "keys",
        record.keys(),
        vec![
            "context", "pid", "space", "mappings", "bytes", "pinned", "comm",
        ],
    )?;
    expect::equal("pid", record.number("pid")?, u64::from(std::process::id()))?;
    let comm = std::fs::read_to_string("/proc/self/comm")?;
    expect::equal("comm", record.text("comm")?, comm.trim())?;
    expect::equal("space", record.number("space")?, 0)?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    expect::succeeds("map", context.map_user(memory.va(), memory.length()))?;
    let (record, about) = (context_record(&context)?, fdinfo(&context)?);
    for (key, want) in [
        ("space", about.space),
        ("mappings", 1),
        ("bytes", 2 * PAGE_U64),
        ("pinned", 2 * PAGE_U64),
    ] {
        expect::equal(key, record.number(key)?, want)?;
    }
    drop(context);
    for record in listing("contexts")? {
        expect::holds(
            "a closed context is not listed",
            record.number("context")? != about.context,
        )?;
    }
    Ok(())
}

/// A process may choose its name: what is printed of it stays one value of one line.
fn names_cannot_forge_lines(_: &Host) -> Result<()> {
    // The register has the name of the process, which is that of its first thread: this one.
    let own = CString::new(std::fs::read_to_string("/proc/self/comm")?.trim())?;
    rustix::thread::set_name(c"a\nb=c \\\x07\xff")?;
    let record = Context::open().and_then(|context| context_record(&context));
    rustix::thread::set_name(&own)?;
    expect::equal("comm", record?.text("comm")?, r"a\x0ab=c \x5c\x07\xff")
}

fn mappings_of_a_context(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let number = fdinfo(&context)?.context;
    let page = Buffer::page()?;
    let memory = UserMemory::scattered(3 * PAGE)?;
    for (flags, access) in [(READ, "r"), (WRITE, "w"), (BOTH, "rw")] {
        let iova = fresh_iova(1);
        let answer = context.map_with(page.phys(), iova, PAGE_U64, flags);
        expect::succeeds("map", answer)?;
        let answer = context.map_user_with(memory.va(), memory.length(), flags);
        let user_iova = expect::succeeds("map", answer)?;
        for (iova, length, kind, backing) in [
            (iova, PAGE_U64, "phys", page.phys()),
            (user_iova, memory.length(), "user", memory.va()),
        ] {
            let record = mapping_at(iova)?.with_context(|| format!("{iova:#x} is not listed"))?;
            expect::equal("last", record.number("last")?, iova + length - 1)?;
            expect::equal("kind", record.text("kind")?, kind)?;
            expect::equal("access", record.text("access")?, access)?;
            expect::equal("backing", record.number("backing")?, backing)?;
            expect::equal("context", record.number("context")?, number)?;
            expect::equal("pid", record.number("pid")?, u64::from(std::process::id()))?;
            expect::equal("caller", record.text("caller")?, "-")?;
            expect::equal(
                "space",
                record.number("space")?,
                context.info()?.fixed.space,
            )?;
        }
        let answer = context.unmap_user(memory.va(), memory.length());
        expect::succeeds("unmap", answer)?;
        expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
        for iova in [iova, user_iova] {
            expect::holds(
                "what is unmapped is not listed",
                mapping_at(iova)?.is_none(),
            )?;
        }
    }
    Ok(())
}

fn page_sizes_of_mappings(host: &Host) -> Result<()> {
    let bench = Bench::new(host)?;
    let context = &bench.context;
    let sizes = context.info()?.fixed.page_sizes;
    let pages = |iova: u64| -> Result<String> {
        let record = mapping_at(iova)?.context("it is not listed")?;
        Ok(record.text("page")?.to_owned())
    };
    let page = Buffer::page()?;
    let iova = fresh_iova(1);
    bench.map(&page, iova)?;
    expect::equal("a page", pages(iova)?.as_str(), "0x1000..0x1000")?;
    let huge = Buffer::huge(2)?;
    let length = 2 * HUGE as u64;
    let iova = fresh_iova(1024);
    expect::succeeds("map", context.map(huge.phys(), iova, length))?;
    // The largest of the IOMMU's pages that two aligned huge pages hold.
    let fits = |align: u64| {
        (12..=21)
            .rev()
            .map(|bits| 1u64 << bits)
            .find(|size| sizes & size != 0 && align % size == 0)
    };
    let largest = fits(HUGE as u64).context("the IOMMU has pages")?;
    expect::holds(
        "two huge pages use the large page",
        pages(iova)?.ends_with(&format!("..{largest:#x}"))
            || pages(iova)?.ends_with(&format!("..{:#x}", 2 * largest)),
    )?;
    expect::succeeds("unmap", context.unmap(iova, length))?;
    // Not aligned to each other, they make small ones.
    let iova = fresh_iova(1024) + PAGE_U64;
    expect::succeeds("map", context.map(huge.phys(), iova, length))?;
    expect::equal("out of step", pages(iova)?.as_str(), "0x1000..0x1000")?;
    expect::succeeds("unmap", context.unmap(iova, length))?;
    bench.unmap(&page, bench_iova(&page, &bench)?)
}

fn bench_iova(page: &Buffer, bench: &Bench) -> Result<u64> {
    let number = fdinfo(&bench.context)?.context;
    for record in listing("mappings")? {
        if record.number("context")? == number && record.number("backing")? == page.phys() {
            return record.number("first");
        }
    }
    anyhow::bail!("the page is not listed")
}

fn mappings_of_a_kernel_client(host: &Host) -> Result<()> {
    let client = Loaded::new(host, KCLIENT, &[])?;
    let commands = CommandFile::kclient();
    let (page, iova) = (Buffer::page()?, fresh_iova(1));
    let phys = page.phys();
    commands.expect(&format!("map {phys:#x} {iova:#x} 4096"), "0")?;
    let record = mapping_at(iova)?.context("it is not listed")?;
    let caller = record.text("caller")?;
    expect::holds(
        &format!("caller={caller} names a function of the client"),
        caller.ends_with("/[qat_kclient]"),
    )?;
    for (key, want) in [("context", 0), ("pid", 0)] {
        expect::equal(key, record.number(key)?, want)?;
    }
    expect::equal("comm", record.text("comm")?, "-")?;
    // Without its module the caller is an address.
    drop(client);
    let record = mapping_at(iova)?.context("it is not listed any more")?;
    expect::holds("caller is an address", record.number("caller")? != 0)?;
    let _client = Loaded::new(host, KCLIENT, &[])?;
    commands.expect(&format!("unmap {iova:#x} 4096"), "0")?;
    expect::holds("it is not listed", mapping_at(iova)?.is_none())
}

/// Every listing is whole lines, each mapping at most once and in order, with what was there all the
/// time.
fn listings_while_mappings_churn(_: &Host) -> Result<()> {
    const READS: usize = 12;
    let context = Context::open()?;
    let kept = UserMemory::scattered(PAGE)?;
    let kept_iova = expect::succeeds("map", context.map_user(kept.va(), PAGE_U64))?;
    let ending = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let churn: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let memory = UserMemory::scattered(8 * PAGE)?;
                    while !ending.load(Ordering::Relaxed) {
                        let context = Context::open()?;
                        for page in 0..8 {
                            let va = memory.va() + page * PAGE_U64;
                            expect::succeeds("map", context.map_user(va, PAGE_U64))?;
                        }
                        for page in 0..4 {
                            let va = memory.va() + page * PAGE_U64;
                            expect::succeeds("unmap", context.unmap_user(va, PAGE_U64))?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        let outcome = (0..READS).try_for_each(|_| one_look(kept_iova));
        ending.store(true, Ordering::Relaxed);
        for thread in churn {
            thread.join().expect("the thread returns its errors")?;
        }
        outcome
    })
}

fn one_look(kept: u64) -> Result<()> {
    for name in ["spaces", "contexts", "history"] {
        listing(name)?;
    }
    let mappings = listing("mappings")?;
    let mut behind = (0, 0);
    let mut seen = false;
    for record in &mappings {
        let at = (record.number("space")?, record.number("first")?);
        ensure!(at >= behind, "{record:?} comes after {behind:x?}");
        behind = (at.0, record.number("last")? + 1);
        seen |= at.1 == kept;
    }
    expect::holds("what stays is always listed", seen)?;
    let contexts = listing("contexts")?;
    let numbers: Vec<u64> = contexts
        .iter()
        .map(|record| record.number("context"))
        .collect::<Result<_>>()?;
    let unique: HashSet<&u64> = numbers.iter().collect();
    expect::equal("contexts listed once", unique.len(), numbers.len())
}

/// Between two reads there is no lock: everything goes on, and so does the reader.
fn a_reader_holds_nobody_up(host: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(200 * PAGE)?;
    let places: Vec<_> = (0..200)
        .map(|page| (memory.va() + page * PAGE_U64, PAGE_U64))
        .collect();
    let mapped = context.map_batch(&places);
    let iovas = mapped.map_err(|refused| anyhow::anyhow!("a batch: {refused:?}"))?;
    let mut file = File::open(path("mappings"))?;
    let mut text = vec![0; 100];
    file.read_exact(&mut text)?;
    // The one that is being read goes, the PF goes and comes, mappings go and come.
    let answer = context.unmap(iovas[0], PAGE_U64);
    expect::succeeds("unmap", answer)?;
    for pf in host.all_pfs()? {
        pf.unbind()?;
        pf.bind(OWN_DRIVER)?;
    }
    expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
    file.read_to_end(&mut text)?;
    let found = records(&String::from_utf8(text)?)?;
    let firsts: HashSet<u64> = found
        .iter()
        .map(|record| record.number("first"))
        .collect::<Result<_>>()?;
    let missing = iovas[1..].iter().filter(|iova| !firsts.contains(iova));
    expect::equal(
        "mappings that were there all the time, missing",
        missing.count(),
        0,
    )
}

fn a_listing_longer_than_any_buffer(_: &Host) -> Result<()> {
    const COUNT: usize = 2000;
    let context = Context::open()?;
    let number = fdinfo(&context)?.context;
    let memory = UserMemory::scattered(COUNT * PAGE)?;
    let mut iovas = HashSet::new();
    for page in 0..COUNT {
        let va = memory.va() + page as u64 * PAGE_U64;
        iovas.insert(expect::succeeds("map", context.map_user(va, PAGE_U64))?);
    }
    // In pieces that end in the middle of lines.
    let (mut file, mut text) = (File::open(path("mappings"))?, Vec::new());
    loop {
        let mut piece = [0; 777];
        match file.read(&mut piece)? {
            0 => break,
            count => text.extend_from_slice(&piece[..count]),
        }
    }
    let mut listed = HashSet::new();
    for record in records(&String::from_utf8(text)?)? {
        if record.number("context")? == number {
            expect::holds("each is there once", listed.insert(record.number("first")?))?;
        }
    }
    ensure!(
        listed == iovas,
        "{} of {COUNT} mappings are listed",
        listed.intersection(&iovas).count()
    );
    Ok(())
}
