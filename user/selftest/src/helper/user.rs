// SPDX-License-Identifier: GPL-2.0
//! What second processes do with buffers of their own.

use anyhow::{bail, ensure, Result};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, FdFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::process::{Resource, Rlimit};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{heard, hex, inherited, say};
use crate::abi::Context;
use crate::credentials::become_nobody;
use crate::expect;
use crate::ledger;
use crate::libc_calls;
use crate::mem::user::UserMemory;
use crate::mem::{fresh_bytes, Memory, PAGE};

/// A task, and its arguments as the command line has them.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Task {
    /// Map as many pages, each by itself, and do what standard input says
    Hold { count: usize },
    /// Map and unmap one large buffer again and again
    MapForever {
        mib: usize,
        /// In large pages
        #[arg(long)]
        large: bool,
    },
    /// Be interrupted by a signal while mapping a large buffer
    Interrupted { mib: usize, after_ms: u64 },
    /// Go to the limit of locked memory, as nobody
    Limited,
    /// The same with many buffers at once
    LimitedBatch,
    /// Map a buffer whose page nobody provides
    Stuck,
    /// Map a buffer of a file whose contents nobody provides
    StuckFile { file: PathBuf },
    /// Try what takes a privilege, as the superuser of a user namespace of its own
    Unshared,
    /// Map a page, and try to map another in a sandbox
    Sandboxed,
    /// Try to map a page a million times, as nobody
    Million,
    /// Map a private and a shared buffer and go on as a daemon, until standard input ends
    Daemon,
    /// Map a page, send the context through the socket that `fd` is, and end
    Send,
    /// Map large buffers, or one page ever again, with the memory of this cgroup
    Confined { cgroup: PathBuf, what: Confined },
}

/// What uses up the memory of a cgroup.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Confined {
    /// The pages of a buffer, which are not there before they are pinned
    Pages,
    /// What the kernel keeps for each mapping
    Records,
    /// Nothing: a thousand mappings with a table of the IOMMU's each
    Tables,
}

impl Task {
    pub(super) fn arguments(&self) -> Vec<String> {
        let words = match self {
            Self::Hold { count } => format!("hold {count}"),
            Self::MapForever { mib, large: false } => format!("map-forever {mib}"),
            Self::MapForever { mib, large: true } => format!("map-forever {mib} --large"),
            Self::Interrupted { mib, after_ms } => format!("interrupted {mib} {after_ms}"),
            Self::Limited => "limited".to_owned(),
            Self::LimitedBatch => "limited-batch".to_owned(),
            Self::Stuck => "stuck".to_owned(),
            Self::StuckFile { file } => format!("stuck-file {}", file.display()),
            Self::Unshared => "unshared".to_owned(),
            Self::Sandboxed => "sandboxed".to_owned(),
            Self::Million => "million".to_owned(),
            Self::Daemon => "daemon".to_owned(),
            Self::Send => "send".to_owned(),
            Self::Confined { cgroup, what } => {
                let what = match what {
                    Confined::Pages => "pages",
                    Confined::Records => "records",
                    Confined::Tables => "tables",
                };
                format!("confined {} {what}", cgroup.display())
            }
        };
        words.split(' ').map(str::to_owned).collect()
    }
}

/// Runs one task, through a file of its own or one that it was given.
pub(super) fn run(task: &Task, fd: Option<i32>) -> Result<()> {
    let context = match (task, fd) {
        (Task::Send, Some(number)) => return send(&inherited(number)?),
        (_, Some(number)) => inherited(number)?.into(),
        (_, None) => Context::open()?,
    };
    match task {
        Task::Hold { count } => hold(&context, *count),
        Task::MapForever { mib, large } => map_forever(&context, *mib, *large),
        Task::Interrupted { mib, after_ms } => {
            interrupted(&context, *mib, Duration::from_millis(*after_ms))
        }
        Task::Limited => limited(&context),
        Task::LimitedBatch => limited_batch(&context),
        Task::Stuck => stuck(&context),
        Task::StuckFile { file } => stuck_file(&context, file),
        Task::Unshared => unshared(&context),
        Task::Sandboxed => sandboxed(&context),
        Task::Million => million(&context),
        Task::Daemon => daemon(&context),
        Task::Send => bail!("no socket to send through"),
        Task::Confined { cgroup, what } => confined(&context, cgroup, *what),
    }
}

