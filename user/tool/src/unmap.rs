// SPDX-License-Identifier: GPL-2.0
//! `qat-iommu unmap`: the forced release of what a kernel client left mapped.

use qat_iommu::{Context, Iova};
use serde::Serialize;

use crate::number::{parse, parse_size, size};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// First IOVA of the mapping, as `qat-iommu list` shows it
    #[arg(value_parser = parse)]
    iova: u64,
    /// Its size
    #[arg(value_parser = parse_size)]
    size: u64,
    /// Yes, remove it: nobody uses the memory any more
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Removed {
    iova: u64,
    size: u64,
}

pub fn run(arguments: &Arguments, output: Output) -> anyhow::Result<()> {
    anyhow::ensure!(
        arguments.force,
        "a program's mappings go when it ends; to remove one that a kernel client left behind, \
         say --force"
    );
    Context::open()?.unmap_forced(Iova::new(arguments.iova), arguments.size)?;
    let removed = Removed {
        iova: arguments.iova,
        size: arguments.size,
    };
    output.show(&removed, |removed| {
        format!(
            "removed {} at IOVA {:#x}\n",
            size(removed.size),
            removed.iova
        )
    })
}
