// SPDX-License-Identifier: GPL-2.0
//! What goes on while PFs come and go: threads with a context each that map,
//! unmap, look up and have the PFs do DMA, know what each answer must be from what
//! was done to the PFs meanwhile, and stop at quiet points, where everything is
//! compared: every context's own list, the module's, the PFs' own records, pins and
//! locked memory.
//!
//! `fleet` the PFs and what happens to them; `worker` one thread; `model` what it
//! has mapped; `transfer` its DMA; `quiet` the comparison; `listing` the module's own
//! list. This file starts, stops and watches the threads.
//!
//! A test is one thread that does things to the PFs, one after the other, each wrapped
//! in [`Fleet::change`] or [`Fleet::disturb`]; between two of them it may call
//! [`Crew::quiet`].

mod fleet;
mod listing;
mod model;
mod quiet;
mod transfer;
mod worker;

pub use fleet::{Fleet, Holder};

use anyhow::{ensure, Context as _, Result};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::host::Host;
use crate::ktap::panic_text;
use crate::ledger;
use worker::{Done, Worker};

/// How many threads there are.
const THREADS: usize = 4;
/// If nothing ends for so long, something hangs. The slowest that is done to a PF takes seconds.
const HANGS: Duration = Duration::from_secs(150);

/// The threads, seen from the one that does things to the PFs.
pub struct Crew<'a> {
    pub fleet: &'a Fleet,
    host: &'a Host,
    workers: &'a [Mutex<Worker<'a>>],
    pause: &'a AtomicBool,
    failure: &'a Mutex<Option<anyhow::Error>>,
    beat: &'a AtomicU64,
    /// What was pinned and locked when it began.
    pins: i64,
    locked: u64,
}

/// Runs `act` beside the threads, on PFs that are in the state that the machine was booted with;
/// they are in it again afterwards. At the end is a quiet point, and then nothing may be left.
pub fn beside<T>(host: &Host, seed: u64, act: impl FnOnce(&Crew<'_>) -> Result<T>) -> Result<T> {
    let fleet = Fleet::new(host)?;
    let workers = (0..THREADS)
        .map(|number| Ok(Mutex::new(Worker::new(host, &fleet, number, seed)?)))
        .collect::<Result<Vec<_>>>()?;
    let (pins, locked) = (ledger::pins()?, ledger::locked()?);
    let (stop, pause) = (AtomicBool::new(false), AtomicBool::new(false));
    let (failure, beat) = (Mutex::new(None), AtomicU64::new(0));
    let crew = Crew {
        fleet: &fleet,
        host,
        workers: &workers,
        pause: &pause,
        failure: &failure,
        beat: &beat,
        pins,
        locked,
    };
    let value = std::thread::scope(|scope| {
        for worker in &workers {
            scope.spawn(|| run(worker, &stop, &pause, &failure));
        }
        scope.spawn(|| watch(&stop, &beat));
        // Whatever happens, the threads end.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let value = act(&crew)?;
            crew.quiet()?;
            Ok(value)
        }));
        stop.store(true, SeqCst);
        result
    });
    let value = value.unwrap_or_else(|payload| Err(anyhow::anyhow!(panic_text(&*payload))));
    let failed = failure.lock().ok().and_then(|mut slot| slot.take());
    let value = match failed {
        Some(error) => Err(error),
        None => value,
    };
    let value = value.and_then(|value| {
        crew.nothing_left()?;
        Ok(value)
    });
    fleet.restore(host).and(value)
}

/// One thread.
fn run(
    worker: &Mutex<Worker<'_>>,
    stop: &AtomicBool,
    pause: &AtomicBool,
    failure: &Mutex<Option<anyhow::Error>>,
) {
    while !stop.load(SeqCst) {
        if pause.load(SeqCst) {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        let Ok(mut worker) = worker.lock() else {
            return;
        };
        let step = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.step()));
        let step = step.unwrap_or_else(|payload| Err(anyhow::anyhow!(panic_text(&*payload))));
        if let Err(error) = step {
            if let Ok(mut first) = failure.lock() {
                first.get_or_insert(error.context(format!("thread {}", worker.number())));
            }
            return;
        }
    }
}