fn hold(context: &Context, count: usize) -> Result<()> {
    let memory = UserMemory::scattered(count * PAGE)?;
    let mut iovas = Vec::new();
    for page in 0..count {
        memory.write(page * PAGE, &fresh_bytes(64));
        let va = memory.va() + u64::try_from(page * PAGE)?;
        let iova = expect::succeeds("map", context.map_user(va, u64::try_from(PAGE)?))?;
        iovas.push(format!("{iova:x}"));
    }
    say(&iovas.join(" "))?;
    loop {
        match heard()?.as_str() {
            "locked" => say(&ledger::locked()?.to_string())?,
            "exec" => {
                say("next")?;
                bail!("exec: {}", Command::new("cat").exec())
            }
            "exec-keeping" => {
                rustix::io::fcntl_setfd(context, FdFlags::empty())?;
                say("next")?;
                bail!("exec: {}", Command::new("cat").exec())
            }
            // Without running destructors: the kernel cleans up.
            _ => std::process::exit(0),
        }
    }
}

fn map_forever(context: &Context, mib: usize, large: bool) -> Result<()> {
    let memory = match large {
        true => UserMemory::transparent(mib << 20)?,
        false => UserMemory::scattered(mib << 20)?,
    };
    say("mapping")?;
    loop {
        expect::succeeds("map", context.map_user(memory.va(), memory.length()))?;
        let answer = context.unmap_user(memory.va(), memory.length());
        expect::succeeds("unmap", answer)?;
        memory.advise(Advice::LinuxDontNeed)?;
    }
}

fn interrupted(context: &Context, mib: usize, after: Duration) -> Result<()> {
    let memory = UserMemory::scattered(mib << 20)?;
    let pins = ledger::pins()?;
    libc_calls::interrupt_after(after)?;
    let answer = context.map_user(memory.va(), memory.length());
    expect::fails("the interrupted map", answer, rustix::io::Errno::INTR)?;
    expect::equal("mappings", context.mappings()?.len(), 0)?;
    expect::equal("pins", ledger::pins()?, pins)?;
    expect::equal("locked memory", ledger::locked()?, 0)?;
    // The context is as good as new.
    let length = 1 << 20;
    expect::succeeds("the next map", context.map_user(memory.va(), length))?;
    expect::equal("locked KiB", ledger::locked()?, 1024)?;
    say("ok")
}

/// Sets the limit of locked memory, in KiB, and becomes nobody.
fn limit(kib: u64) -> Result<()> {
    let bytes = Some(kib << 10);
    let limit = Rlimit {
        current: bytes,
        maximum: bytes,
    };
    rustix::process::setrlimit(Resource::Memlock, limit)?;
    become_nobody()
}

fn limited(context: &Context) -> Result<()> {
    let memory = UserMemory::scattered(2 << 20)?;
    limit(1024)?;
    let (va, half, page) = (memory.va(), 512 << 10, 4096);
    let locked = |want: u64| expect::equal("locked KiB", ledger::locked()?, want);
    let refuses = |va: u64, length: u64, locked_kib: u64| {
        let what = format!("map of {length} bytes with {locked_kib} KiB locked");
        let answer = context.map_user(va, length);
        expect::fails(&what, answer, rustix::io::Errno::NOMEM)?;
        expect::equal("locked KiB", ledger::locked()?, locked_kib)
    };
    refuses(va, 1 << 21, 0)?;
    refuses(va, (1 << 20) + 1, 0)?;
    expect::succeeds("map of the first half", context.map_user(va, half))?;
    locked(512)?;
    refuses(va + half, half + 1, 512)?;
    // The same pages count again: each mapping has its own pins.
    expect::succeeds("map of the same half", context.map_user(va, half))?;
    locked(1024)?;
    refuses(va + half, 1, 1024)?;
    refuses(va, page, 1024)?;
    expect::equal("mappings", context.mappings()?.len(), 2)?;
    expect::succeeds("unmap", context.unmap_user(va, half))?;
    locked(512)?;
    expect::succeeds("map of a page", context.map_user(va, page))?;
    refuses(va, half, 516)?;
    say("ok")
}

