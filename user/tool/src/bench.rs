// SPDX-License-Identifier: GPL-2.0
//! `qat-iommu bench`: how long it takes on this host to map and unmap a buffer, by its size.

use anyhow::{ensure, Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use memmap2::{MmapMut, MmapOptions};
use qat_iommu::{Access, Attach, Context, MappingMut, PfAddress, Placement};
use serde::Serialize;
use std::time::{Duration, Instant};

use crate::number::{parse_size, size};
use crate::output::{table, Output};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Sizes of the buffers
    #[arg(long, value_delimiter = ',', value_parser = parse_size, default_value = "4K,64K,1M,16M")]
    sizes: Vec<u64>,
    /// How many times each is mapped and unmapped
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rounds: u32,
    /// In the space of this PF
    #[arg(long)]
    pf: Option<PfAddress>,
    /// Use buffers of huge pages
    #[arg(long)]
    huge: bool,
}

/// Nanoseconds.
#[derive(Serialize)]
struct Times {
    median: u64,
    p99: u64,
}

#[derive(Serialize)]
struct Row {
    size: u64,
    huge: bool,
    rounds: u32,
    map: Times,
    unmap: Times,
}

pub fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let context = Context::open()?;
    if let Some(pf) = arguments.pf {
        context.attach(Attach::Pf(pf))?;
    }
    let steps = u64::from(arguments.rounds) * arguments.sizes.len() as u64;
    // Drawn on standard error, and only if that is a terminal.
    let progress = ProgressBar::new(steps);
    progress.set_style(ProgressStyle::with_template(
        "{msg:>8} {wide_bar} {pos}/{len}",
    )?);
    let mut rows = Vec::new();
    for bytes in &arguments.sizes {
        progress.set_message(size(*bytes));
        rows.push(measure(&context, *bytes, arguments, &progress)?);
    }
    progress.finish_and_clear();
    output.show(&rows, |rows| people(rows))
}

fn measure(
    context: &Context,
    bytes: u64,
    arguments: &Arguments,
    progress: &ProgressBar,
) -> Result<Row> {
    let mut buffer = buffer(bytes, arguments.huge)?;
    let (mut maps, mut unmaps) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        let start = Instant::now();
        let mapping = MappingMut::new(context, &mut buffer, Access::ReadWrite, Placement::Any)?;
        let mapped = Instant::now();
        mapping.unmap()?;
        unmaps.push(mapped.elapsed());
        maps.push(mapped - start);
        progress.inc(1);
    }
    Ok(Row {
        size: bytes,
        huge: arguments.huge,
        rounds: arguments.rounds,
        map: times(maps),
        unmap: times(unmaps),
    })
}

/// Memory that is there: what is measured is the mapping.
fn buffer(bytes: u64, huge: bool) -> Result<MmapMut> {
    ensure!(bytes > 0, "a buffer has at least 1 byte");
    let mut options = MmapOptions::new();
    options.len(usize::try_from(bytes)?);
    if huge {
        options.huge(Some(21));
    }
    let buffer = options.map_anon();
    let mut buffer = buffer.with_context(|| format!("no buffer of {} to be had", size(bytes)))?;
    buffer.fill(1);
    Ok(buffer)
}

fn times(mut all: Vec<Duration>) -> Times {
    all.sort_unstable();
    let at = |percent: usize| {
        let index = (all.len() * percent / 100).min(all.len() - 1);
        u64::try_from(all[index].as_nanos()).unwrap_or(u64::MAX)
    };
    Times {
        median: at(50),
        p99: at(99),
    }
}

fn people(rows: &[Row]) -> String {
    let micros = |nanoseconds: u64| format!("{}.{} us", nanoseconds / 1000, nanoseconds / 100 % 10);
    let rows = rows.iter().map(|row| {
        [
            size(row.size),
            micros(row.map.median),
            micros(row.map.p99),
            micros(row.unmap.median),
            micros(row.unmap.p99),
        ]
    });
    table(
        ["SIZE", "MAP", "MAP 99%", "UNMAP", "UNMAP 99%"],
        &[0, 1, 2, 3, 4],
        rows.collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        let all: Vec<Duration> = (1..=100).map(Duration::from_nanos).collect();
        let times = times(all);
        assert_eq!((times.median, times.p99), (51, 100));
        let one = super::times(vec![Duration::from_nanos(7)]);
        assert_eq!((one.median, one.p99), (7, 7));
    }
}