/// Ends the machine's test, with the reason in the kernel's log, when nothing goes on any more.
fn watch(stop: &AtomicBool, beat: &AtomicU64) {
    let step = Duration::from_millis(100);
    let (mut last, mut silent) = (beat.load(SeqCst), Duration::ZERO);
    while !stop.load(SeqCst) {
        std::thread::sleep(step);
        let now = beat.load(SeqCst);
        silent = if now == last {
            silent + step
        } else {
            Duration::ZERO
        };
        last = now;
        if silent > HANGS {
            println!("    # nothing has ended for {} s: a hang", HANGS.as_secs());
            // Shows where each blocked task waits.
            let _ = fs::write("/proc/sysrq-trigger", "w");
            std::process::exit(3);
        }
    }
}

impl Crew<'_> {
    /// Something ended well; or a thread has failed, and why.
    pub fn alive(&self) -> Result<()> {
        self.beat.fetch_add(1, SeqCst);
        match self.failure.lock() {
            Ok(mut slot) => slot.take().map_or(Ok(()), Err),
            Err(_) => anyhow::bail!("a thread panicked"),
        }
    }

    /// Lets the threads work until each has done as many steps more.
    pub fn work(&self, steps: u64) -> Result<()> {
        let counts = || -> Vec<u64> { self.workers.iter().map(steps_of).collect() };
        let wanted: Vec<u64> = counts().iter().map(|count| count + steps).collect();
        while counts().iter().zip(&wanted).any(|(now, want)| now < want) {
            self.alive()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.alive()
    }

    /// Stops the threads for as long as `act` runs.
    fn while_paused<T>(
        &self,
        act: impl FnOnce(&mut [MutexGuard<'_, Worker<'_>>]) -> Result<T>,
    ) -> Result<T> {
        self.pause.store(true, SeqCst);
        let guards: Option<Vec<_>> = self.workers.iter().map(|one| one.lock().ok()).collect();
        let result = match guards {
            Some(mut guards) => act(&mut guards),
            None => Err(anyhow::anyhow!("a thread panicked")),
        };
        self.pause.store(false, SeqCst);
        result
    }

    /// A quiet point: stops the threads and compares everything.
    pub fn quiet(&self) -> Result<()> {
        self.alive()?;
        self.while_paused(|workers| quiet::check(self, workers))?;
        self.alive()
    }

    /// A PF that has just left its driver reaches nothing of what is mapped, at this moment, while
    /// the threads go on.
    pub fn unreached(&self, seat: usize) -> Result<()> {
        quiet::unreached(self, &self.fleet.seats[seat])
            .with_context(|| format!("{} has left", self.fleet.seats[seat].pf.0))?;
        self.alive()
    }

    /// Some IOVAs at which something is mapped for a PF now.
    pub fn some_pages(&self, seat: usize) -> Result<Vec<u64>> {
        self.while_paused(|workers| quiet::some_pages(self, workers, seat))
    }

    /// How often each thing was done, over all threads.
    pub fn done(&self) -> Result<Done> {
        self.while_paused(|workers| {
            Ok(workers
                .iter()
                .fold(Done::default(), |sum, worker| sum + worker.done()))
        })
    }

    /// Closes every context: then nothing may be left of what they held.
    fn nothing_left(&self) -> Result<()> {
        self.while_paused(|workers| {
            for worker in workers.iter_mut() {
                worker.close();
            }
            quiet::check(self, workers)?;
            let (pins, locked) = (ledger::pins()?, ledger::locked()?);
            ensure!(
                (pins, locked) == (self.pins, self.locked),
                "at the end {pins} pins and {locked} KiB are held, at the beginning {} and {}",
                self.pins,
                self.locked
            );
            Ok(())
        })
    }
}

fn steps_of(worker: &Mutex<Worker<'_>>) -> u64 {
    worker.lock().map_or(u64::MAX, |worker| worker.steps())
}
