// SPDX-License-Identifier: GPL-2.0
//! qat-pf: an emulated QAT Physical Function and its VFs. QEMU's vfio-user-pci devices connect to its sockets, and it
//! serves them until QEMU goes, then writes the record of what the guest's IOMMU let each of them reach.

#![forbid(unsafe_code)]

mod config;
mod connection;
mod device;
mod dma;
mod engine;
mod irq;
mod proto;
mod ranges;
mod record;
mod registers;
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
    /// Number of VFs, 7 at most. They listen on PATH.vf0, PATH.vf1 and so on
    #[arg(long, value_name = "N", default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(0..=i64::from(config::MAX_VFS)))]
    vfs: u16,
    /// Stay when QEMU disconnects, which it does to unplug a device, until a signal comes
    #[arg(long)]
    stay: bool,
    /// No MSI-X, with which QEMU 11.1 does not survive that the device is unplugged
    #[arg(long)]
    no_msix: bool,
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
    let mut card = server::Card::new(functions(arguments)?);
    let served = card.serve(&signals, arguments.stay);
    // The record is owed however serving ended.
    let ended = served.as_ref().map_or("error", server::End::name);
    if let Some(path) = &arguments.record {
        let records = card.devices().map(|device| device.record(ended));
        record::write(records, path)?;
    }
    served.map(drop)
}

/// The PF and its VFs, each listening. The PF's socket comes last: once it exists, all do.
fn functions(arguments: &Arguments) -> anyhow::Result<Vec<(server::Endpoint, device::Device)>> {
    let way = if arguments.messages {
        device::Way::Messages
    } else {
        device::Way::Table
    };
    let mut functions = Vec::new();
    for index in 0..arguments.vfs {
        let mut path = arguments.socket.clone().into_os_string();
        path.push(format!(".vf{index}"));
        functions.push((
            server::Endpoint::bind(path.as_ref())?,
            device::Device::new(
                format!("{}.vf{index}", arguments.name),
                arguments.id.vf(),
                device::Kind::Virtual,
                way,
            ),
        ));
    }
    let kind = device::Kind::Physical {
        vfs: arguments.vfs,
        msix: !arguments.no_msix,
    };
    let pf = device::Device::new(arguments.name.clone(), arguments.id, kind, way);
    functions.insert(0, (server::Endpoint::bind(&arguments.socket)?, pf));
    Ok(functions)
}
