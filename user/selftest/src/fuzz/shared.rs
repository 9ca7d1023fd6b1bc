// SPDX-License-Identifier: GPL-2.0
//! What the workers of all processes share: one piece of memory with the meeting point at
//! which rounds begin and end, the lock of the PF's one DMA engine, the places that they
//! compete for, what each has mapped, and what was counted. Atomics only; no locks besides
//! the engine's, which is held for one transfer.

use anyhow::{bail, ensure, Context as _, Result};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How many workers there can be.
pub const MOST_WORKERS: usize = 8;
/// How many mappings each can publish.
const MOST_LISTED: usize = 4096;
/// How many places all workers compete for.
pub const CONTENDED: usize = 8;
/// The highest errno, and one more.
const ERRNOS: usize = 134;
/// How long who waits for the others does not look for them, at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// If nobody arrives for so long, something hangs.
const HANGS: Duration = Duration::from_secs(300);

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub enum Count {
    Operations,
    Maps,
    Unmaps,
    Checks,
    Refusals,
    Pages,
    Contended,
    Forks,
    Malformed,
    Batches,
}

/// What is counted, and its name in the summary.
pub const COUNTS: [(Count, &str); 10] = [
    (Count::Operations, "operations"),
    (Count::Maps, "successful maps"),
    (Count::Unmaps, "successful unmaps"),
    (Count::Checks, "DMA checks after operations"),
    (Count::Refusals, "of which DMA had to be refused"),
    (Count::Pages, "mappings compared by DMA between rounds"),
    (Count::Contended, "competing for one place"),
    (Count::Forks, "child processes"),
    (Count::Malformed, "malformed"),
    (Count::Batches, "successful batches"),
];

/// Successes at a place that all compete for.
#[derive(Default)]
struct Contest {
    maps: AtomicU64,
    unmaps: AtomicU64,
}

/// One mapping as its worker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub first: u64,
    pub length: u64,
    pub flags: u32,
    /// Its pages are pinned.
    pub user: bool,
}

struct List {
    length: AtomicU64,
    entries: [[AtomicU64; 3]; MOST_LISTED],
}

struct Board {
    engine: AtomicU32,
    arrived: AtomicU32,
    meetings: AtomicU32,
    stopped: AtomicU32,
    contests: [Contest; CONTENDED],
    counts: [AtomicU64; COUNTS.len()],
    errnos: [AtomicU64; ERRNOS],
    lists: [List; MOST_WORKERS],
}

/// The shared memory.
pub struct Shared {
    board: NonNull<Board>,
    file: OwnedFd,
    /// How many meet.
    parties: u32,
}

