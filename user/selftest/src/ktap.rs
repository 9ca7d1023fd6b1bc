// SPDX-License-Identifier: GPL-2.0
//! Runs suites of tests and reports them as KTAP: one line for each test as it
//! ends, the reason of a failure in comment lines before it. A test fails by
//! returning an error or by panicking, and says that it cannot run here by
//! returning [`Skip`].

use std::fmt;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

/// One test: a name and what decides it.
pub struct Test<E> {
    pub name: &'static str,
    pub run: fn(&E) -> anyhow::Result<()>,
}

/// Tests that belong together, in the order in which they run.
pub struct Suite<E: 'static> {
    pub name: &'static str,
    pub about: &'static str,
    pub tests: Vec<Test<E>>,
}

/// Lists functions as tests under their own names.
macro_rules! list_tests {
    ($($name:ident),+ $(,)?) => {
        vec![$($crate::ktap::Test { name: stringify!($name), run: $name }),+]
    };
}
pub(crate) use list_tests;

/// The environment lacks what a test needs.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Ends a test that cannot run here.
pub fn skip(reason: impl Into<String>) -> anyhow::Error {
    Skip(reason.into()).into()
}

enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

/// What a panic said.
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    format!("panicked: {text}")
}

/// Asked after a test; an error makes the test fail.
pub type Closing = Box<dyn FnOnce() -> anyhow::Result<()>>;
/// Asked before each test.
pub type Audit = fn() -> anyhow::Result<Closing>;

fn run_audited<E>(test: &Test<E>, env: &E, audit: Audit) -> Outcome {
    let closing = match audit() {
        Ok(closing) => closing,
        Err(error) => return Outcome::Failed(format!("{error:#}")),
    };
    let outcome = run_one(test, env);
    match (outcome, closing()) {
        (outcome, Ok(())) => outcome,
        (Outcome::Failed(reason), Err(error)) => Outcome::Failed(format!("{reason}\n{error:#}")),
        (_, Err(error)) => Outcome::Failed(format!("{error:#}")),
    }
}

fn run_one<E>(test: &Test<E>, env: &E) -> Outcome {
    match panic::catch_unwind(AssertUnwindSafe(|| (test.run)(env))) {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(error)) => match error.downcast_ref::<Skip>() {
            Some(reason) => Outcome::Skipped(reason.to_string()),
            None => Outcome::Failed(format!("{error:#}")),
        },
        Err(payload) => Outcome::Failed(panic_text(payload.as_ref())),
    }
}

/// Runs the suites, writes KTAP to `out`, and tells whether every test passed
/// or was skipped. With `until_failure` the first failed test is the last.
pub fn run<E>(
    suites: &[Suite<E>],
    env: &E,
    audit: Audit,
    until_failure: bool,
    out: &mut impl Write,
) -> io::Result<bool> {
    writeln!(out, "KTAP version 1\n1..{}", suites.len())?;
    let mut all_good = true;
    for (number, suite) in (1..).zip(suites) {
        writeln!(out, "    KTAP version 1")?;
        writeln!(out, "    # Subtest: {}", suite.name)?;
        writeln!(out, "    1..{}", suite.tests.len())?;
        let mut good = true;
        for (number, test) in (1..).zip(&suite.tests) {
            let start = Instant::now();
            let outcome = run_audited(test, env, audit);
            let spent = start.elapsed();
            if spent.as_secs() >= 1 {
                writeln!(out, "    # {} took {:.1} s", test.name, spent.as_secs_f32())?;
            }
            match outcome {
                Outcome::Passed => writeln!(out, "    ok {number} {}", test.name)?,
                Outcome::Skipped(reason) => {
                    writeln!(out, "    ok {number} {} # SKIP {reason}", test.name)?;
                }
                Outcome::Failed(reason) => {
                    good = false;
                    for line in reason.lines() {
                        writeln!(out, "    # {line}")?;
                    }
                    writeln!(out, "    not ok {number} {}", test.name)?;
                }
            }
            out.flush()?;
            if until_failure && !good {
                break;
            }
        }
        let word = if good { "ok" } else { "not ok" };
        writeln!(out, "{word} {number} {}", suite.name)?;
        out.flush()?;
        all_good &= good;
        if until_failure && !all_good {
            break;
        }
    }
    Ok(all_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(_: &()) -> anyhow::Result<()> {
        Ok(())
    }

    fn fails(_: &()) -> anyhow::Result<()> {
        anyhow::bail!("first line\nsecond line")
    }

    fn panics(_: &()) -> anyhow::Result<()> {
        panic!("boom {}", 1)
    }

    fn skips(_: &()) -> anyhow::Result<()> {
        Err(skip("no such device"))
    }

    fn balanced() -> anyhow::Result<Closing> {
        Ok(Box::new(|| Ok(())))
    }

    fn missing() -> anyhow::Result<Closing> {
        Ok(Box::new(|| anyhow::bail!("something is missing")))
    }

    fn report(tests: Vec<Test<()>>) -> (bool, String) {
        report_of(tests, balanced, false)
    }

    fn report_audited(tests: Vec<Test<()>>, audit: Audit) -> (bool, String) {
        report_of(tests, audit, false)
    }

    fn report_of(tests: Vec<Test<()>>, audit: Audit, until_failure: bool) -> (bool, String) {
        let suite = Suite {
            name: "sample",
            about: "",
            tests,
        };
        let mut out = Vec::new();
        let good =
            run(&[suite], &(), audit, until_failure, &mut out).expect("a vector takes every write");
        (good, String::from_utf8(out).expect("the report is text"))
    }

    #[test]
    fn a_passing_and_a_skipped_test_make_a_good_suite() {
        let (good, text) = report(list_tests![passes, skips]);
        assert!(good);
        assert!(text.contains("\n    ok 1 passes\n"), "{text}");
        assert!(
            text.contains("\n    ok 2 skips # SKIP no such device\n"),
            "{text}"
        );
        assert!(text.ends_with("ok 1 sample\n"), "{text}");
    }

    #[test]
    fn a_failure_is_reported_with_every_line_of_its_reason() {
        let (good, text) = report(list_tests![fails, passes]);
        assert!(!good);
        assert!(
            text.contains("    # first line\n    # second line\n    not ok 1 fails\n"),
            "{text}"
        );
        assert!(text.contains("    ok 2 passes\n"), "{text}");
        assert!(text.ends_with("not ok 1 sample\n"), "{text}");
    }

    #[test]
    fn nothing_runs_behind_a_failure_where_that_is_the_end() {
        let (good, text) = report_of(list_tests![passes, fails, passes], balanced, true);
        assert!(!good);
        assert!(text.contains("    not ok 2 fails\n"), "{text}");
        assert!(!text.contains("    ok 3"), "{text}");
        assert!(text.ends_with("not ok 1 sample\n"), "{text}");
    }

    #[test]
    fn a_test_that_passes_with_something_missing_fails() {
        let (good, text) = report_audited(list_tests![passes], missing);
        assert!(!good);
        assert!(
            text.contains("    # something is missing\n    not ok 1 passes\n"),
            "{text}"
        );
    }

    #[test]
    fn a_panic_is_a_failure_of_that_test_alone() {
        let (good, text) = report(list_tests![panics, passes]);
        assert!(!good);
        assert!(
            text.contains("    # panicked: boom 1\n    not ok 1 panics\n"),
            "{text}"
        );
        assert!(text.contains("    ok 2 passes\n"), "{text}");
    }
}
