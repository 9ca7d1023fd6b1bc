// SPDX-License-Identifier: GPL-2.0
//! What the tool prints: text for people or JSON for programs, never both.

use comfy_table::{presets, CellAlignment, Table};
use serde::Serialize;
use std::io::{self, IsTerminal as _, Write as _};

/// How to print.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints a value as JSON, or as the text that `people` makes of it.
    pub fn show<T: Serialize>(
        self,
        value: &T,
        people: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let text = if self.json {
            serde_json::to_string_pretty(value)? + "\n"
        } else {
            people(value)
        };
        Ok(put(&text)?)
    }

    /// Says why the program failed: one line, or an object with `error`.
    pub fn failure(self, error: &anyhow::Error) {
        if self.json {
            let object = serde_json::json!({ "error": format!("{error:#}") });
            // Nobody is left to tell if this fails.
            let _ = put(&format!("{object}\n"));
        } else {
            eprintln!("qat-iommu: {error:#}");
        }
    }
}

/// Writes to standard output. A reader that has gone (`| head`) is no error.
pub fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Whether people look at the output on a terminal.
pub fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// A table: a line of headers, then the rows; the columns named in `right` are aligned right.
pub fn table<const N: usize>(
    headers: [&str; N],
    right: &[usize],
    rows: Vec<[String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headers);
    table.add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_have_no_trailing_space() {
        let rows = vec![["a".into(), "1".into()], ["long".into(), "10".into()]];
        let text = table(["NAME", "N"], &[1], rows);
        assert_eq!(text, "NAME   N\na      1\nlong  10\n");
    }
}
