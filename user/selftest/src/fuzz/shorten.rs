// SPDX-License-Identifier: GPL-2.0
//! After a difference: plays the list of the worker that found it alone, and if that fails
//! too, leaves out what is not needed for it. What remains can be added to the corpus.

use anyhow::Error;
use std::time::{Duration, Instant};

use super::{replay_with, Case, Plan};

/// No longer than that.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whoever failed, by the report: round and worker.
fn culprit(text: &str) -> Option<(u64, usize)> {
    let number = |word: &str| -> Option<u64> {
        let (_, rest) = text.split_once(word)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    Some((number("round ")?, usize::try_from(number("worker ")?).ok()?))
}

/// The shortest list that still fails, as far as leaving out pieces leads.
fn shorten(plan: &Plan, case: &Case, end: Instant) -> Case {
    let fails = |steps: &[super::Step]| {
        let case = Case {
            steps: steps.to_vec(),
            ..case.clone()
        };
        replay_with(&plan.facts, &case).is_err()
    };
    let mut steps = case.steps.clone();
    let mut piece = steps.len() / 2;
    while piece > 0 && Instant::now() < end {
        let mut at = 0;
        while at < steps.len() && Instant::now() < end {
            let mut fewer = steps.clone();
            fewer.drain(at..steps.len().min(at + piece));
            if fails(&fewer) {
                steps = fewer;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    Case {
        steps,
        ..case.clone()
    }
}

/// Adds to a failure how to see it again.
pub fn explain(plan: &Plan, error: Error) -> Error {
    let text = format!("{error:#}");
    let again = format!("QAT_IOMMU_FUZZ_SEED={} plays it again", plan.seed);
    let case = culprit(&text).and_then(|(round, worker)| plan.case(round, worker).ok());
    let Some(case) = case else {
        return error.context(again);
    };
    if replay_with(&plan.facts, &case).is_ok() {
        return error.context(format!("{again}; its worker alone does not fail"));
    }
    let short = shorten(plan, &case, Instant::now() + PATIENCE);
    let line = serde_json::to_string(&short).unwrap_or_default();
    error.context(format!(
        "{again}; for the corpus, {} operations:\n{line}\n",
        short.steps.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_tells_who_failed() {
        let text = "the second process: worker 3: round 17: at operation 5, x: expected y";
        assert_eq!(culprit(text), Some((17, 3)));
        assert_eq!(culprit("round 1: Quiet: 3 pins"), None);
    }
}
