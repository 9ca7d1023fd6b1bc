// SPDX-License-Identifier: GPL-2.0
//! What was measured, as lines with ratios.

use serde::Serialize;

use super::bars::{lines, Against, Line};
use crate::record::Records;

/// Those that ours are compared with.
pub const PEERS: [&str; 4] = ["type1", "libusdm", "iommufd-fixed", "iommufd"];

/// One line of the tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub op: String,
    pub size: &'static str,
    pub backing: String,
    /// By which of our calls
    pub front: &'static str,
    pub unit: &'static str,
    pub ours: u64,
    pub best_peer: Option<u64>,
    pub peer: Option<&'static str>,
    pub floor: Option<u64>,
    /// Ours by what `against` names
    pub ratio: Option<f64>,
    pub against: String,
    pub bar: Option<f64>,
    pub floor_ratio: Option<f64>,
    pub floor_bar: Option<f64>,
    /// One of the ratios is above its bar
    pub above: bool,
}

/// The lines of which there is a value of ours.
pub fn rows(records: &Records) -> Vec<Row> {
    lines()
        .iter()
        .filter_map(|line| row(records, line))
        .collect()
}

fn row(records: &Records, line: &Line) -> Option<Row> {
    let get = |way: &str| records.get(&line.row, line.op, way);
    let ours = get(line.ours)?;
    let peers = PEERS.into_iter().filter_map(|way| Some((get(way)?, way)));
    let only = match line.against {
        Against::Peer(way) => Some(way),
        _ => None,
    };
    let best = peers
        .filter(|(_, way)| only.is_none_or(|only| only == *way))
        .min();
    let (against, divisor) = match line.against {
        Against::BestPeer | Against::Peer(_) => match (best, only) {
            (Some((value, way)), _) => (way.to_string(), Some(value)),
            // It cannot have so many: its look-up does not depend on it.
            (None, Some(way)) => (way.to_string(), records.get("lookup-1000", line.op, way)),
            (None, None) => (String::new(), None),
        },
        Against::Row(row) => ("1,000 live".into(), records.get(row, line.op, line.ours)),
        Against::Number(number) => (number.to_string(), Some(number)),
    };
    let floor = get("floor");
    let ratio = divisor.and_then(|divisor| divide(ours, divisor));
    let floor_ratio = floor.and_then(|floor| divide(ours, floor));
    let exceeds = |ratio: Option<f64>, bar: Option<f64>| matches!((ratio, bar), (Some(ratio), Some(bar)) if ratio > bar);
    let (size, backing) = describe(records, &line.row);
    Some(Row {
        op: line.op.into(),
        size,
        backing,
        front: line.ours,
        unit: unit(line.op),
        ours,
        best_peer: best.map(|(value, _)| value),
        peer: best.map(|(_, way)| way),
        floor,
        ratio,
        against,
        bar: line.bar,
        floor_ratio,
        floor_bar: line.floor_bar.filter(|_| floor.is_some()),
        above: exceeds(ratio, line.bar) || exceeds(floor_ratio, line.floor_bar),
    })
}

fn unit(op: &str) -> &'static str {
    match op {
        "bytes" => "bytes",
        _ if op.starts_with("flushes") => "invalidations",
        _ => "ns",
    }
}

/// To a ten-thousandth: more is not in the numbers.
fn divide(ours: u64, by: u64) -> Option<f64> {
    (by > 0).then(|| (ours as f64 / by as f64 * 10_000.0).round() / 10_000.0)
}

/// Size and backing of a row.
fn describe(records: &Records, row: &str) -> (&'static str, String) {
    let runs = match records.get(row, "runs", "memory") {
        Some(1) => ", 1 run".to_string(),
        Some(runs) => format!(", {runs} runs"),
        None => String::new(),
    };
    let (kind, number) = row.split_once('-').unwrap_or((row, ""));
    let (size, backing) = match (kind, number) {
        ("4k", _) => ("4 KiB", "page".into()),
        ("64k", _) => ("64 KiB", format!("scattered{runs}")),
        ("2m", "thp") => ("2 MiB", format!("THP{runs}")),
        ("2m", "huge") => ("2 MiB", format!("hugetlb{runs}")),
        ("2m", _) => ("2 MiB", format!("scattered{runs}")),
        ("64m", "thp") => ("64 MiB", format!("THP{runs}")),
        ("64m", _) => ("64 MiB", format!("scattered{runs}")),
        ("1g", "huge") => ("1 GiB", format!("hugetlb 2 MiB{runs}")),
        ("1g", _) => ("1 GiB", format!("hugetlb 1 GiB{runs}")),
        ("classic", _) => ("4 KiB", "physical page, 1:1".into()),
        ("many", _) => ("4 KiB", "each of 1,000".into()),
        ("growth" | "lookup", live) => ("4 KiB", format!("with {} live", thousands(live))),
        ("memory", _) => ("4 KiB", "per live mapping".into()),
        ("close", _) => ("4 KiB", "50,000 live".into()),
        ("fork", _) => ("4 KiB", "1,000 live".into()),
        _ => ("", row.into()),
    };
    (size, backing)
}

/// Digits in groups of three.
pub fn thousands(number: &str) -> String {
    let mut text = String::new();
    for (index, digit) in number.chars().enumerate() {
        if index > 0 && (number.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(values: &[(&str, &str, &str, u64)]) -> Records {
        let mut records = Records::default();
        for (row, op, way, value) in values {
            records.add(row, op, way, *value);
        }
        records
    }

    #[test]
    fn the_best_peer_counts_and_bars_mark() {
        let records = records(&[
            ("4k", "map", "native", 2500),
            ("4k", "map", "type1", 5000),
            ("4k", "map", "libusdm", 6000),
            ("4k", "map", "floor", 1000),
            ("4k", "unmap", "native", 700),
            ("4k", "unmap", "libusdm", 1000),
        ]);
        let rows = rows(&records);
        assert_eq!(rows.len(), 2);
        let map = &rows[0];
        assert_eq!((map.best_peer, map.peer), (Some(5000), Some("type1")));
        assert_eq!((map.ratio, map.floor_ratio), (Some(0.5), Some(2.5)));
        // Below its bar, and above the floor's.
        assert!(map.above);
        assert_eq!((rows[1].ratio, rows[1].bar), (Some(0.7), Some(0.75)));
        assert!(!rows[1].above);
    }

    #[test]
    fn growth_is_against_ourselves_and_lookups_against_libusdm() {
        let records = records(&[
            ("growth-1000", "map", "native", 1000),
            ("growth-300000", "map", "native", 1200),
            ("growth-300000", "map", "iommufd-fixed", 9),
            ("lookup-1000", "lookup", "libusdm", 40),
            ("lookup-300000", "lookup", "library", 120),
            ("memory", "bytes", "native", 193),
            ("many", "flushes of unmap", "batch", 1),
        ]);
        let found = |op: &str, backing: &str| {
            let rows = rows(&records);
            let found = rows
                .into_iter()
                .find(|row| row.op == op && row.backing.contains(backing));
            found.unwrap()
        };
        let growth = found("map", "with 300,000");
        assert_eq!((growth.ratio, growth.above), (Some(1.2), true));
        let lookup = found("lookup", "with 300,000");
        assert_eq!((lookup.ratio, lookup.above), (Some(3.0), false));
        assert!(found("bytes", "").above);
        assert!(!found("flushes of unmap", "").above);
    }

    #[test]
    fn digits_in_groups() {
        assert_eq!(thousands("1"), "1");
        assert_eq!(thousands("1000"), "1,000");
        assert_eq!(thousands("26700000"), "26,700,000");
    }
}
