// SPDX-License-Identifier: GPL-2.0
//! A change of a text at a known place.

use std::ops::Range;

/// What stands at `range` becomes `with`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub range: Range<usize>,
    pub with: String,
}

impl Edit {
    /// The changed text; `None` if the place is not in it.
    pub fn apply(&self, text: &str) -> Option<String> {
        let before = text.get(..self.range.start)?;
        let after = text.get(self.range.end..)?;
        text.get(self.range.clone())?;
        Some(format!("{before}{}{after}", self.with))
    }

    /// The text that goes.
    pub fn gone<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.range.clone()).unwrap_or_default()
    }
}

/// FNV-1a: names a text. The same on every machine and in every version.
pub fn fingerprint(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A number to draw by: like texts have numbers far apart.
pub fn draw(parts: &[&str]) -> u64 {
    let hash = fingerprint(parts);
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// Some text on one line, with single spaces.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_changes_its_place_alone() {
        let edit = Edit {
            range: 4..6,
            with: "!=".into(),
        };
        assert_eq!(edit.apply("a b == c").as_deref(), Some("a b != c"));
        assert_eq!(edit.gone("a b == c"), "==");
    }

    #[test]
    fn an_edit_beyond_the_end_is_none() {
        let edit = Edit {
            range: 4..6,
            with: String::new(),
        };
        assert_eq!(edit.apply("a b"), None);
    }

    #[test]
    fn parts_are_not_run_together() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
    }
}
