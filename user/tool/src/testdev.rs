// SPDX-License-Identifier: GPL-2.0
//! Devices that can be told to copy memory: the emulated PF of this project's test bench, and
//! QEMU's `edu`. A real PF has no such register, and is left alone.
#![allow(unsafe_code)]

use anyhow::{ensure, Context as _, Result};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::time::{Duration, Instant};

use crate::host::{Function, Host};

/// The part of BAR 0 that holds the registers.
const LENGTH: usize = 4096;
/// No transfer of a page takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(20);

const EDU: (u16, u16) = (0x1234, 0x11e8);
/// `QATPFDMA`
const MAGIC: u64 = 0x414d_4446_5054_4151;

/// A device that copies.
pub struct Copier {
    registers: MmapRaw,
    kind: Kind,
}

enum Kind {
    EmulatedPf,
    Edu,
}

impl Copier {
    /// The device behind a PF, if it is one that copies.
    pub fn open(host: &Host, pf: &Function) -> Result<Option<Self>> {
        let path = host.path(format!("{}/resource0", pf.directory()));
        let file = File::options().read(true).write(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let registers = MmapOptions::new().len(LENGTH).map_raw(&file);
        let registers = registers.with_context(|| format!("cannot map {}", path.display()))?;
        let mut copier = Self {
            registers,
            kind: Kind::EmulatedPf,
        };
        if (pf.vendor, pf.device) == EDU {
            copier.kind = Kind::Edu;
            return Ok((copier.read_half(0) & 0xff == 0xed).then_some(copier));
        }
        Ok((copier.read(0) == MAGIC).then_some(copier))
    }

    /// Copies up to a page from one IOVA to another. Whether it arrived, memory shows.
    pub fn copy(&self, from: u64, to: u64, length: u64) -> Result<()> {
        ensure!(length <= 4096, "a page at most");
        match self.kind {
            Kind::EmulatedPf => self.run(
                [(0x08, from), (0x10, to), (0x18, length)],
                (0x20, 1),
                (0x28, 0),
            ),
            Kind::Edu => {
                // Through its own buffer, one way after the other; bit 0 is set while it runs.
                const BUFFER: u64 = 0x40000;
                self.run(
                    [(0x80, from), (0x88, BUFFER), (0x90, length)],
                    (0x98, 1),
                    (0x98, 1),
                )?;
                self.run(
                    [(0x80, BUFFER), (0x88, to), (0x90, length)],
                    (0x98, 3),
                    (0x98, 3),
                )
            }
        }
    }

    /// Sets registers, starts, and waits while a register has its busy value.
    fn run(&self, set: [(usize, u64); 3], start: (usize, u64), busy: (usize, u64)) -> Result<()> {
        for (register, value) in set {
            self.write(register, value);
        }
        self.write(start.0, start.1);
        let begin = Instant::now();
        while self.read(busy.0) == busy.1 {
            ensure!(begin.elapsed() < PATIENCE, "the device does not finish");
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(())
    }

    fn read(&self, offset: usize) -> u64 {
        // SAFETY: `register` is within the mapping and aligned.
        unsafe { self.register(offset).read_volatile() }
    }

    /// The identification of `edu` can be read in this width only.
    fn read_half(&self, offset: usize) -> u32 {
        // SAFETY: as above; half of a register is aligned, too.
        unsafe { self.register(offset).cast::<u32>().read_volatile() }
    }

    fn write(&self, offset: usize, value: u64) {
        // SAFETY: as above; what the device does by it is confined by the IOMMU to what is mapped,
        // and to buffers of this program that are borrowed meanwhile.
        unsafe { self.register(offset).write_volatile(value) }
    }

    fn register(&self, offset: usize) -> *mut u64 {
        assert!(offset % 8 == 0 && offset + 8 <= LENGTH);
        self.registers.as_mut_ptr().wrapping_add(offset).cast()
    }
}
