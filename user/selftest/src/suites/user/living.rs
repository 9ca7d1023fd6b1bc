// SPDX-License-Identifier: GPL-2.0
//! What a program may do with mapped memory, and how it may end, while the device
//! keeps seeing the pages that were pinned, until the mapping goes.

use anyhow::Result;
use rustix::io::Errno;
use rustix::mm::Advice;
use std::time::Duration;

use super::{full_tables_end_qemu, nothing_mapped, Rig, PAGE_U64};
use crate::abi::Context;
use crate::expect;
use crate::helper::{user::Task, Helper};
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::libc_calls::Forked;
use crate::mem::user::UserMemory;
use crate::mem::{fresh_bytes, Memory, HUGE, PAGE};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        unmapped_from_the_process,
        moved_in_the_process,
        contents_given_up,
        replaced_in_the_process,
        forked_parent_keeps_its_pages,
        forked_child_sees_its_copy,
        forked_child_keeps_the_file,
        closing,
        closing_with_some_unmapped,
        a_duplicate_keeps_mappings,
        exit_with_a_thousand,
        killed_with_a_thousand,
        killed_in_the_middle,
        exec,
        another_process_is_charged_for_its_own,
    ]
}

/// The few that also run on devices that take long over each transfer.
pub fn essential_tests() -> Vec<Test<Host>> {
    list_tests![contents_given_up, closing]
}

fn unmapped_from_the_process(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let iova = rig.map(&memory)?;
    let written = fresh_bytes(64);
    memory.write(PAGE, &written);
    let (va, length) = (memory.va(), memory.length());
    drop(memory);
    rig.sees(iova + PAGE_U64, &written)?;
    // It is nobody else's meanwhile: what comes to that address is other memory.
    let other = UserMemory::scattered(4 * PAGE)?;
    other.touch();
    let before = other.read(PAGE, 64);
    let stored = rig.poke(iova + PAGE_U64)?;
    expect::equal("other memory", other.read(PAGE, 64), before)?;
    rig.sees(iova + PAGE_U64, &stored)?;
    let answer = rig.context().unmap_user(va, length);
    expect::succeeds("unmap of what is not there any more", answer)?;
    rig.refused(iova, &other)
}

fn moved_in_the_process(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let iova = rig.map(&memory)?;
    let (va, length) = (memory.va(), memory.length());
    let memory = memory.moved()?;
    expect::holds("it has another address", memory.va() != va)?;
    // The pages went along.
    rig.reaches(iova, &memory)?;
    let answer = rig.context().unmap_user(memory.va(), length);
    expect::fails("unmap by the new address", answer, Errno::NOENT)?;
    let answer = rig.context().unmap_user(va, length);
    expect::succeeds("unmap by the address that was mapped", answer)?;
    rig.refused(iova, &memory)
}

/// The process gets new pages, the device keeps the old ones.
fn contents_given_up(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    let iova = rig.map(&memory)?;
    let written = fresh_bytes(64);
    memory.write(0, &written);
    memory.advise(Advice::LinuxDontNeed)?;
    expect::equal("what the process has", memory.read(0, 64), vec![0; 64])?;
    rig.sees(iova, &written)?;
    rig.poke(iova)?;
    expect::equal("what the process has", memory.read(0, 64), vec![0; 64])?;
    // A second mapping sees the new pages.
    let newer = rig.map(&memory)?;
    rig.reaches(newer, &memory)?;
    rig.unmap(&memory)?;
    rig.unmap(&memory)?;
    rig.refused(iova, &memory)
}

fn replaced_in_the_process(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let iova = rig.map(&memory)?;
    let written = fresh_bytes(64);
    memory.write(2 * PAGE, &written);
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let (_, file) = UserMemory::memfd(PAGE, flags)?;
    memory.overlay(2 * PAGE, PAGE, &file, rustix::mm::MapFlags::SHARED)?;
    expect::equal("the new page", memory.read(2 * PAGE, 64), vec![0; 64])?;
    rig.sees(iova + 2 * PAGE_U64, &written)?;
    rig.unmap(&memory)?;
    rig.refused(iova, &memory)
}

