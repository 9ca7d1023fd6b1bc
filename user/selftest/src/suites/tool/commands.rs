// SPDX-License-Identifier: GPL-2.0
//! `info`, `list`, `map`, `unmap`, `bind`, `unbind`, `selftest` and `bench` on a host with owned
//! PFs: what they do is looked at from outside.

use anyhow::{ensure, Context as _, Result};
use rustix::process::Signal;
use serde_json::{json, Value};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use super::setting::{nobody, with_hostdrv, with_leftover, Changed};
use crate::abi::Context;
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::host::{Bdf, Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::module::HOSTDRV;
use crate::tool;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        info_agrees_with_the_module,
        info_for_people,
        list_shows_who_and_what,
        list_for_people,
        contexts_and_history_for_people,
        list_contexts_and_history,
        list_of_one_space,
        list_watch_redraws,
        list_refuses_users_without_root,
        leftover_is_listed_and_released,
        unmap_refuses_programs_mappings,
        map_holds_a_physical_range,
        map_holds_a_buffer_for_a_command,
        map_holds_a_buffer_where_it_is_told_to,
        map_tells_the_command_of_a_physical_range,
        map_takes_huge_pages,
        map_ends_at_a_signal,
        map_passes_signals_on,
        unbind_and_bind_again,
        bind_returns_to_the_driver_before,
        bind_refuses_what_is_no_pf,
        bind_refuses_a_pf_in_use,
        unbind_refuses_live_mappings,
        bind_at_boot,
        selftest_with_real_dma,
        bench_measures,
    ]
}

/// What `selftest` does on QEMU's own device.
pub fn edu_tests() -> Vec<Test<Host>> {
    list_tests![selftest_with_real_dma]
}

fn number(value: &Value) -> Result<u64> {
    value
        .as_u64()
        .with_context(|| format!("{value} is no number"))
}

fn info_agrees_with_the_module(host: &Host) -> Result<()> {
    let told = tool::json(&["info"])?;
    let info = Context::open()?.info()?;
    expect::equal("mode", &told["mode"], &json!("owned"))?;
    expect::equal("space", &told["space"], &json!(info.fixed.space))?;
    expect::equal(
        "page sizes",
        &told["page_sizes"],
        &json!(info.fixed.page_sizes),
    )?;
    let aperture = json!([info.fixed.aperture_first, info.fixed.aperture_last]);
    expect::equal("aperture", &told["aperture"], &aperture)?;
    let pfs = host.all_pfs()?;
    for (pf, told) in pfs.iter().zip(told["pfs"].as_array().context("PFs")?) {
        expect::equal("PF", &told["address"], &json!(pf.0))?;
        expect::equal("driver", &told["driver"], &json!(OWN_DRIVER))?;
        for key in ["owned", "translated", "fixed"] {
            expect::equal(key, &told[key], &json!(true))?;
        }
    }
    expect::equal("PFs", told["pfs"].as_array().map(Vec::len), Some(pfs.len()))
}

/// The words of the one line that has this text in it.
fn line_with<'a>(text: &'a str, part: &str) -> Result<Vec<&'a str>> {
    let mut lines = text.lines().filter(|line| line.contains(part));
    let line = lines.next();
    let line = line.with_context(|| format!("no line has {part}: {text}"))?;
    ensure!(lines.next().is_none(), "several lines have {part}: {text}");
    Ok(line.split_whitespace().collect())
}

fn info_for_people(host: &Host) -> Result<()> {
    let info = Context::open()?.info()?;
    let said = tool::text(&["info"])?;
    let (first, last) = (info.fixed.aperture_first, info.fixed.aperture_last);
    let range = format!("addresses      {first:#x} to {last:#x}\n");
    ensure!(said.contains(&range), "{said}");
    for pf in host.all_pfs()? {
        let row = line_with(&said, &pf.0)?;
        let space = info.fixed.space.to_string();
        expect::equal(
            "row",
            &row[2..],
            &[OWN_DRIVER, &space, "owned,", "translated"][..],
        )?;
    }
    Ok(())
}

/// The one listed mapping that begins at an IOVA.
fn listed(iova: u64) -> Result<Option<Value>> {
    let list = tool::json(&["list"])?;
    let mappings = list["mappings"].as_array().context("mappings")?;
    Ok(mappings
        .iter()
        .find(|one| one["first"] == json!(iova))
        .cloned())
}

