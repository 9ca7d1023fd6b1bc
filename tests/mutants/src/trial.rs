// SPDX-License-Identifier: GPL-2.0
//! One step on a built tree: suites in a machine, ended at the first failure, or unit tests. A
//! machine whose kernel reports a bug has noticed as well.

use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use crate::machines::Machine;
use crate::results::Catch;
use crate::tap::{unit_failure, Follow};
use crate::tree::Tree;

/// For a machine, in seconds: the guest ends by itself what takes too long.
const TIMEOUT: &str = "2400";
/// For the unit tests, of the processor's time and not of a busy machine's, in seconds: many times
/// what they take. At the first the program learns what for it is ended, at the second nobody does.
const UNIT_LIMIT: &str = "--cpu=150:170";

/// The unit tests of a package.
pub fn unit(tree: &Tree, package: &str) -> Result<Option<Catch>> {
    let output = tree.run(
        "scripts/in-root",
        &[
            "prlimit",
            UNIT_LIMIT,
            "cargo",
            "test",
            "--quiet",
            "--manifest-path",
            "user/Cargo.toml",
            "--package",
            package,
            "--",
            "--format",
            "pretty",
        ],
    )?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("could not compile") {
        // What could not be built has noticed nothing.
        return Ok(None);
    }
    // Cargo's word for SIGXCPU.
    let hang = said.contains("(signal: 24");
    Ok(Some(unit_failure(package, &text).unwrap_or_else(|| {
        Catch {
            machine: "unit".to_owned(),
            suite: package.to_owned(),
            test: if hang {
                "(a hang)"
            } else {
                "(the program failed)"
            }
            .to_owned(),
            said: said.lines().last().unwrap_or_default().to_owned(),
        }
    })))
}

/// What is played in a machine: some suites, or a test of them, on one built mutant.
pub struct Play<'a> {
    pub key: String,
    /// The mutant, built.
    pub module: PathBuf,
    pub suites: &'a [String],
    pub only: Option<&'a str>,
}

/// How one play ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Caught(Catch),
    /// Something failed, and may have done so by itself.
    Doubtful(String),
}

/// Plays mutants one after the other in one machine, as tests/mutants/guest does it. The answer has
/// those that came to an end, and their seconds; the machine may have ended, or been spent, before the
/// others.
pub fn machine(
    tree: &Tree,
    name: &str,
    machine: &Machine,
    plays: &[Play<'_>],
) -> Result<HashMap<String, (Outcome, u64)>> {
    let test = tree.root.join("build/test");
    let list = test.join(format!("{name}.list"));
    let said = test.join(format!("{name}.err"));
    let line = |play: &Play<'_>| {
        let (module, only) = (play.module.display(), play.only.unwrap_or_default());
        format!("{}|{module}|{only}|{}\n", play.key, play.suites.join(" "))
    };
    let lines: Vec<_> = plays.iter().map(line).collect();
    fs::write(&list, lines.concat())?;
    tree.put(machine.kernel, &tree.base(machine.kernel))?;
    let mut command = tree.command("scripts/vm");
    command
        .env("QAT_IOMMU_NO_BUILD", "1")
        .args(["--timeout", TIMEOUT, "--panic-on-warn"])
        .args(&machine.options)
        .arg("--log")
        .arg(test.join(format!("{name}.log")))
        .args(["--", "tests/mutants/guest"])
        .arg(tree.base(machine.kernel))
        .arg(&list)
        .arg("--tree")
        .arg(&tree.root)
        .args(&machine.told)
        .stdout(Stdio::piped())
        .stderr(File::create(&said)?);
    let mut child = command.spawn().context("scripts/vm")?;
    let mut reading = Reading::new(name);
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        reading.line(&line?);
    }
    let status = child.wait()?;
    if !status.success() {
        let text = fs::read_to_string(&said).unwrap_or_default();
        reading.ended(status, first_report(&text));
    }
    Ok(reading.done)
}

/// Follows tests/mutants/guest line by line.
struct Reading {
    machine: String,
    /// The play that has begun, since when, and the first failure in it.
    now: Option<(String, Instant, Follow, Option<Catch>)>,
    done: HashMap<String, (Outcome, u64)>,
}

impl Reading {
    fn new(machine: &str) -> Self {
        Self {
            machine: machine.to_owned(),
            now: None,
            done: HashMap::new(),
        }
    }

    fn line(&mut self, line: &str) {
        if let Some(key) = line.strip_prefix("@ begin ") {
            self.now = Some((key.to_owned(), Instant::now(), Follow::default(), None));
        } else if let Some(rest) = line.strip_prefix("@ end ") {
            let mut words = rest.splitn(3, ' ');
            let (_, word, text) = (words.next(), words.next(), words.next());
            self.end(word.unwrap_or_default(), text.unwrap_or_default().trim());
        } else if let Some((_, _, follow, first)) = &mut self.now {
            if let (Some((suite, test, said)), None) = (follow.line(line), &first) {
                *first = Some(Catch {
                    machine: self.machine.clone(),
                    suite,
                    test,
                    said,
                });
            }
        }
    }