fn limited_batch(context: &Context) -> Result<()> {
    let memory = UserMemory::scattered(400 * PAGE)?;
    limit(1024)?;
    let places = |count: u64| -> Vec<_> {
        (0..count)
            .map(|page| (memory.va() + page * 4096, 4096))
            .collect()
    };
    let refused = context.map_batch(&places(400));
    let want = crate::abi::user::Refused {
        error: rustix::io::Errno::NOMEM,
        at: 256,
    };
    expect::equal("a batch beyond the limit", refused, Err(want))?;
    expect::equal("locked KiB", ledger::locked()?, 0)?;
    expect::equal("mappings", context.mappings()?.len(), 0)?;
    let mapped = context.map_batch(&places(256));
    expect::equal(
        "a batch up to the limit",
        mapped.map(|all| all.len()),
        Ok(256),
    )?;
    expect::equal("locked KiB", ledger::locked()?, 1024)?;
    say("ok")
}

/// Maps memory whose page fault a file descriptor is to handle that nobody reads.
fn stuck(context: &Context) -> Result<()> {
    let memory = UserMemory::scattered(4 * PAGE)?;
    let _faults = libc_calls::hold_faults(memory.start(), memory.len())?;
    say("mapping")?;
    let answer = context.map_user(memory.va(), memory.length());
    ensure!(answer.is_err(), "the buffer was mapped without its pages");
    say("refused")
}

/// Maps memory of a file; to read it takes an answer that nobody gives.
fn stuck_file(context: &Context, file: &Path) -> Result<()> {
    let file = std::fs::File::open(file)?;
    let memory = UserMemory::of_file(file, 4 * PAGE, ProtFlags::READ, MapFlags::PRIVATE)?;
    say("mapping")?;
    let answer = context.map_user_with(memory.va(), memory.length(), crate::abi::READ);
    ensure!(answer.is_err(), "the buffer was mapped without its pages");
    say("refused")
}

/// In a namespace of its own it has every capability; none of them counts.
fn unshared(context: &Context) -> Result<()> {
    let memory = UserMemory::scattered(32 * PAGE)?;
    let page = crate::mem::Buffer::page()?;
    let limit = Some(16 * 4096);
    rustix::process::setrlimit(
        Resource::Memlock,
        Rlimit {
            current: limit,
            maximum: limit,
        },
    )?;
    // SAFETY: only the user namespace changes; no descriptor table is parted from another's.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER) }?;
    let capabilities = rustix::thread::capabilities(None)?.effective;
    ensure!(
        capabilities.contains(rustix::thread::CapabilitySet::SYS_RAWIO),
        "the namespace gives no capabilities"
    );
    let refused = Errno::PERM;
    let iova = crate::dma::fresh_iova(1);
    let answer = context.map(page.phys(), iova, 4096);
    expect::fails("a physical map", answer, refused)?;
    let answer = context.map_user_at(memory.va(), 4096, iova);
    expect::fails("a fixed map", answer, refused)?;
    let mut force = qat_iommu_uapi::qat_iommu_unmap {
        flags: qat_iommu_uapi::QAT_IOMMU_UNMAP_FORCE,
        ..crate::abi::unmap_request(iova, 4096)
    };
    let answer = context.ioctl(qat_iommu_uapi::QAT_IOMMU_UNMAP, &mut force);
    expect::fails("a forced unmap", answer, refused)?;
    let answer = context.map_user(memory.va(), memory.length());
    expect::fails("a map beyond the limit", answer, Errno::NOMEM)?;
    expect::succeeds("a map within it", context.map_user(memory.va(), 8 * 4096))?;
    say("ok")
}

fn sandboxed(context: &Context) -> Result<()> {
    let memory = UserMemory::scattered(2 * PAGE)?;
    memory.touch();
    let iova = expect::succeeds("map", context.map_user(memory.va(), 4096))?;
    say(&format!("{iova:x}"))?;
    heard()?;
    libc_calls::sandbox()?;
    let answer = context.map_user(memory.va(), 4096);
    say(&format!("still here: {answer:?}"))
}