// SAFETY: the board consists of atomics only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// A new one, all zero.
    pub fn new(workers: usize) -> Result<Self> {
        ensure!(workers <= MOST_WORKERS, "at most {MOST_WORKERS} workers");
        let file = rustix::fs::memfd_create("qat-iommu-fuzz", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, u64::try_from(size_of::<Board>())?)?;
        Self::open(file, workers)
    }

    /// That of the process which made it.
    pub fn open(file: OwnedFd, workers: usize) -> Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size_of::<Board>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        let board = NonNull::new(start.cast()).context("mapped at 0")?;
        let parties = u32::try_from(workers)? + 1;
        Ok(Self {
            board,
            file,
            parties,
        })
    }

    /// Lets a child have it; its number there.
    pub fn inherit(&self) -> Result<i32> {
        rustix::io::fcntl_setfd(&self.file, FdFlags::empty())?;
        Ok(self.file.as_raw_fd())
    }

    fn board(&self) -> &Board {
        // SAFETY: mapped for as long as this value lives; all zero is a valid board, and atomics
        // may be shared with other processes.
        unsafe { self.board.as_ref() }
    }

    /// Tells everybody to end.
    pub fn stop(&self) {
        self.board().stopped.store(1, SeqCst);
    }

    pub fn stopped(&self) -> bool {
        self.board().stopped.load(SeqCst) != 0
    }

    /// Waits until all are here.
    pub fn meet(&self) -> Result<()> {
        let board = self.board();
        let number = board.meetings.load(SeqCst);
        if board.arrived.fetch_add(1, SeqCst) + 1 == self.parties {
            board.arrived.store(0, SeqCst);
            board.meetings.fetch_add(1, SeqCst);
            return Ok(());
        }
        let mut since = (Instant::now(), self.count(Count::Operations));
        let mut pause = Duration::from_micros(200);
        while board.meetings.load(SeqCst) == number {
            if self.stopped() {
                bail!("another worker has failed");
            }
            // Who waits long looks seldom: a look costs as much as an operation.
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            let now = self.count(Count::Operations);
            if now != since.1 {
                since = (Instant::now(), now);
            }
            if since.0.elapsed() > HANGS {
                // Shows where each blocked task waits.
                let _ = std::fs::write("/proc/sysrq-trigger", "w");
                bail!("nothing has ended for {} s: a hang", HANGS.as_secs());
            }
        }
        Ok(())
    }

    /// Runs `act` while nobody else uses the engine.
    pub fn with_engine<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let engine = &self.board().engine;
        while engine.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {
            if self.stopped() {
                bail!("another worker has failed");
            }
            std::thread::yield_now();
        }
        let result = act();
        engine.store(0, SeqCst);
        result
    }

    pub fn add(&self, what: Count, number: u64) {
        if let Some(count) = self.board().counts.get(what as usize) {
            count.fetch_add(number, SeqCst);
        }
    }

    pub fn count(&self, what: Count) -> u64 {
        let count = self.board().counts.get(what as usize);
        count.map_or(0, |count| count.load(SeqCst))
    }

    /// Notes an answer of the kernel.
    pub fn answered(&self, errno: i32) {
        let index = usize::try_from(errno).unwrap_or(0);
        if let Some(count) = self.board().errnos.get(index) {
            count.fetch_add(1, SeqCst);
        }
    }

    /// How often each errno was the answer.
    pub fn errnos(&self) -> Vec<(i32, u64)> {
        (0..)
            .zip(&self.board().errnos)
            .map(|(errno, count)| (errno, count.load(SeqCst)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Notes a success at a place that all compete for.
    pub fn won(&self, slot: usize, map: bool) {
        let contest = &self.board().contests[slot];
        let count = if map { &contest.maps } else { &contest.unmaps };
        count.fetch_add(1, SeqCst);
    }

    /// Whether such a place is mapped, by the successes there, while all wait.
    pub fn contest(&self, slot: usize) -> Result<bool> {
        let contest = &self.board().contests[slot];
        let (maps, unmaps) = (contest.maps.load(SeqCst), contest.unmaps.load(SeqCst));
        match maps.checked_sub(unmaps) {
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            _ => bail!("place {slot} that all compete for was mapped {maps} times, and unmapped {unmaps} times"),
        }
    }

    /// Publishes what a worker has mapped.
    pub fn publish(&self, worker: usize, all: impl Iterator<Item = Listed>) -> Result<()> {
        let list = &self.board().lists[worker];
        let mut length = 0;
        for (entry, listed) in list.entries.iter().zip(all) {
            entry[0].store(listed.first, SeqCst);
            entry[1].store(listed.length, SeqCst);
            let kind = (u64::from(listed.flags) << 1) | u64::from(listed.user);
            entry[2].store(kind, SeqCst);
            length += 1;
        }
        list.length.store(length, SeqCst);
        ensure!(length < MOST_LISTED as u64, "too much is mapped");
        Ok(())
    }

    /// What all workers have published.
    pub fn published(&self) -> Result<Vec<Listed>> {
        let mut all = Vec::new();
        for list in &self.board().lists {
            let length = usize::try_from(list.length.load(SeqCst))?;
            for entry in &list.entries[..length] {
                let kind = entry[2].load(SeqCst);
                all.push(Listed {
                    first: entry[0].load(SeqCst),
                    length: entry[1].load(SeqCst),
                    flags: u32::try_from(kind >> 1)?,
                    user: kind & 1 != 0,
                });
            }
        }
        Ok(all)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.board.as_ptr().cast(), size_of::<Board>()) };
    }
}
