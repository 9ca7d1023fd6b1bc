// SPDX-License-Identifier: GPL-2.0
//! A context handed on, to a daemon, through exec, through a socket: its mappings live
//! exactly as long as somebody holds the file, whoever made them.

use anyhow::{Context as _, Result};
use rustix::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::abi::Context;
use crate::expect;
use crate::helper::{hex, user::Task, Helper};
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::libc_calls::{receive_descriptor, send_descriptor};
use crate::mem::user::UserMemory;
use crate::mem::PAGE;
use crate::module::{self, QAT_IOMMU};
use crate::suites::user::Rig;

const PAGE_U64: u64 = 4096;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        a_daemon_keeps_what_its_parent_mapped,
        exec_keeps_an_inheritable_file,
        sent_by_a_process_that_ended,
        on_its_way_through_a_socket,
        lost_with_its_socket,
    ]
}

/// The files of a process that ended are closed a moment after its streams.
fn pins_become(want: i64) -> Result<()> {
    let late = Instant::now() + Duration::from_secs(10);
    while ledger::pins()? != want && Instant::now() < late {
        std::thread::sleep(Duration::from_millis(20));
    }
    expect::equal("pins", ledger::pins()?, want)
}

fn gone(rig: &mut Rig, iovas: &[u64], pins: i64) -> Result<()> {
    pins_become(pins)?;
    let memory = UserMemory::scattered(PAGE)?;
    for iova in iovas {
        rig.refused(*iova, &memory)?;
    }
    Ok(())
}

/// Map, fork, the parent ends. Device and child see the same shared memory; of private memory the
/// child has a copy, as after every fork, and a mapping of its own shows it to the device.
fn a_daemon_keeps_what_its_parent_mapped(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let pins = ledger::pins()?;
    let mut helper = Helper::doing(&Task::Daemon, None)?;
    let iovas = helper.numbers()?;
    helper.ended()?;
    let (private, shared) = (iovas[0], iovas[1]);
    let mut answer = |question: &str| -> Result<String> {
        helper.tell(question)?;
        helper.line()
    };
    expect::equal("pins without the parent", ledger::pins()?, pins + 2)?;

    let stored = rig.poke(shared)?;
    expect::equal("shared memory", answer("shared")?, hex(&stored))?;
    let before = answer("private")?;
    let seen = rig.peek(private)?.context("the device reads nothing")?;
    expect::equal("the parent's memory", hex(&seen), before.clone())?;
    rig.poke(private)?;
    expect::equal("the daemon's copy", answer("private")?, before)?;

    expect::equal("unmap by the daemon", answer("unmap")?.as_str(), "done")?;
    gone(&mut rig, &[shared], pins + 1)?;
    let newer = u64::from_str_radix(&answer("map")?, 16)?;
    let stored = rig.poke(newer)?;
    expect::equal("the daemon's own", answer("private")?, hex(&stored))?;
    helper.tell("end")?;
    gone(&mut rig, &[private, newer], pins)
}

fn exec_keeps_an_inheritable_file(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let pins = ledger::pins()?;
    let mut helper = Helper::doing(&Task::Hold { count: 3 }, None)?;
    let iovas = helper.numbers()?;
    let before = rig.peek(iovas[2])?;
    expect::holds("the device reads there", before.is_some())?;
    helper.tell("exec-keeping")?;
    expect::equal("the answer before", helper.line()?.as_str(), "next")?;
    helper.tell("here")?;
    expect::equal("the new program's answer", helper.line()?.as_str(), "here")?;
    expect::equal("what the device reads", rig.peek(iovas[2])?, before)?;
    expect::equal("pins", ledger::pins()?, pins + 3)?;
    helper.kill()?;
    gone(&mut rig, &iovas, pins)
}

fn sent_by_a_process_that_ended(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let pins = ledger::pins()?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut helper = Helper::doing_with(&Task::Send, Some(theirs.as_fd()))?;
    let iova = helper.numbers()?[0];
    drop(theirs);
    helper.kill()?;
    // It is nobody's now, but on its way.
    let seen = rig.peek(iova)?;
    expect::holds("the device reads there", seen.is_some())?;
    let context = Context::from(receive_descriptor(&ours)?);
    expect::equal("what the device reads", rig.peek(iova)?, seen)?;
    let found = expect::succeeds("QUERY", context.mappings())?;
    expect::equal("mappings", found.len(), 1)?;
    expect::equal("where", found[0].iova, iova)?;
    // Who has the file may undo what was mapped through it.
    expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
    gone(&mut rig, &[iova], pins)
}

fn on_its_way_through_a_socket(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let (near, far) = UnixStream::pair()?;
    let memory = UserMemory::scattered(PAGE)?;
    let context = Context::open()?;
    let iova = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
    send_descriptor(&near, &context)?;
    drop(context);
    rig.reaches(iova, &memory)?;
    let context = Context::from(receive_descriptor(&far)?);
    rig.reaches(iova, &memory)?;
    let answer = context.unmap_user(memory.va(), PAGE_U64);
    expect::succeeds("unmap", answer)?;
    rig.refused(iova, &memory)
}

/// Nobody ever receives it: the mapping goes with the socket, and keeps the module until then.
fn lost_with_its_socket(host: &Host) -> Result<()> {
    let pins = ledger::pins()?;
    let (near, far) = UnixStream::pair()?;
    let memory = UserMemory::scattered(PAGE)?;
    let context = Context::open()?;
    let iova = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
    send_descriptor(&near, &context)?;
    drop((context, near));
    let mut rig = Rig::new(host)?;
    rig.reaches(iova, &memory)?;
    drop(rig);
    expect::holds(
        "the module cannot be removed",
        module::unload(QAT_IOMMU).is_err(),
    )?;
    drop(far);
    gone(&mut Rig::new(host)?, &[iova], pins)
}