    fn end(&mut self, word: &str, text: &str) {
        let Some((key, since, follow, first)) = self.now.take() else {
            return;
        };
        let caught = |test: &str| {
            Outcome::Caught(Catch {
                machine: self.machine.clone(),
                suite: follow.suite().to_owned(),
                test: test.to_owned(),
                said: text.to_owned(),
            })
        };
        let outcome = match (word, first) {
            ("passed", _) => Outcome::Passed,
            ("failed" | "report", Some(first)) => Outcome::Caught(first),
            ("failed", None) => caught("(the test program failed)"),
            ("report", None) => caught(REPORT),
            ("hang", _) => caught("(a hang)"),
            ("refused", _) => caught("(it cannot be loaded)"),
            (_, _) => Outcome::Doubtful(text.to_owned()),
        };
        self.done.insert(key, (outcome, since.elapsed().as_secs()));
    }

    /// The machine ended in a play. A busy machine can look like one that hangs, and without a word of
    /// the kernel it may have been QEMU's end.
    fn ended(&mut self, status: ExitStatus, report: Option<String>) {
        let load = ["stall", "soft lockup", "blocked for"];
        let report = report.filter(|report| !load.iter().any(|word| report.contains(word)));
        match report {
            Some(report) if status.code() == Some(125) => self.end("report", &report),
            _ => self.end("doubtful", &format!("the machine ended ({status})")),
        }
    }
}

const REPORT: &str = "(a report of the kernel)";

/// The tests of the machine that is suspended, and what its kernel's log then says; as scripts/test
/// has them.
const SUSPEND: [(&str, &str); 4] = [
    ("read_before", "before, the PF reads it"),
    ("suspended", "suspended and resumed"),
    ("read_after", "after, the PF reads it"),
    ("refused_once_unmapped", "unmapped, the PF is refused"),
];

/// The machine that is suspended. It ends itself, which to scripts/vm is a failure.
pub fn suspend(tree: &Tree) -> Result<Option<Catch>> {
    let log = tree.root.join("build/test/suspend.log");
    let mut command = tree.command("scripts/vm");
    command
        .env("QAT_IOMMU_NO_BUILD", "1")
        .args(["--timeout", "600", "--log"])
        .arg(&log)
        .args(["--", "bash", "tests/suspend.sh"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().context("scripts/vm")?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let missing = SUSPEND.iter().find(|(_, said)| !text.contains(said));
    Ok(missing.map(|(test, said)| Catch {
        machine: "suspend".to_owned(),
        suite: "suspend".to_owned(),
        test: (*test).to_owned(),
        said: format!("the kernel log does not say: {said}"),
    }))
}

/// What the kernel said first, of what scripts/vm shows.
fn first_report(text: &str) -> Option<String> {
    let numbered = |line: &&str| {
        line.trim()
            .split(':')
            .next()
            .is_some_and(|n| n.parse::<u32>().is_ok())
    };
    let report = text.lines().find(numbered).or_else(|| {
        text.lines().find(|line| {
            ["WARNING", "BUG", "panic"]
                .iter()
                .any(|word| line.contains(word))
        })
    });
    report.map(|report| report.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Reading {
        let mut reading = Reading::new("intel");
        text.lines().for_each(|line| reading.line(line));
        reading
    }

    #[test]
    fn each_play_has_its_own_end() {
        let reading = read("@ begin a\n    # Subtest: owned\n    ok 1 x\n@ end a passed \n\
                            @ begin b\n    # Subtest: owned\n    # it was 7\n    not ok 1 x\n@ end b failed not ok 1 owned\n\
                            @ begin c\n@ end c doubtful as it is: it fails\n@ begin d\n");
        let outcome = |key: &str| reading.done.get(key).map(|(outcome, _)| outcome);
        assert_eq!(outcome("a"), Some(&Outcome::Passed));
        assert!(
            matches!(outcome("b"), Some(Outcome::Caught(catch)) if catch.test == "x" && catch.said == "it was 7")
        );
        assert!(matches!(outcome("c"), Some(Outcome::Doubtful(_))));
        assert_eq!(outcome("d"), None);
    }

    #[test]
    fn a_stall_is_the_load_of_the_machine() {
        use std::os::unix::process::ExitStatusExt as _;
        for (report, caught) in [
            ("9: WARNING: at x", true),
            ("9: rcu: detected stalls", false),
            ("[ 7.0] clocksource: timed out", false),
        ] {
            let mut reading = read("@ begin a\n");
            reading.ended(ExitStatus::from_raw(125 << 8), first_report(report));
            let outcome = reading.done.get("a").map(|(outcome, _)| outcome);
            assert_eq!(
                matches!(outcome, Some(Outcome::Caught(_))),
                caught,
                "{report}"
            );
        }
    }
}