fn list_shows_who_and_what(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let (page, huge) = (Buffer::page()?, UserMemory::transparent(2 << 20)?);
    let at = fresh_iova(1);
    expect::succeeds(
        "map",
        context.map_with(page.phys(), at, PAGE_U64, crate::abi::READ),
    )?;
    let iova = expect::succeeds("map", context.map_user(huge.va(), huge.length()))?;

    let one = listed(at)?.context("the physical range is not listed")?;
    for (key, want) in [
        ("kind", json!("phys")),
        ("length", json!(PAGE_U64)),
        ("backing", json!(page.phys())),
        ("read", json!(true)),
        ("write", json!(false)),
        ("pid", json!(std::process::id())),
        ("left_behind", json!(false)),
    ] {
        expect::equal(key, &one[key], &want)?;
    }
    ensure!(one["comm"]
        .as_str()
        .is_some_and(|name| name.starts_with("qat-iommu-self")));
    let one = listed(iova)?.context("the buffer is not listed")?;
    expect::equal("pages", &one["page"], &json!([2 << 20, 2 << 20]))?;
    expect::equal("backing", &one["backing"], &json!(huge.va()))?;

    let list = tool::json(&["list"])?;
    let listed_bytes = list["mappings"].as_array().into_iter().flatten();
    let listed_bytes = listed_bytes.map(|one| number(&one["length"]));
    expect::equal(
        "bytes in all",
        number(&list["total"]["bytes"])?,
        listed_bytes.sum::<Result<u64>>()?,
    )?;
    drop(context);
    ensure!(
        listed(at)?.is_none() && listed(iova)?.is_none(),
        "what is closed is still listed"
    );
    Ok(())
}

fn list_for_people(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let huge = UserMemory::transparent(4 << 20)?;
    let iova = expect::succeeds("map", context.map_user(huge.va(), huge.length()))?;
    let said = tool::text(&["list"])?;
    let (me, va) = (std::process::id(), huge.va());
    let row = line_with(&said, &format!("{iova:#x}"))?.join(" ");
    ensure!(
        row.starts_with(&format!("{iova:#x} 4M rw 2M buffer {va:#x} qat-iommu-self"))
            && row.ends_with(&format!("(pid {me})")),
        "{row}"
    );
    let list = tool::json(&["list"])?;
    let (count, bytes) = (
        number(&list["total"]["mappings"])?,
        number(&list["total"]["bytes"])?,
    );
    let space = &list["spaces"][0];
    expect::equal("mappings of the space", number(&space["mappings"])?, count)?;
    expect::equal("bytes of the space", number(&space["bytes"])?, bytes)?;
    // Nothing else is mapped: the whole buffer, and each page of it pinned.
    expect::equal("bytes", bytes, huge.length())?;
    ensure!(
        said.starts_with(&format!("space {} (owned): ", space["space"]))
            && said.contains("; 1 mapping, 4M, 4M pinned\n")
            && said.ends_with("\n1 mapping, 4M\n"),
        "{said}"
    );
    Ok(())
}

fn contexts_and_history_for_people(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    let iova = expect::succeeds("map", context.map_user(memory.va(), memory.length()))?;
    let space = context.info()?.fixed.space;
    let (me, va) = (std::process::id(), memory.va());
    let row = tool::text(&["list", "--contexts"])?;
    let row = line_with(&row, &format!(" {me} "))?;
    expect::equal("columns", &row[1..2], &[me.to_string().as_str()][..])?;
    expect::equal("mapped, pinned", &row[4..], &["1", "8K", "8K"][..])?;
    drop(context);
    let said = tool::text(&["list", "--history"])?;
    let last = said.lines().last().context("no history")?;
    let row: Vec<&str> = last.split_whitespace().collect();
    let want = [
        space.to_string(),
        format!("{iova:#x}"),
        "8K".into(),
        "close".into(),
        "buffer".into(),
        format!("{va:#x}"),
    ];
    expect::equal("row", row[1..7].join(" "), want.join(" "))
}

