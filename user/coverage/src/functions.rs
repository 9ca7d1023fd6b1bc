// SPDX-License-Identifier: GPL-2.0
//! First lines of functions. Where a function is a part of its callers, the copy that stands by
//! itself is called by nobody, and only that one has code of the line with the name. Such a line is
//! reached if one between its braces is.

use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::path::Path;

use crate::places::Lines;

/// Marks the first lines of functions of which a line was reached.
pub fn enter(lines: &mut Lines, tree: &Path) -> Result<()> {
    let mut texts: BTreeMap<&str, String> = BTreeMap::new();
    let mut entered = Vec::new();
    let missed = lines.0.iter().filter(|(_, reached)| !**reached);
    for ((file, line), _) in missed {
        if !texts.contains_key(file.as_str()) {
            let text = std::fs::read_to_string(tree.join(file)).context(file.clone())?;
            texts.insert(file, text);
        }
        let Some(last) = texts.get(file.as_str()).and_then(|text| end(text, *line)) else {
            continue;
        };
        let within = (file.clone(), line + 1)..=(file.clone(), last);
        if lines.0.range(within).any(|(_, reached)| *reached) {
            entered.push((file.clone(), *line));
        }
    }
    lines.0.extend(entered.into_iter().map(|line| (line, true)));
    Ok(())
}

/// The last line of the function that begins at this one, if one does.
fn end(text: &str, line: u32) -> Option<u32> {
    let mut rest = (1..).zip(text.lines()).skip_while(|(at, _)| *at < line);
    let (_, first) = rest.next()?;
    let code = first.trim_start();
    let named = code.starts_with("fn ") || code.contains(" fn ");
    if !named || code.starts_with("//") {
        return None;
    }
    let indent = first.get(..first.len() - code.len())?;
    let closing = |text: &str| text.strip_prefix(indent).is_some_and(|rest| rest == "}");
    rest.find(|(_, text)| closing(text)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "impl A {\n    fn a(&self) {\n        one();\n    }\n\n    pub fn b(\n        x: u8,\n    ) -> u8 {\n        x\n    }\n}\n";

    #[test]
    fn a_function_ends_at_its_brace() {
        assert_eq!(end(TEXT, 2), Some(4));
        assert_eq!(end(TEXT, 6), Some(10));
        assert_eq!(end(TEXT, 3), None);
    }

    #[test]
    fn entered_if_a_line_of_it_is_reached() {
        let dir = std::env::temp_dir().join(format!("functions-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.rs"), TEXT).unwrap();
        let line = |number| ("a.rs".to_owned(), number);
        let mut lines = Lines(
            [
                (line(2), false),
                (line(3), true),
                (line(6), false),
                (line(9), false),
            ]
            .into(),
        );
        enter(&mut lines, &dir).unwrap();
        let reached: Vec<bool> = lines.0.into_values().collect();
        assert_eq!(reached, [true, true, false, false]);
    }
}
