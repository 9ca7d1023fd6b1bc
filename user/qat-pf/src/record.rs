// SPDX-License-Identifier: GPL-2.0
//! The record: an account, independent of the guest, of what the IOMMU let the device reach. It is made of the
//! DMA_MAP and DMA_UNMAP messages alone. Before the guest turns translation on, and again once its shutdown turns it
//! off, QEMU maps all of guest memory; the two marks cut out the part between.

use crate::dma::Table;
use crate::engine::Totals;
use crate::ranges::{Access, Range, Reach, Span};
use anyhow::{Context, Result};
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// Values of the mark register.
pub const MARK_BEGIN: u64 = 1;
pub const MARK_END: u64 = 2;

#[derive(Clone, Serialize)]
struct Transfers {
    done: u64,
    faults: u64,
    bytes: u64,
    message_bytes: u64,
}

impl From<Totals> for Transfers {
    fn from(totals: Totals) -> Self {
        Transfers {
            done: totals.done,
            faults: totals.faults,
            bytes: totals.bytes,
            message_bytes: totals.message_bytes,
        }
    }
}

/// The record as it is written; README.md explains every field.
#[derive(Clone, Serialize)]
pub struct Record {
    name: String,
    id: String,
    ended: &'static str,
    now: Vec<Range>,
    ever: Vec<Range>,
    at_mark: Option<Vec<Range>>,
    since_mark: Option<Vec<Range>>,
    added_after_boot: Option<u64>,
    added_after_boot_ranges: Option<Vec<Range>>,
    maps: u64,
    unmaps: u64,
    refused: u64,
    dma: Transfers,
    vfs: Vec<Record>,
}

/// What is kept from the begin mark on.
struct Since {
    at_mark: Vec<Range>,
    /// What could be reached at the mark or later.
    reach: Reach,
    added: Reach,
    maps: u64,
}

pub struct Recorder {
    name: String,
    id: String,
    ever: Reach,
    since: Option<Since>,
    maps: u64,
    unmaps: u64,
    refused: u64,
    /// The record at the end mark; what comes later no longer counts.
    closed: Option<Record>,
}

impl Recorder {
    pub fn new(name: String, id: String) -> Self {
        Recorder {
            name,
            id,
            ever: Reach::default(),
            since: None,
            maps: 0,
            unmaps: 0,
            refused: 0,
            closed: None,
        }
    }

    pub fn mapped(&mut self, span: Span, access: Access) {
        self.maps += 1;
        self.ever.add(span, access);
        if let Some(since) = &mut self.since {
            since.maps += 1;
            since.reach.add(span, access);
            since.added.add(span, access);
        }
    }

    pub fn unmapped(&mut self) {
        self.unmaps += 1;
    }

    /// A DMA_MAP that contradicted the table or made no sense.
    pub fn refused(&mut self) {
        self.refused += 1;
    }

    /// The guest wrote the mark register, or a signal did its part. A second begin starts over; an end holds until a begin.
    pub fn mark(&mut self, value: u64, table: &Table, totals: Totals) {
        match value {
            MARK_BEGIN => {
                let reach = table.reach();
                self.closed = None;
                self.since = Some(Since {
                    at_mark: reach.list(),
                    reach,
                    added: Reach::default(),
                    maps: 0,
                });
            }
            MARK_END => self.closed = Some(self.build("end mark", table, totals)),
            _ => {}
        }
    }

    /// What the mark register reads.
    pub fn marked(&self) -> u64 {
        match (&self.closed, &self.since) {
            (Some(_), _) => MARK_END,
            (None, Some(_)) => MARK_BEGIN,
            (None, None) => 0,
        }
    }

    pub fn maps_since_mark(&self) -> u64 {
        self.since.as_ref().map_or(0, |since| since.maps)
    }

    fn build(&self, ended: &'static str, table: &Table, totals: Totals) -> Record {
        let since = self.since.as_ref();
        Record {
            name: self.name.clone(),
            id: self.id.clone(),
            ended,
            now: table.reach().list(),
            ever: self.ever.list(),
            at_mark: since.map(|since| since.at_mark.clone()),
            since_mark: since.map(|since| since.reach.list()),
            added_after_boot: since.map(|since| since.maps),
            added_after_boot_ranges: since.map(|since| since.added.list()),
            maps: self.maps,
            unmaps: self.unmaps,
            refused: self.refused,
            dma: totals.into(),
            vfs: Vec::new(),
        }
    }

    /// The record for good: as it stood at the end mark if there was one, else as it stands.
    pub fn finish(&self, ended: &'static str, table: &Table, totals: Totals) -> Record {
        match &self.closed {
            Some(record) => record.clone(),
            None => self.build(ended, table, totals),
        }
    }
}

