// SPDX-License-Identifier: GPL-2.0
//! qat-pf: an emulated QAT Physical Function. QEMU's vfio-user-pci device connects to its socket, and it serves that
//! one device until QEMU goes, then writes the record of what the guest's IOMMU let it reach.

#![forbid(unsafe_code)]

mod bar0;
mod config;
mod connection;
mod device;
mod dma;
mod engine;
mod irq;
mod proto;
mod ranges;
mod record;
mod server;
mod signals;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// An emulated QAT PF for QEMU's vfio-user-pci device
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// UNIX socket to listen on; once it exists, QEMU can be started
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Vendor and device number of the PF
    #[arg(long, value_name = "VVVV:DDDD", default_value = "8086:4940")]
    id: config::PciId,
    /// Where to write, at the end, what the IOMMU let the PF reach (JSON)
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Name of the PF in its record
    #[arg(long, default_value = "pf0")]
    name: String,
    /// Move all data by message to QEMU; the DMA table is only recorded
    #[arg(long)]
    messages: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qat-pf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let signals = signals::Signals::new()?;
    let endpoint = server::Endpoint::bind(&arguments.socket)?;
    let way = if arguments.messages {
        device::Way::Messages
    } else {
        device::Way::Table
    };
    let mut device = device::Device::new(arguments.name.clone(), arguments.id, way);
    let served = server::serve(&endpoint, &signals, &mut device);
    // The record is owed however serving ended.
    let ended = served.as_ref().map_or("error", server::End::name);
    if let Some(path) = &arguments.record {
        device.record(ended).write(path)?;
    }
    served.map(drop)
}
