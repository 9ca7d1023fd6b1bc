// SPDX-License-Identifier: GPL-2.0
//! What is to be reached: every bar, in one table.

use crate::growth::LIVE;

/// What a value of ours is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The fastest of the peers
    BestPeer,
    /// This one
    Peer(&'static str),
    /// Our own value in another row
    Row(&'static str),
    /// This number
    Number(u64),
}

/// A line of the tables, and how large its ratio may be.
#[derive(Debug, Clone)]
pub struct Line {
    pub row: String,
    pub op: &'static str,
    /// Which way of ours it is about.
    pub ours: &'static str,
    pub against: Against,
    pub bar: Option<f64>,
    /// How large ours may be against the floor.
    pub floor_bar: Option<f64>,
}

const SMALL: Option<f64> = Some(2.0);
const LARGE: Option<f64> = Some(1.3);

/// Rows with a map and an unmap: row, way of ours, against, bars of the two, against the floor.
type Pair = (
    &'static str,
    &'static str,
    Against,
    Option<(f64, f64)>,
    Option<f64>,
);

#[rustfmt::skip]
const PAIRS: [Pair; 18] = [
    ("4k",            "native",  Against::BestPeer,        Some((0.60, 0.75)), SMALL),
    ("4k",            "library", Against::BestPeer,        None,               SMALL),
    ("4k",            "usdm",    Against::Peer("libusdm"), Some((0.55, 0.80)), SMALL),
    ("64k-scattered", "native",  Against::BestPeer,        Some((0.85, 0.50)), None),
    ("2m-thp",        "native",  Against::BestPeer,        Some((0.35, 0.06)), LARGE),
    ("2m-huge",       "native",  Against::BestPeer,        Some((0.35, 0.06)), LARGE),
    ("2m-scattered",  "native",  Against::BestPeer,        Some((1.00, 0.60)), LARGE),
    ("64m-thp",       "native",  Against::BestPeer,        Some((0.50, 0.01)), LARGE),
    ("64m-scattered", "native",  Against::BestPeer,        None,               LARGE),
    ("1g-huge",       "native",  Against::BestPeer,        Some((0.50, 0.01)), LARGE),
    ("1g-giant",      "native",  Against::BestPeer,        Some((0.50, 0.01)), LARGE),
    ("classic",       "library", Against::Peer("type1"),   Some((0.50, 0.70)), None),
    ("classic",       "native",  Against::Peer("type1"),   None,               None),
    ("classic",       "kernel",  Against::Peer("type1"),   None,               None),
    ("many",          "native",  Against::Peer("type1"),   None,               SMALL),
    ("many",          "library", Against::Peer("type1"),   None,               SMALL),
    ("many",          "usdm",    Against::Peer("libusdm"), None,               SMALL),
    ("many",          "batch",   Against::Peer("type1"),   Some((0.45, 0.30)), SMALL),
];

/// How much slower with many live mappings than with a thousand.
const GROWTH: f64 = 1.15;

/// How much slower than libusdm a look-up may be: up to a thousand mappings, and with more.
const LOOKUP: (f64, f64) = (1.5, 3.0);

/// Bytes of kernel memory per live mapping, beside the IOMMU's tables.
const MEMORY: u64 = 192;

/// IOTLB invalidations: row, way of ours, of a map, of an unmap.
const FLUSHES: [(&str, &str, f64, f64); 6] = [
    ("4k", "native", 0.0, 1.0),
    ("64k-scattered", "native", 0.0, 1.0),
    ("2m-thp", "native", 0.0, 1.0),
    ("64m-thp", "native", 0.0, 1.0),
    ("64m-scattered", "native", 0.0, 1.0),
    ("many", "batch", 0.0, 1.0),
];

/// All lines, in the order in which they are shown.
pub fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for (row, ours, against, bars, floor_bar) in PAIRS {
        let line = |op, bar| Line {
            row: row.into(),
            op,
            ours,
            against,
            bar,
            floor_bar,
        };
        lines.push(line("map", bars.map(|bars| bars.0)));
        lines.push(line("unmap", bars.map(|bars| bars.1)));
    }
    for ours in ["native", "native-fixed"] {
        for live in LIVE {
            for op in ["map", "unmap"] {
                let row = crate::growth::row("growth", live);
                lines.push(plain(
                    row,
                    op,
                    ours,
                    Against::Row("growth-1000"),
                    Some(GROWTH),
                ));
            }
        }
    }
    for live in [1].into_iter().chain(LIVE) {
        let bar = if live > 1000 { LOOKUP.1 } else { LOOKUP.0 };
        let row = crate::growth::row("lookup", live);
        let against = Against::Peer("libusdm");
        lines.push(plain(row, "lookup", "library", against, Some(bar)));
    }
    let memory = Against::Number(MEMORY);
    lines.push(plain("memory", "bytes", "native", memory, Some(1.0)));
    lines.push(plain("close", "close", "native", Against::BestPeer, None));
    for op in ["fork", "fork-exec-wait"] {
        lines.push(plain("fork", op, "native", Against::BestPeer, None));
    }
    for (row, ours, map, unmap) in FLUSHES {
        for (op, bar) in [("flushes of map", map), ("flushes of unmap", unmap)] {
            lines.push(plain(row, op, ours, Against::Number(1), Some(bar)));
        }
    }
    lines
}

fn plain(
    row: impl Into<String>,
    op: &'static str,
    ours: &'static str,
    against: Against,
    bar: Option<f64>,
) -> Line {
    Line {
        row: row.into(),
        op,
        ours,
        against,
        bar,
        floor_bar: None,
    }
}
