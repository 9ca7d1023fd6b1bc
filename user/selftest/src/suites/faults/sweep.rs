// SPDX-License-Identifier: GPL-2.0
//! One operation, once for each thing in it that can fail.

use anyhow::{bail, ensure, Context as _, Result};
use rustix::io::Errno;

use super::state::{unchanged, State};
use crate::expect;
use crate::faults::Faults;
use crate::suites::user::Rig;

/// More than any operation asks for.
const MOST: u32 = 3000;

/// Requests that the kernel's debugging makes once, in between, move failures past those that matter;
/// not again and again.
const ROUNDS: u32 = 4;

/// What a failure is told as by the module: what it was.
const TOLD: [Errno; 2] = [Errno::NOMEM, Errno::FAULT];

/// Sweeps over an operation.
///
/// `prepare` makes what it needs; `act` does it, with what is to fail in the part that it marks so;
/// `finish` sees that it was done, by DMA, and undoes it. Each begins with nothing failing. Both
/// what is before all of them and what is after must be the same, and what is before `act` and
/// after it failed. `least` failures of `act` are the fewest that make sense.
pub fn sweep<P, D>(
    rig: &mut Rig,
    least: usize,
    prepare: impl Fn(&mut Rig) -> Result<P>,
    act: impl Fn(&Rig, &mut P, &Faults) -> Result<Result<D, Errno>>,
    finish: impl Fn(&mut Rig, P, D) -> Result<()>,
) -> Result<()> {
    sweep_told(rig, &TOLD, least, prepare, act, finish)
}

/// The same for what tells a failure as one of `told`, or, if there are none, as it likes.
pub fn sweep_told<P, D>(
    rig: &mut Rig,
    told: &[Errno],
    least: usize,
    prepare: impl Fn(&mut Rig) -> Result<P>,
    act: impl Fn(&Rig, &mut P, &Faults) -> Result<Result<D, Errno>>,
    finish: impl Fn(&mut Rig, P, D) -> Result<()>,
) -> Result<()> {
    // What the kernel and the C library make at first use is made.
    once(rig, told, &Faults::none(), &prepare, &act, &finish).context("with nothing failing")?;
    let mut all = 0;
    for _ in 0..ROUNDS {
        let mut failures = 0;
        for nth in 1.. {
            ensure!(
                nth < MOST,
                "after {MOST} failures there is still one to come"
            );
            let faults = Faults::at(nth)?;
            let failed = once(rig, told, &faults, &prepare, &act, &finish)
                .with_context(|| format!("with failure {nth}"))?;
            failures += usize::from(failed);
            all = nth - 1;
            if !faults.reached() {
                break;
            }
        }
        println!("    # {failures} failures of {all} that were made");
        if failures >= least {
            return Ok(());
        }
    }
    bail!("in {ROUNDS} rounds fewer than {least} failures mattered, of {all} that were made in the last")
}

/// Does it once, and once more if it failed, which is the answer.
fn once<P, D>(
    rig: &mut Rig,
    told: &[Errno],
    faults: &Faults,
    prepare: &impl Fn(&mut Rig) -> Result<P>,
    act: &impl Fn(&Rig, &mut P, &Faults) -> Result<Result<D, Errno>>,
    finish: &impl Fn(&mut Rig, P, D) -> Result<()>,
) -> Result<bool> {
    let before = State::now(rig)?;
    let mut ready = prepare(rig)?;
    let prepared = State::now(rig)?;
    let result = act(rig, &mut ready, faults)?;
    let failed = result.is_err();
    let done = match result {
        Ok(done) => done,
        Err(error) => {
            let name = expect::name(error);
            ensure!(faults.reached(), "{name}, though nothing failed");
            ensure!(
                told.is_empty() || told.contains(&error),
                "{name} is not what was made to fail"
            );
            unchanged(rig, &prepared, &format!("after {name}"))?;
            let again = act(rig, &mut ready, &Faults::none())?;
            expect::succeeds(&format!("the next try after {name}"), again)?
        }
    };
    finish(rig, ready, done)?;
    unchanged(rig, &before, "once it was undone")?;
    Ok(failed)
}
