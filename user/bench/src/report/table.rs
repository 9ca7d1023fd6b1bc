// SPDX-License-Identifier: GPL-2.0
//! Tables for people, on a terminal and in a document.

use comfy_table::{presets, CellAlignment, Table};

use super::rows::{thousands, Row};
use crate::record::Records;

/// What stands in the last column of a row that is above a bar.
const MARK: &str = "ABOVE";

pub fn text(rows: &[Row]) -> String {
    let mut table = lines(rows);
    table.load_preset(presets::NOTHING);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// As Markdown has it.
pub fn markdown(rows: &[Row]) -> String {
    let mut table = lines(rows);
    table.load_preset(presets::ASCII_MARKDOWN);
    format!("{table}\n")
}

fn lines(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.set_header([
        "op",
        "size",
        "backing",
        "ours",
        "by",
        "best peer",
        "who",
        "floor",
        "ratio",
        "against",
        "bar",
        "x floor",
        "bar",
        "",
    ]);
    for row in rows {
        table.add_row([
            row.op.clone(),
            row.size.into(),
            row.backing.clone(),
            thousands(&row.ours.to_string()),
            row.front.into(),
            number(row.best_peer),
            row.peer.unwrap_or("").into(),
            number(row.floor),
            ratio(row.ratio),
            row.against.clone(),
            ratio(row.bar),
            ratio(row.floor_ratio),
            ratio(row.floor_bar),
            if row.above { MARK } else { "" }.into(),
        ]);
    }
    for index in [3, 5, 7, 8, 10, 11, 12] {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn number(value: Option<u64>) -> String {
    value.map_or(String::new(), |value| thousands(&value.to_string()))
}

/// Small ones with more digits.
fn ratio(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value < 0.01 && value > 0.0 => format!("{value:.4}"),
        Some(value) if value < 0.1 => format!("{value:.3}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// Everything that was measured of maps and unmaps, by everybody: as Markdown.
pub fn everybody(records: &Records) -> String {
    let mut rows: Vec<&str> = Vec::new();
    let mut ways: Vec<&str> = Vec::new();
    for record in records.0.iter().filter(|record| record.op == "map") {
        if !rows.contains(&record.row.as_str()) {
            rows.push(&record.row);
        }
        if !ways.contains(&record.way.as_str()) {
            ways.push(&record.way);
        }
    }
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([&["map / unmap"], &ways[..]].concat());
    for row in rows {
        let cells = ways.iter().map(|way| {
            let value = |op| records.get(row, op, way);
            match (value("map"), value("unmap")) {
                (Some(map), Some(unmap)) => format!(
                    "{} / {}",
                    thousands(&map.to_string()),
                    thousands(&unmap.to_string())
                ),
                _ => String::new(),
            }
        });
        table.add_row([row.to_string()].into_iter().chain(cells));
    }
    format!("{table}\n")
}

/// Two threads beside one: as Markdown.
pub fn parallel(records: &Records) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([
        "load",
        "by",
        "one thread",
        "two, separate contexts",
        "gain",
        "two, one context",
        "gain",
    ]);
    let alone = records.0.iter().filter(|record| record.op == "alone");
    for one in alone {
        let get = |op| records.get(&one.row, op, &one.way);
        let (separate, shared) = (get("two, separate contexts"), get("two, one context"));
        let gain = |two: Option<u64>| {
            ratio(
                two.filter(|two| *two > 0)
                    .map(|two| one.value as f64 / two as f64),
            )
        };
        table.add_row([
            one.row.replace("parallel-", ""),
            one.way.clone(),
            number(Some(one.value)),
            number(separate),
            gain(separate),
            number(shared),
            gain(shared),
        ]);
    }
    format!("{table}\n")
}

/// What the floor is made of: as Markdown.
pub fn floor(records: &Records) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["row", "runs", "pin", "map", "unmap", "unpin"]);
    for pin in records.0.iter().filter(|record| record.op == "floor-pin") {
        let get = |op| number(records.get(&pin.row, op, "floor"));
        table.add_row([
            pin.row.clone(),
            number(records.get(&pin.row, "runs", "memory")),
            number(Some(pin.value)),
            get("floor-map"),
            get("floor-unmap"),
            get("floor-unpin"),
        ]);
    }
    format!("{table}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_above_its_bar_is_marked() {
        let mut records = Records::default();
        records.add("4k", "map", "native", 9);
        records.add("4k", "map", "type1", 10);
        let rows = super::super::rows::rows(&records);
        let text = text(&rows);
        let line = text.lines().nth(1).unwrap();
        assert!(line.contains("0.90") && line.ends_with("ABOVE"), "{text}");
        assert!(markdown(&rows).contains("| map "));
    }
}