/// Two spaces, the second one of a PF that its own driver holds.
fn list_of_one_space(host: &Host) -> Result<()> {
    let pfs = host.all_pfs()?;
    let other = pfs.get(1).context("this test wants two PFs")?;
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    let own = expect::succeeds("attach", context.attach_default())?;
    with_hostdrv(host, other, || {
        let elsewhere = Context::open()?;
        let space = other.attach(&elsewhere)?;
        let iova = expect::succeeds("map", elsewhere.map_user(memory.va(), PAGE_U64))?;
        let mine = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
        for (number, first, pf) in [(space, iova, other), (own, mine, &pfs[0])] {
            let list = tool::json(&["list", "--space", &number.to_string()])?;
            expect::equal("PFs", &list["spaces"][0]["pfs"], &json!([pf.0]))?;
            expect::equal("spaces", list["spaces"].as_array().map(Vec::len), Some(1))?;
            expect::equal("mappings", &list["total"]["mappings"], &json!(1))?;
            expect::equal("first", &list["mappings"][0]["first"], &json!(first))?;
        }
        // `map --pf` maps in the space that it is told, no other.
        let mut held = Held::new(&["--user", "4K", "--pf", &other.0])?;
        let one = listed_in(&held.said["iova"], space)?;
        expect::equal("size", &one["length"], &json!(PAGE_U64))?;
        end(&mut held.child, Signal::TERM)
    })
}

/// The one mapping that begins at an IOVA in a space.
fn listed_in(iova: &Value, space: u64) -> Result<Value> {
    let list = tool::json(&["list"])?;
    let mut all = list["mappings"].as_array().into_iter().flatten();
    let one = all.find(|one| one["first"] == *iova && one["space"] == json!(space));
    one.cloned()
        .with_context(|| format!("not in space {space}: {list}"))
}

fn list_contexts_and_history(_: &Host) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    let at = fresh_iova(1);
    expect::succeeds("map", context.map(page.phys(), at, PAGE_U64))?;
    let mine = json!(std::process::id());
    let contexts = tool::json(&["list", "--contexts"])?;
    let contexts = contexts.as_array().context("a list")?;
    let one = contexts
        .iter()
        .find(|one| one["pid"] == mine && one["mappings"] == json!(1));
    ensure!(
        one.is_some(),
        "this program's context is not listed: {contexts:?}"
    );
    expect::succeeds("unmap", context.unmap(at, PAGE_U64))?;
    let history = tool::json(&["list", "--history"])?;
    let last = history
        .as_array()
        .and_then(|list| list.last())
        .context("no history")?;
    expect::equal("first", &last["first"], &json!(at))?;
    expect::equal("why", &last["why"], &json!("unmap"))?;
    expect::equal("pid", &last["pid"], &mine)?;
    tool::refuses(&["list", "--space", "999"], "there is no space 999")
}