/// Parent and device go on with the same pages, whoever writes first.
fn forked_parent_keeps_its_pages(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    for huge in [false, true] {
        let memory = match huge {
            false => UserMemory::scattered(4 * PAGE)?,
            true => UserMemory::transparent(HUGE)?,
        };
        let iova = rig.map(&memory)?;
        let (go, tell) = rustix::pipe::pipe()?;
        let child = Forked::new(|| {
            // The child writes to what it has of the buffer, and lives while the parent looks.
            memory.write(PAGE, &[0xcc; 64]);
            let mut word = [0];
            i32::from(rustix::io::read(&go, &mut word) != Ok(1))
        })?;
        let looked = (|| {
            rig.reaches(iova, &memory)?;
            for offset in [0, PAGE, 3 * PAGE] {
                rig.reaches_at(iova, &memory, offset)?;
            }
            Ok::<_, anyhow::Error>(())
        })();
        rustix::io::write(&tell, &[1])?;
        child.wait()?;
        looked?;
        rig.reaches(iova, &memory)?;
        rig.unmap(&memory)?;
        rig.refused(iova, &memory)?;
    }
    Ok(())
}

/// The child has what was there at the fork, and never what the device writes afterwards.
fn forked_child_sees_its_copy(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    let iova = rig.map(&memory)?;
    let written = fresh_bytes(64);
    memory.write(0, &written);
    let (go, tell) = rustix::pipe::pipe()?;
    let want = u64::from_ne_bytes(written[..8].try_into()?);
    let child = Forked::new(|| {
        let mut word = [0];
        let told = rustix::io::read(&go, &mut word) == Ok(1);
        // SAFETY: inside the buffer, of which this process has a copy.
        let found = unsafe { memory.word(0).read_volatile() };
        i32::from(!told || found != want)
    })?;
    let stored = rig.poke(iova)?;
    expect::equal("what the parent has", memory.read(0, 64), stored)?;
    rustix::io::write(&tell, &[1])?;
    child.wait()?;
    rig.unmap(&memory)
}

/// The mapping lives as long as some process has the file.
fn forked_child_keeps_the_file(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(PAGE)?;
    let context = Context::open()?;
    let iova = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
    let (go, tell) = rustix::pipe::pipe()?;
    let child = Forked::new(|| {
        let mut word = [0];
        i32::from(rustix::io::read(&go, &mut word) != Ok(1))
    })?;
    drop(context);
    rig.reaches(iova, &memory)?;
    rustix::io::write(&tell, &[1])?;
    child.wait()?;
    rig.refused(iova, &memory)
}

fn closing(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(3 * PAGE)?;
    let before = (ledger::pins()?, ledger::locked()?);
    let context = Context::open()?;
    let answer = context.map_user(memory.va(), memory.length());
    let iova = expect::succeeds("map", answer)?;
    rig.reaches(iova, &memory)?;
    expect::equal("pins", ledger::pins()?, before.0 + 3)?;
    expect::equal("locked KiB", ledger::locked()?, before.1 + 12)?;
    drop(context);
    rig.refused(iova, &memory)?;
    expect::equal("pins", ledger::pins()?, before.0)?;
    expect::equal("locked KiB", ledger::locked()?, before.1)
}

/// However some of them were unmapped, closing takes the rest.
fn closing_with_some_unmapped(host: &Host) -> Result<()> {
    type Unmap = fn(&Context, &UserMemory, u64) -> Result<(), Errno>;
    let ways: [(&str, Unmap); 2] = [
        ("by address", |context, memory, _| {
            context.unmap_user(memory.va(), memory.length())
        }),
        ("by IOVA", |context, memory, iova| {
            context.unmap(iova, memory.length())
        }),
    ];
    let mut rig = Rig::new(host)?;
    let (one, other) = (UserMemory::scattered(PAGE)?, UserMemory::scattered(PAGE)?);
    for (way, unmap) in ways {
        let pins = ledger::pins()?;
        let context = Context::open()?;
        let gone = expect::succeeds("map", context.map_user(one.va(), one.length()))?;
        let iova = expect::succeeds("map", context.map_user(other.va(), other.length()))?;
        expect::succeeds(way, unmap(&context, &one, gone))?;
        rig.reaches(iova, &other)?;
        drop(context);
        rig.refused(iova, &other)?;
        expect::equal(way, ledger::pins()?, pins)?;
    }
    Ok(())
}