/// As many mappings of one page as the limit has pages, and no more, however often it is tried.
fn million(context: &Context) -> Result<()> {
    const MOST: usize = 8192;
    const BATCH: usize = 65_536;
    let memory = UserMemory::scattered(PAGE)?;
    limit(MOST as u64 * 4)?;
    let place = (memory.va(), 4096);
    for count in (0..MOST).step_by(1024) {
        let answer = context.map_batch(&[place; 1024]);
        let answer = answer.map_err(|refused| refused.error);
        expect::succeeds(&format!("mappings from {count} on"), answer)?;
    }
    for _ in 0..1_000_000 / BATCH {
        let answer = context.map_batch(&vec![place; BATCH]);
        let want = crate::abi::user::Refused {
            error: Errno::NOMEM,
            at: 0,
        };
        expect::equal("one more", answer.map(|all| all.len()), Err(want))?;
    }
    for _ in 0..1000 {
        expect::fails("one more", context.map_user(place.0, place.1), Errno::NOMEM)?;
    }
    expect::equal("locked KiB", ledger::locked()?, MOST as u64 * 4)?;
    expect::equal("mappings", context.mappings()?.len(), MOST)?;
    say("ok")
}

/// Answers what its buffers hold, and undoes them, after its parent, which mapped them, has ended.
fn daemon(context: &Context) -> Result<()> {
    let private = UserMemory::scattered(PAGE)?;
    let (shared, _file) = UserMemory::memfd(PAGE, rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut iovas = Vec::new();
    for memory in [&private, &shared] {
        memory.write(0, &fresh_bytes(64));
        let answer = context.map_user(memory.va(), memory.length());
        iovas.push(format!("{:x}", expect::succeeds("map", answer)?));
    }
    say(&iovas.join(" "))?;
    libc_calls::daemonise()?;
    loop {
        match heard()?.as_str() {
            "private" => say(&hex(&private.read(0, 64)))?,
            "shared" => say(&hex(&shared.read(0, 64)))?,
            "map" => {
                private.write(0, &fresh_bytes(64));
                let answer = context.map_user(private.va(), private.length());
                say(&format!("{:x}", expect::succeeds("map", answer)?))?;
            }
            "unmap" => {
                let answer = context.unmap_user(shared.va(), shared.length());
                say(&answer.map_or_else(expect::name, |()| "done".to_owned()))?;
            }
            _ => return Ok(()),
        }
    }
}

fn send(socket: &OwnedFd) -> Result<()> {
    let context = Context::open()?;
    let memory = UserMemory::scattered(PAGE)?;
    memory.write(0, &fresh_bytes(64));
    let iova = expect::succeeds("map", context.map_user(memory.va(), memory.length()))?;
    libc_calls::send_descriptor(socket, &context)?;
    say(&format!("{iova:x}"))?;
    heard()?;
    Ok(())
}

/// Ends, but for the tables, in one of two ways, both good: the memory is refused, or the kernel kills this process.
fn confined(context: &Context, cgroup: &Path, what: Confined) -> Result<()> {
    let memory = match what {
        Confined::Pages => UserMemory::scattered(256 << 20)?,
        Confined::Records | Confined::Tables => UserMemory::scattered(PAGE)?,
    };
    std::fs::write(cgroup.join("cgroup.procs"), "0")?;
    say("mapping")?;
    if let Confined::Tables = what {
        for _ in 0..1000 {
            let answer = context.map_user_aligned(memory.va(), memory.length(), 2 << 20);
            expect::succeeds("map", answer)?;
        }
        say("mapped")?;
        heard()?;
        return Ok(());
    }
    // More than the cgroup has room for, if what the kernel keeps for each counts at all.
    let refused = (0..100_000).find_map(|_| context.map_user(memory.va(), memory.length()).err());
    say(&refused.map_or_else(|| "no end".to_owned(), expect::name))?;
    heard()?;
    Ok(())
}