/// Writes the PF's record, which comes first, with those of its VFs in it: the file whole, or not at all.
pub fn write(records: impl IntoIterator<Item = Record>, path: &Path) -> Result<()> {
    let mut records = records.into_iter();
    let record = records.next().map(|pf| Record {
        vfs: records.collect(),
        ..pf
    });
    let why = || format!("cannot write the record to {}", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(why)?;
    serde_json::to_writer_pretty(&mut file, &record).with_context(why)?;
    file.write_all(b"\n").with_context(why)?;
    // A temporary file is private; the record is an ordinary result.
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::fchmod(file.as_file(), mode).with_context(why)?;
    file.persist(path).with_context(why)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dma::tests::{memory, span, RO, RW};

    fn map(recorder: &mut Recorder, table: &mut Table, first: u64, size: u64, access: Access) {
        let span = span(first, size);
        table.map(span, access, Some(memory(size)), 0).expect("map");
        recorder.mapped(span, access);
    }

    fn json(record: &Record) -> serde_json::Value {
        serde_json::to_value(record).expect("json")
    }

    #[test]
    fn the_mark_parts_boot_from_what_came_after() {
        let (mut recorder, mut table) = (
            Recorder::new("pf0".into(), "8086:4940".into()),
            Table::default(),
        );
        map(&mut recorder, &mut table, 0, 0x10_0000, RW);
        table.unmap(Span::ALL);
        recorder.unmapped();
        map(&mut recorder, &mut table, 0x20_0000, 0x1000, RO);
        assert_eq!(
            json(&recorder.build("x", &table, Totals::default()))["added_after_boot"],
            serde_json::Value::Null
        );
        assert_eq!(recorder.marked(), 0);
        recorder.mark(MARK_BEGIN, &table, Totals::default());
        map(&mut recorder, &mut table, 0x20_1000, 0x1000, RO);
        map(&mut recorder, &mut table, 0x30_0000, 0x1000, RW);
        table.unmap(span(0x30_0000, 0x1000));
        recorder.unmapped();

        let value = json(&recorder.finish("disconnect", &table, Totals::default()));
        let range = |iova: u64, size: u64, write: bool| serde_json::json!({"iova": iova, "size": size, "read": true, "write": write});
        assert_eq!(
            value["now"],
            serde_json::json!([range(0x20_0000, 0x2000, false)])
        );
        assert_eq!(
            value["ever"],
            serde_json::json!([
                range(0, 0x10_0000, true),
                range(0x20_0000, 0x2000, false),
                range(0x30_0000, 0x1000, true)
            ])
        );
        assert_eq!(
            value["at_mark"],
            serde_json::json!([range(0x20_0000, 0x1000, false)])
        );
        assert_eq!(
            value["since_mark"],
            serde_json::json!([
                range(0x20_0000, 0x2000, false),
                range(0x30_0000, 0x1000, true)
            ])
        );
        assert_eq!(value["added_after_boot"], 2);
        assert_eq!((&value["maps"], &value["unmaps"]), (&4.into(), &2.into()));
    }

    #[test]
    fn after_the_end_mark_nothing_counts() {
        let (mut recorder, mut table) = (
            Recorder::new("pf0".into(), "8086:4940".into()),
            Table::default(),
        );
        recorder.mark(MARK_BEGIN, &table, Totals::default());
        recorder.mark(MARK_END, &table, Totals::default());
        assert_eq!(recorder.marked(), MARK_END);
        map(&mut recorder, &mut table, 0, 0x10_0000, RW);
        let value = json(&recorder.finish("disconnect", &table, Totals::default()));
        assert_eq!(value["ended"], "end mark");
        assert_eq!(value["now"], serde_json::json!([]));
        assert_eq!(value["ever"], serde_json::json!([]));
        assert_eq!(value["added_after_boot"], 0);
        recorder.mark(MARK_BEGIN, &table, Totals::default());
        assert_eq!(
            json(&recorder.finish("disconnect", &table, Totals::default()))["ended"],
            "disconnect"
        );
    }

    #[test]
    fn the_file_is_replaced_whole_and_left_alone_on_failure() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("record.json");
        std::fs::write(&path, "old").expect("write");
        let recorder = Recorder::new("pf7".into(), "8086:4940".into());
        let record = recorder.finish("disconnect", &Table::default(), Totals::default());
        write([record.clone()], &path).expect("record");
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.contains("\"pf7\"") && text.ends_with("}\n"), "{text}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1);
        let missing = folder.path().join("none/record.json");
        assert!(write([record], &missing).is_err());
    }
}