fn a_duplicate_keeps_mappings(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(PAGE)?;
    let context = Context::open()?;
    let iova = expect::succeeds("map", context.map_user(memory.va(), PAGE_U64))?;
    let duplicate = context.duplicate()?;
    drop(context);
    rig.reaches(iova, &memory)?;
    expect::succeeds("unmap", duplicate.unmap_user(memory.va(), PAGE_U64))?;
    rig.refused(iova, &memory)
}

/// What a process had mapped when it ended is out of reach, and its memory is free.
fn gone(rig: &mut Rig, iovas: &[u64], pins: i64) -> Result<()> {
    let memory = UserMemory::scattered(PAGE)?;
    for iova in iovas {
        rig.refused(*iova, &memory)?;
    }
    expect::equal("pins", ledger::pins()?, pins)
}

fn exit_with_a_thousand(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let pins = ledger::pins()?;
    let mut helper = Helper::doing(&Task::Hold { count: 1000 }, None)?;
    let iovas = helper.numbers()?;
    expect::holds("the device reads there", rig.peek(iovas[0])?.is_some())?;
    expect::equal("pins", ledger::pins()?, pins + 1000)?;
    helper.tell("exit")?;
    helper.wait()?;
    gone(&mut rig, &iovas, pins)
}

fn killed_with_a_thousand(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let pins = ledger::pins()?;
    let mut helper = Helper::doing(&Task::Hold { count: 1000 }, None)?;
    let iovas = helper.numbers()?;
    expect::holds("the device reads there", rig.peek(iovas[1])?.is_some())?;
    helper.kill()?;
    gone(&mut rig, &iovas, pins)
}

fn killed_in_the_middle(host: &Host) -> Result<()> {
    let pins = ledger::pins()?;
    for delay in [0, 5, 20, 50, 120] {
        let large = full_tables_end_qemu(host);
        let mut helper = Helper::doing(&Task::MapForever { mib: 64, large }, None)?;
        expect::equal("what it says", helper.line()?.as_str(), "mapping")?;
        std::thread::sleep(Duration::from_millis(delay));
        helper.kill()?;
        expect::equal("pins", ledger::pins()?, pins)?;
    }
    Ok(())
}

fn exec(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let pins = ledger::pins()?;
    let mut helper = Helper::doing(&Task::Hold { count: 3 }, None)?;
    let iovas = helper.numbers()?;
    helper.tell("exec")?;
    expect::equal("the answer before", helper.line()?.as_str(), "next")?;
    helper.tell("here")?;
    expect::equal("the new program's answer", helper.line()?.as_str(), "here")?;
    gone(&mut rig, &iovas, pins)
}

/// A process that maps through a file it was given is charged itself, and only it, even if the
/// mapping outlives it.
fn another_process_is_charged_for_its_own(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let before = ledger::locked()?;
    let mut helper = Helper::doing(&Task::Hold { count: 10 }, Some(rig.context()))?;
    let iovas = helper.numbers()?;
    expect::equal("locked KiB of this process", ledger::locked()?, before)?;
    let all = expect::succeeds("QUERY", rig.context().mappings())?;
    expect::equal("mappings of the common context", all.len(), 10)?;
    // This process can undo what the other did; the charge goes from the other.
    let answer = rig.context().unmap(iovas[0], PAGE_U64);
    expect::succeeds("unmap", answer)?;
    expect::equal("locked KiB of this process", ledger::locked()?, before)?;
    helper.tell("locked")?;
    expect::equal("locked KiB of the other", helper.line()?.as_str(), "36")?;
    helper.tell("exit")?;
    helper.wait()?;
    expect::holds("the device reads there", rig.peek(iovas[1])?.is_some())?;
    for iova in &iovas[1..] {
        let answer = rig.context().unmap(*iova, PAGE_U64);
        expect::succeeds("unmap after the other's end", answer)?;
    }
    expect::equal("locked KiB of this process", ledger::locked()?, before)?;
    nothing_mapped(rig.context())
}