fn list_watch_redraws(_: &Host) -> Result<()> {
    let mut child = tool::tool(&["list", "--watch", "1"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let mut headings = 0;
    while headings < 2 {
        let line = lines.next().context("it ended before it drew again")??;
        headings += usize::from(line.starts_with("space "));
    }
    end(&mut child, Signal::INT)
}

/// Ends a program by a signal that it should end well by.
fn end(child: &mut Child, signal: Signal) -> Result<()> {
    signal_to(child, signal)?;
    let status = child.wait()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

fn signal_to(child: &Child, signal: Signal) -> Result<()> {
    let pid = rustix::process::Pid::from_child(child);
    Ok(rustix::process::kill_process(pid, signal)?)
}

fn list_refuses_users_without_root(_: &Host) -> Result<()> {
    let output = tool::output(&mut nobody(&["qat-iommu", "list"]))?;
    let said = String::from_utf8_lossy(&output.stderr);
    expect::equal("exit status", output.status.code(), Some(1))?;
    ensure!(said.contains("debugfs") || said.contains("sudo"), "{said}");
    Ok(())
}

fn leftover_is_listed_and_released(host: &Host) -> Result<()> {
    with_leftover(host, |iova| {
        let one = listed(iova)?.context("it is not listed")?;
        expect::equal("left behind", &one["left_behind"], &json!(true))?;
        let list = tool::json(&["list"])?;
        expect::equal("total", &list["total"]["left_behind"], &json!(1))?;
        let people = tool::output(&mut tool::tool(&["list"]))?;
        let text = String::from_utf8_lossy(&people.stdout).into_owned();
        ensure!(text.contains("unmap --force IOVA SIZE"), "{text}");

        let iova_text = format!("{iova:#x}");
        tool::refuses(&["unmap", &iova_text, "4K"], "say --force")?;
        tool::refuses(
            &["unmap", "--force", &iova_text, "8K"],
            "exactly this range",
        )?;
        ensure!(listed(iova)?.is_some(), "a refused unmap removed it");
        let removed = tool::json(&["unmap", "--force", &iova_text, "4K"])?;
        expect::equal("IOVA", &removed["iova"], &json!(iova))?;
        ensure!(listed(iova)?.is_none(), "it is still listed");
        tool::refuses(
            &["unmap", "--force", &iova_text, "4K"],
            "exactly this range",
        )
    })
}

fn unmap_refuses_programs_mappings(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let at = fresh_iova(1);
    bench.map(&page, at)?;
    tool::refuses(
        &["unmap", "--force", &format!("{at:#x}"), "4K"],
        "a program's mappings",
    )?;
    bench.reaches(at, &page)?;
    bench.unmap(&page, at)
}

/// A running `map`, and what it said of its mapping.
struct Held {
    child: Child,
    said: Value,
    _out: BufReader<ChildStdout>,
}

impl Held {
    fn new(arguments: &[&str]) -> Result<Self> {
        let mut command = tool::tool(&["map", "--json"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn()?;
        let mut out = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut text = String::new();
        while serde_json::from_str::<Value>(&text).is_err() {
            ensure!(out.read_line(&mut text)? > 0, "it ended after {text:?}");
        }
        Ok(Self {
            child,
            said: serde_json::from_str(&text)?,
            _out: out,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn map_holds_a_physical_range(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let page = Buffer::page()?;
    let at = fresh_iova(1);
    bench.refused(at, &page)?;
    let (phys, iova) = (format!("{:#x}", page.phys()), format!("{at:#x}"));
    let mut held = Held::new(&["--phys", &phys, "--iova", &iova, "--size", "100"])?;
    expect::equal("size", &held.said["size"], &json!(PAGE_U64))?;
    expect::equal("IOVA", &held.said["iova"], &json!(at))?;
    bench.reaches(at, &page)?;
    end(&mut held.child, Signal::TERM)?;
    bench.refused(at, &page)
}

fn map_holds_a_buffer_for_a_command(_: &Host) -> Result<()> {
    let script = "qat-iommu list --json; echo; echo \"$QAT_IOMMU_IOVA $QAT_IOMMU_SIZE\"; exit 7";
    let output = tool::output(&mut tool::tool(&[
        "map", "--user", "64K", "--access", "r", "--", "sh", "-c", script,
    ]))?;
    expect::equal("exit status", output.status.code(), Some(7))?;
    let text = String::from_utf8(output.stdout)?;
    let (list, told) = text.trim_end().rsplit_once('\n').context("two answers")?;
    let (iova, size) = told.split_once(' ').context("IOVA and size")?;
    expect::equal("size", size, "0x10000")?;
    let iova = u64::from_str_radix(iova.trim_start_matches("0x"), 16)?;
    let list: Value = serde_json::from_str(list)?;
    let mappings = list["mappings"].as_array().context("mappings")?;
    let one = mappings
        .iter()
        .find(|one| one["first"] == json!(iova))
        .context("it is not mapped")?;
    expect::equal("write", &one["write"], &json!(false))?;
    expect::equal("kind", &one["kind"], &json!("user"))?;
    ensure!(listed(iova)?.is_none(), "it outlives the command");
    tool::refuses(
        &["map", "--user", "4K", "--", "/nonexistent"],
        "cannot run /nonexistent",
    )
}

fn map_holds_a_buffer_where_it_is_told_to(_: &Host) -> Result<()> {
    let at = fresh_iova(1);
    let mut held = Held::new(&["--user", "4K", "--iova", &format!("{at:#x}")])?;
    expect::equal("IOVA", &held.said["iova"], &json!(at))?;
    let one = listed(at)?.context("it is not listed")?;
    expect::equal("kind", &one["kind"], &json!("user"))?;
    end(&mut held.child, Signal::TERM)
}

fn map_tells_the_command_of_a_physical_range(_: &Host) -> Result<()> {
    let page = Buffer::page()?;
    let phys = format!("{:#x}", page.phys());
    // Without an IOVA it is seen at its own address.
    let script = "echo \"$QAT_IOMMU_PHYS $QAT_IOMMU_IOVA $QAT_IOMMU_SIZE\"";
    let said = tool::text(&[
        "map", "--phys", &phys, "--size", "4K", "--", "sh", "-c", script,
    ])?;
    expect::equal("told", said.trim(), &format!("{phys} {phys} 0x1000"))
}

fn map_takes_huge_pages(_: &Host) -> Result<()> {
    let before = crate::mem::free_huge_pages()?;
    let arguments = ["map", "--user", "2M", "--huge", "--", "true"];
    tool::refuses(&arguments, "reserve huge pages")?;
    let _one = Changed::new("/proc/sys/vm/nr_hugepages", "1")?;
    let script = "sed -n 's/^HugePages_Free: *//p' /proc/meminfo";
    let arguments = ["map", "--user", "2M", "--huge", "--", "sh", "-c", script];
    expect::equal("free meanwhile", tool::text(&arguments)?.trim(), "0")?;
    expect::equal("free before", before, 0)
}

fn map_ends_at_a_signal(_: &Host) -> Result<()> {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut held = Held::new(&["--user", "4K"])?;
        let iova = number(&held.said["iova"])?;
        ensure!(listed(iova)?.is_some(), "it is not mapped");
        end(&mut held.child, signal)?;
        ensure!(listed(iova)?.is_none(), "it is still mapped");
    }
    Ok(())
}

fn map_passes_signals_on(_: &Host) -> Result<()> {
    let mut held = Held::new(&["--user", "4K", "--", "sleep", "1000"])?;
    // It says so before it starts the command, which a signal might miss.
    std::thread::sleep(std::time::Duration::from_millis(500));
    signal_to(&held.child, Signal::TERM)?;
    let status = held.child.wait()?;
    expect::equal("exit status", status.code(), Some(128 + 15))
}

fn unbind_and_bind_again(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    let done = tool::json(&["unbind", &pf.0])?;
    expect::equal("changed", &done[0]["changed"], &json!(true))?;
    expect::equal("driver", pf.driver(), None)?;
    expect::equal("driver_override", pf.wanted_driver()?, None)?;
    tool::refuses(&["unbind", &pf.0], "held by no driver")?;
    let done = tool::json(&["bind", &pf.0])?;
    expect::equal("driver", &done[0]["driver"], &json!(OWN_DRIVER))?;
    expect::equal("driver", pf.driver().as_deref(), Some(OWN_DRIVER))?;
    // Asked again, it is content.
    let done = tool::json(&["bind", &pf.0])?;
    expect::equal("changed", &done[0]["changed"], &json!(false))
}

fn bind_returns_to_the_driver_before(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    with_hostdrv(host, &pf, || {
        let done = tool::json(&["bind", &pf.0])?;
        expect::equal("previous", &done[0]["previous"], &json!(HOSTDRV))?;
        expect::equal("driver", pf.driver().as_deref(), Some(OWN_DRIVER))?;
        tool::json(&["unbind", &pf.0])?;
        expect::equal("driver", pf.driver().as_deref(), Some(HOSTDRV))?;
        expect::equal("driver_override", pf.wanted_driver()?, None)?;
        let record = Path::new("/run/qat-iommu").join(&pf.0);
        ensure!(!record.exists(), "{} is left behind", record.display());
        Ok(())
    })
}

fn bind_refuses_what_is_no_pf(host: &Host) -> Result<()> {
    let other = host.other_intel_device()?;
    tool::refuses(&["bind", &other.0], "is no QAT PF")?;
    // The module refuses it too, and it is left as it was.
    tool::refuses(&["bind", "--force", &other.0], "did not take")?;
    expect::equal("driver", other.driver(), None)?;
    expect::equal("driver_override", other.wanted_driver()?, None)?;
    tool::refuses(&["bind", "0000:ff:1f.0"], "there is no PCI function")?;
    let output = tool::output(&mut tool::tool(&["bind", "6b:00.0"]))?;
    expect::equal("exit status", output.status.code(), Some(2))
}

fn bind_refuses_a_pf_in_use(host: &Host) -> Result<()> {
    let pf = host.pf()?;
    with_hostdrv(host, &pf, || {
        // This program has the PF's registers mapped.
        let engine = crate::dma::pf::Engine::open(&pf)?;
        tool::refuses(&["bind", &pf.0], "in use by qat-iommu-self")?;
        expect::equal("driver", pf.driver().as_deref(), Some(HOSTDRV))?;
        tool::json(&["bind", "--force", &pf.0])?;
        expect::equal("driver", pf.driver().as_deref(), Some(OWN_DRIVER))?;
        drop(engine);
        tool::json(&["unbind", &pf.0])?;
        expect::equal("driver", pf.driver().as_deref(), Some(HOSTDRV))
    })
}

fn unbind_refuses_live_mappings(host: &Host) -> Result<()> {
    let pfs = host.all_pfs()?;
    let (first, rest) = pfs.split_first().context("a PF")?;
    let context = Context::open()?;
    let page = Buffer::page()?;
    let at = fresh_iova(1);
    expect::succeeds("map", context.map(page.phys(), at, PAGE_U64))?;
    // With another PF in the space it does no harm.
    for pf in rest {
        tool::json(&["unbind", &pf.0])?;
    }
    let refused = tool::refuses(&["unbind", &first.0], "1 mapping in its space");
    let forced = tool::json(&["unbind", "--force", &first.0]);
    for pf in &pfs {
        tool::json(&["bind", &pf.0])?;
    }
    refused?;
    forced?;
    // It holds again.
    let mut dev = crate::dma::open(host, first)?;
    crate::dma::reaches(dev.as_mut(), at, &page)?;
    expect::succeeds("unmap", context.unmap(at, PAGE_U64))
}

fn bind_at_boot(host: &Host) -> Result<()> {
    let pfs = host.all_pfs()?;
    let result = bound_as_the_file_says(&pfs);
    // Whatever went wrong, the tests that follow want them.
    for pf in pfs.iter().filter(|pf| pf.driver().is_none()) {
        pf.bind(OWN_DRIVER)?;
    }
    result
}

fn bound_as_the_file_says(pfs: &[Bdf]) -> Result<()> {
    let unbind_all = || {
        pfs.iter()
            .filter(|pf| pf.driver().is_some())
            .try_for_each(Bdf::unbind)
    };
    let _none = fs::remove_file("/etc/qat-iommu.conf");
    tool::json(&["bind", "--boot"])?;

    unbind_all()?;
    let one = Changed::new("/etc/qat-iommu.conf", &format!("# one\n{}\n", pfs[0].0))?;
    tool::json(&["bind", "--boot"])?;
    expect::equal("the one", pfs[0].driver().as_deref(), Some(OWN_DRIVER))?;
    for pf in &pfs[1..] {
        expect::equal("another", pf.driver(), None)?;
    }
    drop(one);

    unbind_all()?;
    // One that is not there does not keep the others from being bound.
    let all = Changed::new("/etc/qat-iommu.conf", "0000:ff:1f.0\nall\n")?;
    tool::refuses(&["bind", "--boot"], "1 of")?;
    for pf in pfs {
        expect::equal("all", pf.driver().as_deref(), Some(OWN_DRIVER))?;
    }
    drop(all);
    let _wrong = Changed::new("/etc/qat-iommu.conf", "all please\n")?;
    tool::refuses(&["bind", "--boot"], "line 1")
}

fn selftest_with_real_dma(host: &Host) -> Result<()> {
    let report = tool::json(&["selftest"])?;
    expect::equal("failed", &report["failed"], &json!(0))?;
    let steps = report["steps"].as_array().context("steps")?;
    for pf in host.all_pfs()? {
        let of_pf: Vec<&Value> = steps
            .iter()
            .filter(|step| step["pf"] == json!(pf.0))
            .collect();
        expect::equal("steps", of_pf.len(), 5)?;
        ensure!(of_pf.iter().all(|step| step["status"] == "ok"), "{of_pf:?}");
    }
    tool::refuses(&["selftest", "--pf", "0000:ff:1f.0"], "no usable PF")
}

fn bench_measures(_: &Host) -> Result<()> {
    let rows = tool::json(&["bench", "--sizes", "4K,64K", "--rounds", "5"])?;
    let rows = rows.as_array().context("rows")?;
    for (row, size) in rows.iter().zip([PAGE, 16 * PAGE]) {
        expect::equal("size", &row["size"], &json!(size))?;
        ensure!(number(&row["map"]["median"])? > 0 && number(&row["unmap"]["median"])? > 0);
    }
    expect::equal("rows", rows.len(), 2)
}
