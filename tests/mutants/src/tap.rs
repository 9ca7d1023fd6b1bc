// SPDX-License-Identifier: GPL-2.0
//! KTAP as the test program writes it, and what `cargo test` says: up to the first failure.

use crate::results::Catch;

/// Follows a test program line by line.
#[derive(Default)]
pub struct Follow {
    suite: String,
    /// What was said since the last result.
    said: Vec<String>,
}

impl Follow {
    /// The failure that this line reports: its test, and the first line of its reason.
    pub fn line(&mut self, line: &str) -> Option<(String, String, String)> {
        let text = line.trim();
        if let Some(suite) = text.strip_prefix("# Subtest: ") {
            self.suite = suite.to_owned();
            self.said.clear();
        } else if let Some(said) = text.strip_prefix("# ") {
            self.said.push(said.to_owned());
        } else if let Some(rest) = text.strip_prefix("not ok ") {
            let name = rest.split_whitespace().nth(1).unwrap_or("?").to_owned();
            let said = self.said.iter().find(|said| !said.contains(" took "));
            return Some((self.suite.clone(), name, said.cloned().unwrap_or_default()));
        } else if text.starts_with("ok ") {
            self.said.clear();
        }
        None
    }

    /// The suite that runs.
    pub fn suite(&self) -> &str {
        &self.suite
    }
}

/// The first failed test of `cargo test`.
pub fn unit_failure(package: &str, output: &str) -> Option<Catch> {
    let test = output.lines().find_map(|line| {
        line.strip_prefix("test ")?
            .strip_suffix(" ... FAILED")
            .map(str::to_owned)
    })?;
    let said = output
        .lines()
        .skip_while(|line| !line.contains("panicked at"))
        .nth(1)
        .unwrap_or_default();
    Some(Catch {
        machine: "unit".to_owned(),
        suite: package.to_owned(),
        test,
        said: said.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_found() {
        let text = "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: owned\n    1..2\n    \
                    ok 1 fine\n    # wrong took 2.0 s\n    # it was 7\n    not ok 2 wrong\n";
        let mut follow = Follow::default();
        let found: Vec<_> = text.lines().filter_map(|line| follow.line(line)).collect();
        assert_eq!(
            found,
            [(
                "owned".to_owned(),
                "wrong".to_owned(),
                "it was 7".to_owned()
            )]
        );
    }

    #[test]
    fn a_failed_unit_test_is_found() {
        let text = "test a ... ok\ntest b::c ... FAILED\n\nthread 'b::c' panicked at x.rs:1:2:\nleft != right\n";
        let found = unit_failure("iova-model", text).expect("one failed");
        assert_eq!(
            (found.test.as_str(), found.said.as_str()),
            ("b::c", "left != right")
        );
    }
}
