// SPDX-License-Identifier: GPL-2.0
//! Who may do what: members of the node's group and strangers, the superuser of a user
//! namespace, a sandboxed process; and physical addresses of what is the kernel's or somebody
//! else's.

use anyhow::{Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::fs::{Gid, Mode};
use rustix::io::Errno;
use std::fs;

use crate::abi::{self, Context, NODE};
use crate::credentials::{apart, become_member, become_nobody};
use crate::dma::fresh_iova;
use crate::expect;
use crate::helper::{user::Task, Helper};
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::{Buffer, PAGE};
use crate::suites::user::Rig;

const PAGE_U64: u64 = 4096;
/// A group that nobody is in.
const GROUP: u32 = 7_115;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        members_of_the_group_and_no_others,
        a_user_namespace_gives_nothing,
        killed_in_a_sandbox,
        kernel_text_by_its_address,
        memory_of_another_process_by_its_address,
    ]
}

/// The node as the udev rule leaves it, until this goes.
struct ForGroup(rustix::fs::Stat);

impl ForGroup {
    fn new() -> Result<Self> {
        let before = Self(rustix::fs::stat(NODE)?);
        rustix::fs::chown(NODE, None, Some(Gid::from_raw(GROUP)))?;
        rustix::fs::chmod(NODE, Mode::from_raw_mode(0o660))?;
        Ok(before)
    }
}

impl Drop for ForGroup {
    fn drop(&mut self) {
        // It was so before, so it can be so again.
        let _ = rustix::fs::chmod(NODE, Mode::from_raw_mode(self.0.st_mode & 0o777));
        let _ = rustix::fs::chown(NODE, None, Some(Gid::from_raw(self.0.st_gid)));
    }
}

/// What takes a capability is refused to this context's caller, however it is asked for.
fn has_no_privilege(context: &Context, who: &str, memory: &UserMemory, phys: u64) -> Result<()> {
    let iova = fresh_iova(1);
    let refused = |what: &str, answer: Result<(), Errno>| {
        expect::fails(&format!("{what} by {who}"), answer, Errno::PERM)
    };
    refused(
        "a physical map",
        context.map(phys, iova, PAGE_U64).map(drop),
    )?;
    let fixed = context.map_user_at(memory.va(), PAGE_U64, iova);
    refused("a fixed map", fixed.map(drop))?;
    let mut force = uapi::qat_iommu_unmap {
        flags: uapi::QAT_IOMMU_UNMAP_FORCE,
        ..abi::unmap_request(iova, PAGE_U64)
    };
    refused(
        "a forced unmap",
        context.ioctl(uapi::QAT_IOMMU_UNMAP, &mut force),
    )
}

fn members_of_the_group_and_no_others(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let phys = Buffer::page()?.phys();
    let memory = UserMemory::scattered(2 * PAGE)?;
    let _for_group = ForGroup::new()?;
    apart(|| {
        become_nobody()?;
        let answer = Context::try_open().map(drop);
        expect::fails("open by a stranger", answer, Errno::ACCESS)
    })?;
    let (context, iova) = apart(|| {
        become_member(GROUP)?;
        let context = Context::open()?;
        let answer = context.map_user(memory.va(), memory.length());
        let iova = expect::succeeds("map by a member", answer)?;
        has_no_privilege(&context, "a member", &memory, phys)?;
        Ok((context, iova))
    })?;
    rig.reaches(iova, &memory)?;
    apart(|| {
        become_member(GROUP)?;
        // Another member has nothing to do with it.
        let other = Context::open()?;
        expect::succeeds("QUERY", other.mappings())
            .and_then(|all| expect::equal("what another member sees", all.len(), 0))?;
        let answer = other.unmap(iova, memory.length());
        expect::fails("unmap by another member", answer, Errno::NOENT)
    })?;
    rig.reaches(iova, &memory)?;
    drop(context);
    rig.refused(iova, &memory)
}

/// In its namespace it has every capability, and here none.
fn a_user_namespace_gives_nothing(_: &Host) -> Result<()> {
    Helper::succeeds(&Task::Unshared, None)
}

/// A system call that the sandbox forbids ends the process, and its mappings with it.
fn killed_in_a_sandbox(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let pins = ledger::pins()?;
    let mut helper = Helper::doing(&Task::Sandboxed, None)?;
    let iova = helper.numbers()?[0];
    let seen = rig.peek(iova)?;
    expect::holds("the device reads there", seen.is_some())?;
    helper.tell("map")?;
    expect::equal("the signal that ended it", helper.signal()?, Some(9))?;
    expect::equal("what the device reads", rig.peek(iova)?, None)?;
    expect::equal("pins", ledger::pins()?, pins)
}

/// Where the kernel's code is.
fn kernel_text() -> Result<u64> {
    let text = fs::read_to_string("/proc/iomem")?;
    let line = text
        .lines()
        .find(|line| line.ends_with(" : Kernel code"))
        .context("/proc/iomem has no kernel code")?;
    let first = line.trim().split('-').next().unwrap_or_default();
    Ok(u64::from_str_radix(first, 16)? & !(PAGE_U64 - 1))
}

/// Its address is of no use to who lacks the capability; who has it may map all RAM, and the PF
/// then reads what it was allowed to read and cannot write it.
fn only_by_the_privileged(host: &Host, phys: u64) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    apart(|| {
        become_nobody()?;
        has_no_privilege(&context, "nobody with the file", &memory, phys)
    })?;
    let iova = fresh_iova(1);
    let answer = context.map_with(phys, iova, PAGE_U64, abi::READ);
    expect::succeeds("map by the superuser", answer)?;
    expect::holds("the device reads there", rig.peek(iova)?.is_some())?;
    expect::holds("the device cannot write there", rig.poke(iova).is_err())?;
    expect::succeeds("unmap", context.unmap(iova, PAGE_U64))?;
    expect::equal("what the device reads then", rig.peek(iova)?, None)
}

fn kernel_text_by_its_address(host: &Host) -> Result<()> {
    only_by_the_privileged(host, kernel_text()?)
}

fn memory_of_another_process_by_its_address(host: &Host) -> Result<()> {
    let victim = Helper::holding(fresh_iova(crate::helper::HELD))?;
    only_by_the_privileged(host, victim.phys[0])?;
    victim.kill()
}
