// SPDX-License-Identifier: GPL-2.0
//! Large pages that another thread splits, makes whole again, protects, gives up or shares with
//! a child in the middle of the call that pins them. What the device reaches is then what the
//! process has, page for page (or had, of what it gave up), and never what a child has.

use anyhow::{bail, ensure, Context as _, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::mm::{Advice, MprotectFlags};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::abi::{READ, WRITE};
use crate::dma::pf::{Engine, Verdict};
use crate::expect;
use crate::host::Host;
use crate::hostdrv::lasting;
use crate::ktap::{list_tests, Test};
use crate::ledger;
use crate::libc_calls::Forked;
use crate::mem::user::UserMemory;
use crate::mem::{Memory, HUGE, PAGE};
use crate::suites::user::Rig;

/// Two large pages.
const PAGES: usize = 2 * HUGE / PAGE;
const LENGTH: u64 = 2 * HUGE as u64;
const TIME: Duration = Duration::from_secs(4);
/// More than the call takes, but for one that waited for something else.
const LONGEST: Duration = Duration::from_millis(20);
/// How often at least, however slow the machine.
const LEAST: usize = 4 * CHANGES.len();

pub fn tests() -> Vec<Test<Host>> {
    list_tests![large_pages_change]
}

/// What the other thread does to the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// A child has it from then on, copied on write.
    Fork,
    /// Pages of it may not be written for a moment, so that large ones are split.
    Split,
    /// All is made of large pages again.
    Collapse,
    /// None may be written for a moment.
    Protect,
    /// The pages from some place on are given up: new ones come there.
    GiveUp,
}

const CHANGES: [Change; 7] = [
    Change::Fork,
    Change::Split,
    Change::Collapse,
    Change::Fork,
    Change::Protect,
    Change::GiveUp,
    Change::Collapse,
];

/// What a page is to hold: a number of its own, never 0.
fn number(round: usize, page: usize) -> u64 {
    ((round as u64 + 1) << 20) | page as u64
}

/// Where it holds it: not at the same place in each.
fn place(page: usize) -> usize {
    page * PAGE + page % (PAGE / 8) * 8
}

fn held(memory: &UserMemory, page: usize) -> u64 {
    // SAFETY: `word` checks the bounds; the memory is there as long as the value.
    unsafe { memory.word(place(page)).read_volatile() }
}

fn fill(memory: &UserMemory, round: usize) {
    for page in 0..PAGES {
        memory.write(place(page), &number(round, page).to_ne_bytes());
    }
}

/// A child that looks, once it is told to, whether it has what was there at the fork.
struct Child {
    forked: Forked,
    tell: OwnedFd,
}

impl Child {
    fn new(memory: &UserMemory, round: usize) -> Result<Self> {
        let (go, tell) = rustix::pipe::pipe()?;
        let forked = Forked::new(|| {
            let mut word = [0];
            let told = rustix::io::read(&go, &mut word) == Ok(1);
            let same = (0..PAGES).all(|page| held(memory, page) == number(round, page));
            i32::from(!told) + 2 * i32::from(!same)
        })?;
        Ok(Self { forked, tell })
    }

    fn has_its_own(self) -> Result<()> {
        rustix::io::write(&self.tell, &[1])?;
        let child = self.forked.wait();
        child.context("a child has something else than what was there at the fork")
    }
}

/// Makes large pages of it, unless pages of it are pinned.
fn make_whole(memory: &UserMemory) -> Result<()> {
    match memory.collapse() {
        Ok(()) | Err(Errno::AGAIN | Errno::INVAL | Errno::BUSY | Errno::NOMEM) => Ok(()),
        Err(error) => bail!("MADV_COLLAPSE: {}", expect::name(error)),
    }
}

/// Does it; the child, if there is one.
fn change(what: Change, memory: &UserMemory, round: usize) -> Result<Option<Child>> {
    let page = from(round) * PAGE;
    let writable = MprotectFlags::READ | MprotectFlags::WRITE;
    match what {
        Change::Fork => return Child::new(memory, round).map(Some),
        Change::Split => {
            memory.protect_part(page, PAGE, MprotectFlags::READ)?;
            memory.protect_part(page, PAGE, writable)?;
        }
        Change::Protect => {
            memory.protect(MprotectFlags::READ)?;
            memory.protect(writable)?;
        }
        Change::Collapse => make_whole(memory)?,
        Change::GiveUp => memory.advise_part(page, memory.len() - page, Advice::LinuxDontNeed)?,
    }
    Ok(None)
}

/// The page from which on a round changes something.
fn from(round: usize) -> usize {
    round * 37 % PAGES
}

