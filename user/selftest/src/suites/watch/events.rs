// SPDX-License-Identifier: GPL-2.0
//! The tracepoints: each tells of what really happened, with its values.

use anyhow::{ensure, Result};

use super::PAGE_U64;
use crate::abi::Context;
use crate::dma::fresh_iova;
use crate::expect;
use crate::host::{Host, OWN_DRIVER};
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::watching::{fdinfo, Record, Tracing};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![maps_and_unmaps, pins_and_unpins, pfs_that_come_and_go]
}

/// The one event among these with this value.
fn one(events: &[Record], key: &str, value: u64) -> Result<Record> {
    let mut found = Vec::new();
    for event in events {
        if event.number(key)? == value {
            found.push(event.clone());
        }
    }
    ensure!(
        found.len() == 1,
        "{} events with {key}={value:#x}",
        found.len()
    );
    Ok(found.remove(0))
}

fn maps_and_unmaps(_: &Host) -> Result<()> {
    let tracing = Tracing::new()?;
    let context = Context::open()?;
    let (page, iova) = (Buffer::page()?, fresh_iova(1));
    let memory = UserMemory::scattered(3 * PAGE)?;
    expect::succeeds("map", context.map(page.phys(), iova, PAGE_U64))?;
    let answer = context.map_user(memory.va(), memory.length());
    let user_iova = expect::succeeds("map", answer)?;
    let about = fdinfo(&context)?;
    expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
    expect::equal("unmaps so far", tracing.events("unmap")?.len(), 1)?;
    drop(context);
    for (iova, length, backing, kind, why) in [
        (iova, PAGE_U64, page.phys(), "phys", "unmap"),
        (user_iova, memory.length(), memory.va(), "user", "close"),
    ] {
        for name in ["map", "unmap"] {
            let event = one(&tracing.events(name)?, "iova", iova)?;
            expect::equal("space", event.number("space")?, about.space)?;
            expect::equal("context", event.number("context")?, about.context)?;
            expect::equal("length", event.number("length")?, length)?;
            expect::equal("backing", event.number("backing")?, backing)?;
            expect::equal("kind", event.text("kind")?, kind)?;
            if name == "unmap" {
                expect::equal("why", event.text("why")?, why)?;
            }
        }
    }
    // What is refused is no event.
    let context = Context::open()?;
    let answer = context.map(page.phys(), iova + 1, PAGE_U64);
    expect::holds("the map is refused", answer.is_err())?;
    expect::equal("maps", tracing.events("map")?.len(), 2)?;
    expect::equal("unmaps", tracing.events("unmap")?.len(), 2)
}

fn pins_and_unpins(_: &Host) -> Result<()> {
    let tracing = Tracing::new()?;
    let context = Context::open()?;
    let memory = UserMemory::scattered(5 * PAGE)?;
    let answer = context.map_user(memory.va() + 10, 4 * PAGE_U64);
    expect::succeeds("map", answer)?;
    let about = fdinfo(&context)?;
    expect::equal("unpins so far", tracing.events("unpin")?.len(), 0)?;
    drop(context);
    for name in ["pin", "unpin"] {
        let events = tracing.events(name)?;
        expect::equal(name, events.len(), 1)?;
        let event = &events[0];
        expect::equal("context", event.number("context")?, about.context)?;
        expect::equal("pid", event.number("pid")?, u64::from(std::process::id()))?;
        expect::equal("page", event.number("va")? & !0xfff, memory.va())?;
        expect::equal("pages", event.number("pages")?, 5)?;
    }
    Ok(())
}

fn pfs_that_come_and_go(host: &Host) -> Result<()> {
    let tracing = Tracing::new()?;
    let space = Context::open()?.info()?.fixed.space;
    let pf = host.pf()?;
    pf.unbind()?;
    let gone = tracing.events("detach");
    let early = tracing.events("attach");
    pf.bind(OWN_DRIVER)?;
    expect::equal("attaches before it came", early?.len(), 0)?;
    for events in [gone?, tracing.events("attach")?] {
        expect::equal("events", events.len(), 1)?;
        expect::equal("pf", events[0].text("pf")?, pf.0.as_str())?;
        expect::equal("space", events[0].number("space")?, space)?;
        expect::equal("kind", events[0].text("kind")?, "owned")?;
    }
    Ok(())
}
