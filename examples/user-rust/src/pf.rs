// SPDX-License-Identifier: GPL-2.0
//! The DMA engine of the emulated PF (user/qat-pf/README.md), driven from a program
//! through the BAR that sysfs offers.

use rustix::mm::{mmap, MapFlags, ProtFlags};
use std::{fs, io, ptr::NonNull};

const MAGIC: u64 = 0x414d_4446_5054_4151;
/// The status of a transfer that went well.
pub const DONE: u64 = 1;

/// A register, as the index of its 8 bytes.
#[derive(Clone, Copy)]
enum Register {
    Magic = 0,
    Source = 1,
    Destination = 2,
    Length = 3,
    Command = 4,
    Status = 5,
    Fault = 6,
    Pattern = 7,
    Checksum = 8,
}

/// An emulated PF.
pub struct Pf {
    /// Its PCI address.
    pub name: String,
    bar: NonNull<u64>,
}

impl Pf {
    /// The first function whose BAR 0 shows the engine.
    pub fn open() -> io::Result<Self> {
        for device in fs::read_dir("/sys/bus/pci/devices")? {
            let device = device?;
            let Ok(file) = fs::File::options()
                .read(true)
                .write(true)
                .open(device.path().join("resource0"))
            else {
                continue;
            };
            // SAFETY: A new mapping, which nothing else knows.
            let bar = unsafe {
                mmap(
                    std::ptr::null_mut(),
                    4096,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::SHARED,
                    &file,
                    0,
                )
            };
            let Some(bar) = bar.ok().and_then(|bar| NonNull::new(bar.cast())) else {
                continue;
            };
            let name = device.file_name().to_string_lossy().into_owned();
            let pf = Self { name, bar };
            if pf.read(Register::Magic) == MAGIC {
                return Ok(pf);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no PF with the emulated engine; this example runs in scripts/vm",
        ))
    }

    fn read(&self, register: Register) -> u64 {
        // SAFETY: Every register is within the mapped page.
        unsafe { self.bar.add(register as usize).read_volatile() }
    }

    fn write(&mut self, register: Register, value: u64) {
        // SAFETY: As above. The engine does DMA to IOVAs only, which the IOMMU checks.
        unsafe { self.bar.add(register as usize).write_volatile(value) }
    }

    /// Runs a command to its end; the status says how it went.
    fn run(&mut self, command: u64, length: u64) -> u64 {
        self.write(Register::Length, length);
        self.write(Register::Command, command);
        loop {
            match self.read(Register::Status) {
                0 => {}
                status => return status,
            }
        }
    }

    /// Has the PF write `pattern` over and over.
    pub fn fill(&mut self, iova: u64, length: u64, pattern: u64) -> u64 {
        self.write(Register::Destination, iova);
        self.write(Register::Pattern, pattern);
        self.run(2, length)
    }

    /// Has the PF read; what it read is in the checksum.
    pub fn sum(&mut self, iova: u64, length: u64) -> u64 {
        self.write(Register::Source, iova);
        self.run(3, length)
    }

    /// The checksum of what was read last.
    pub fn checksum(&self) -> u64 {
        self.read(Register::Checksum)
    }

    /// The IOVA at which the last transfer was refused.
    pub fn fault(&self) -> u64 {
        self.read(Register::Fault)
    }
}

/// The checksum that the engine computes.
pub fn fnv1a(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}
