// SPDX-License-Identifier: GPL-2.0
//! What was measured: a flat list of values, kept until the end (a machine whose time is counted
//! must not print in between), one JSON object a line.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::io::Write;

use crate::ways::Round;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which row of the tables: "4k", "growth-1000".
    pub row: String,
    /// "map", "unmap", or what else was done.
    pub op: String,
    /// Whose, by its name in `ways`.
    pub way: String,
    /// Nanoseconds; or bytes, or how many, as the op has it.
    pub value: u64,
}

#[derive(Debug, Default)]
pub struct Records(pub Vec<Record>);

impl Records {
    pub fn add(&mut self, row: &str, op: &str, way: &str, value: u64) {
        self.0.push(Record {
            row: row.into(),
            op: op.into(),
            way: way.into(),
            value,
        });
    }

    /// The medians of some rounds, each divided by how many buffers one was about.
    pub fn add_rounds(&mut self, row: &str, way: &str, rounds: &[Round], buffers: u64) {
        let median = |of: fn(&Round) -> u64| crate::clock::median(rounds.iter().map(of).collect());
        self.add(row, "map", way, median(|round| round.map) / buffers);
        self.add(row, "unmap", way, median(|round| round.unmap) / buffers);
    }

    pub fn write(&self, mut to: impl Write) -> Result<()> {
        for record in &self.0 {
            serde_json::to_writer(&mut to, record)?;
            to.write_all(b"\n")?;
        }
        Ok(to.flush()?)
    }

    /// Those of a file; lines that are none are passed over.
    pub fn read(text: &str) -> Self {
        let records = text
            .lines()
            .filter_map(|line| serde_json::from_str(line.trim()).ok());
        Self(records.collect())
    }

    pub fn get(&self, row: &str, op: &str, way: &str) -> Option<u64> {
        let found = self
            .0
            .iter()
            .find(|one| one.row == row && one.op == op && one.way == way);
        found.map(|record| record.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut records = Records::default();
        let rounds = [(5, 50), (1, 10), (3, 30)].map(|(map, unmap)| Round { map, unmap });
        records.add_rounds("4k", "native", &rounds, 1);
        let mut text = b"[    0.0] noise of a console\r\n".to_vec();
        records.write(&mut text).unwrap();
        let read = Records::read(&String::from_utf8(text).unwrap());
        assert_eq!(read.0, records.0);
        assert_eq!(read.get("4k", "map", "native"), Some(3));
        assert_eq!(read.get("4k", "unmap", "native"), Some(30));
        assert_eq!(read.get("4k", "unmap", "type1"), None);
    }
}
