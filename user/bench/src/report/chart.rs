// SPDX-License-Identifier: GPL-2.0
//! The chart of the documents: each row that has a bar and a peer, as ours in parts of the best peer,
//! with the bar and the floor.

use std::fmt::Write;

use super::rows::Row;

const LABELS: f64 = 260.0;
const WIDTH: f64 = 420.0;
const STEP: f64 = 22.0;
const TOP: f64 = 46.0;

pub fn svg(rows: &[Row], title: &str) -> String {
    let shown: Vec<&Row> = rows
        .iter()
        .filter(|row| {
            row.bar.is_some()
                && row.best_peer.is_some()
                && matches!(&*row.op, "map" | "unmap")
                && !row.backing.contains("live")
        })
        .collect();
    let height = TOP + STEP * shown.len() as f64 + 30.0;
    let width = LABELS + WIDTH * 1.25 + 70.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"14\">{title}</text>\n\
         <text x=\"8\" y=\"36\" fill=\"#555555\">blue: ours as a part of the best peer (the line at 1); grey: the \
         kernel's floor; red: the bar</text>\n"
    );
    for (index, row) in shown.iter().enumerate() {
        line(&mut svg, row, TOP + STEP * index as f64);
    }
    let (x, bottom) = (LABELS + WIDTH, height - 24.0);
    // Writing to a string cannot fail.
    let _ = write!(
        svg,
        "<line x1=\"{x}\" y1=\"{TOP}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"#000000\"/>\n\
         <text x=\"{x}\" y=\"{:.0}\" text-anchor=\"middle\">1</text>\n</svg>\n",
        bottom + 16.0
    );
    svg
}

fn line(svg: &mut String, row: &Row, y: f64) {
    let peer = row.best_peer.unwrap_or(1).max(1) as f64;
    // What is off the chart ends at its edge.
    let x = |part: f64| (part.min(1.25)) * WIDTH;
    let ours = row.ours as f64 / peer;
    let _ = write!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{} {}, {} ({})</text>\n\
         <rect x=\"{LABELS}\" y=\"{:.0}\" width=\"{:.1}\" height=\"12\" fill=\"#4878b0\"/>\n",
        LABELS - 8.0,
        y + 13.0,
        row.size,
        row.backing.split(',').next().unwrap_or(""),
        row.op,
        row.front,
        y + 3.0,
        x(ours).max(1.0),
    );
    if let Some(floor) = row.floor {
        let _ = writeln!(
            svg,
            "<rect x=\"{LABELS}\" y=\"{:.0}\" width=\"{:.1}\" height=\"4\" fill=\"#b0b0b0\"/>",
            y + 11.0,
            x(floor as f64 / peer).max(1.0),
        );
    }
    let bar = LABELS + x(row.bar.unwrap_or(0.0));
    let _ = write!(
        svg,
        "<line x1=\"{bar:.1}\" y1=\"{:.0}\" x2=\"{bar:.1}\" y2=\"{:.0}\" stroke=\"#c03030\" stroke-width=\"2\"/>\n\
         <text x=\"{:.0}\" y=\"{:.0}\">{ours:.3}</text>\n",
        y + 1.0,
        y + 17.0,
        LABELS + WIDTH * 1.25 + 8.0,
        y + 13.0,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Records;

    #[test]
    fn rows_without_a_peer_are_left_out() {
        let mut records = Records::default();
        records.add("4k", "map", "native", 5);
        records.add("4k", "map", "type1", 10);
        records.add("2m-thp", "map", "native", 5);
        let svg = svg(&super::super::rows::rows(&records), "title");
        assert!(svg.contains("4 KiB page, map (native)") && svg.contains("0.500"));
        assert!(!svg.contains("2 MiB"));
        assert!(svg.ends_with("</svg>\n"));
    }
}