/// Lets some time pass: from none to what the call took before.
fn wait_a_little(round: usize, took: Duration) {
    let (start, share) = (Instant::now(), (round * 61 % 97) as u32);
    while start.elapsed() < took * share / 97 {
        std::hint::spin_loop();
    }
}

/// The device reads and writes all of the buffer at `iova`, by way of another at `mirror_at`.
struct Look<'a> {
    engine: &'a Engine,
    memory: &'a UserMemory,
    mirror: &'a UserMemory,
    mirror_at: u64,
}

impl Look<'_> {
    /// What the device reads is what the buffer held before the round, and of the pages from
    /// `given` on that or nothing.
    fn reads(&self, iova: u64, round: usize, given: usize) -> Result<()> {
        let verdict = self.engine.copy(iova, self.mirror_at, LENGTH)?;
        expect::equal("the device's reads", verdict, Verdict::Done)?;
        for page in 0..PAGES {
            let (seen, want) = (held(self.mirror, page), number(round, page));
            ensure!(
                seen == want || page >= given && seen == 0,
                "the device reads {seen:#x} in page {page}, where {want:#x} is"
            );
        }
        Ok(())
    }

    /// What the device writes is there, but not where pages were given up after they were pinned.
    fn writes(&self, iova: u64, round: usize, given: usize) -> Result<()> {
        let other = usize::MAX / 2 - round;
        fill(self.mirror, other);
        let before: Vec<u64> = (0..PAGES).map(|page| held(self.memory, page)).collect();
        let verdict = self.engine.copy(self.mirror_at, iova, LENGTH)?;
        expect::equal("the device's writes", verdict, Verdict::Done)?;
        for (page, before) in before.into_iter().enumerate() {
            let (seen, want) = (held(self.memory, page), number(other, page));
            ensure!(
                seen == want || page >= given && seen == before,
                "page {page} holds {seen:#x} where the device wrote {want:#x}"
            );
        }
        Ok(())
    }
}

fn large_pages_change(host: &Host) -> Result<()> {
    let rig = Rig::new(host)?;
    let engine = Engine::open(&host.pf()?)?;
    let mirror = UserMemory::transparent(2 * HUGE)?;
    let mirror_at = rig.map(&mirror)?;
    // A child that had it would be given a copy of what is pinned, each time.
    mirror.advise(Advice::LinuxDontFork)?;
    let memory = UserMemory::transparent(2 * HUGE)?;
    let look = Look {
        engine: &engine,
        memory: &memory,
        mirror: &mirror,
        mirror_at,
    };
    let (locked, pins) = (ledger::locked()?, ledger::pins()?);
    let context = rig.context();
    let goes_on = lasting(TIME);
    let (mut rounds, mut took) = (0, Duration::ZERO);
    while goes_on() || rounds < LEAST {
        let round = rounds;
        let what = CHANGES[round % CHANGES.len()];
        let before = took;
        let about = || format!("round {round}, {what:?} from page {}", from(round));
        if round % 2 == 0 && what != Change::Collapse {
            make_whole(&memory)?;
        }
        fill(&memory, round);
        // For a device that only reads, now and then.
        let flags = if round % 5 == 4 { READ } else { READ | WRITE };
        let (answer, child) = meanwhile(
            || {
                let start = Instant::now();
                let answer = context.map_user_with(memory.va(), LENGTH, flags);
                took = start.elapsed().min(LONGEST);
                answer
            },
            || {
                wait_a_little(round, before);
                change(what, &memory, round)
            },
        );
        let child = child.with_context(about)?;
        match answer {
            Ok(iova) => {
                let given = if what == Change::GiveUp {
                    from(round)
                } else {
                    PAGES
                };
                look.reads(iova, round, given).with_context(about)?;
                if flags & WRITE != 0 {
                    look.writes(iova, round, given).with_context(about)?;
                }
                child
                    .map_or(Ok(()), Child::has_its_own)
                    .with_context(about)?;
                expect::succeeds("unmap", context.unmap_user(memory.va(), LENGTH))?;
            }
            // It came while nothing could be written.
            Err(Errno::FAULT) if matches!(what, Change::Protect | Change::Split) => {}
            Err(error) => bail!("{}: map: {}", about(), expect::name(error)),
        }
        expect::equal("pins", ledger::pins()?, pins).with_context(about)?;
        rounds += 1;
    }
    println!("    # {rounds} rounds");
    expect::equal("charged KiB", ledger::locked()?, locked)
}

/// Does both at the same time.
fn meanwhile<A, B: Send>(one: impl FnOnce() -> A, other: impl FnOnce() -> B + Send) -> (A, B) {
    let begin = Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            begin.wait();
            other()
        });
        begin.wait();
        let first = one();
        (first, other.join().expect("threads return their errors"))
    })
}
