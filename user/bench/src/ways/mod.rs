// SPDX-License-Identifier: GPL-2.0
//! The ways to have a buffer mapped: ours, the peers', and the floor.

mod floor;
mod iommufd;
pub mod library;
mod native;
mod type1;
pub mod usdm;
mod vfio;

pub use floor::{Floor, Split};
pub use library::Library;
pub use native::Native;

use anyhow::{bail, Result};

use crate::clock::{timed, Mark};
use crate::machine::Machine;
use crate::memory::Span;

/// What one map and one unmap took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    pub map: u64,
    pub unmap: u64,
}

/// A way to map buffers. What is still mapped goes with the value.
pub trait Way: Send {
    /// Another one that maps through the same context, if it can.
    fn share(&self) -> Result<Option<Box<dyn Way>>> {
        Ok(None)
    }

    /// Maps a buffer: at `at`, if the caller of this way chooses the address. Returns the IOVA.
    fn map(&mut self, buffer: Span, at: u64) -> Result<u64>;

    fn unmap(&mut self, buffer: Span, iova: u64) -> Result<()>;

    /// A map and an unmap of a buffer.
    fn round(&mut self, buffer: Span, at: u64) -> Result<Round> {
        let (iova, map) = timed(Mark::Map, || self.map(buffer, at));
        let iova = iova?;
        let (done, unmap) = timed(Mark::Unmap, || self.unmap(buffer, iova));
        done?;
        Ok(Round { map, unmap })
    }

    /// Maps all of the buffers, at increasing addresses.
    fn map_all(&mut self, buffers: &[Span], at: u64) -> Result<Vec<u64>> {
        let mut iovas = Vec::with_capacity(buffers.len());
        let mut at = at;
        for buffer in buffers {
            iovas.push(self.map(*buffer, at)?);
            at += buffer.length as u64;
        }
        Ok(iovas)
    }

    fn unmap_all(&mut self, buffers: &[Span], iovas: &[u64]) -> Result<()> {
        for (buffer, iova) in buffers.iter().zip(iovas) {
            self.unmap(*buffer, *iova)?;
        }
        Ok(())
    }

    /// All of the buffers, timed as a whole.
    fn round_of_many(&mut self, buffers: &[Span], at: u64) -> Result<Round> {
        let (iovas, map) = timed(Mark::Map, || self.map_all(buffers, at));
        let iovas = iovas?;
        let (done, unmap) = timed(Mark::Unmap, || self.unmap_all(buffers, &iovas));
        done?;
        Ok(Round { map, unmap })
    }
}

/// What they are called, in the order in which they are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Name {
    /// Ours: the ioctl, kernel-chosen IOVA
    Native,
    /// Ours: the ioctl, fixed IOVA
    NativeFixed,
    /// Ours: qat_iommu_map_user() of the library
    Library,
    /// Ours: qaeMemMapContiguousIova() of the library
    Usdm,
    /// Ours: batches by the ioctl
    Batch,
    /// VFIO type1 v2
    Type1,
    /// libusdm
    Libusdm,
    /// iommufd, fixed IOVA
    IommufdFixed,
    /// iommufd, kernel-chosen IOVA
    Iommufd,
    /// The kernel's own functions, and nothing else
    Floor,
}

impl Name {
    pub const ALL: [Name; 10] = [
        Name::Native,
        Name::NativeFixed,
        Name::Library,
        Name::Usdm,
        Name::Batch,
        Name::Type1,
        Name::Libusdm,
        Name::IommufdFixed,
        Name::Iommufd,
        Name::Floor,
    ];

    pub fn text(self) -> &'static str {
        match self {
            Name::Native => "native",
            Name::NativeFixed => "native-fixed",
            Name::Library => "library",
            Name::Usdm => "usdm",
            Name::Batch => "batch",
            Name::Type1 => "type1",
            Name::Libusdm => "libusdm",
            Name::IommufdFixed => "iommufd-fixed",
            Name::Iommufd => "iommufd",
            Name::Floor => "floor",
        }
    }

    /// Whether this machine has what it takes.
    pub fn available(self, machine: &Machine) -> bool {
        match self {
            Name::Native | Name::NativeFixed | Name::Library | Name::Usdm | Name::Batch => true,
            Name::Type1 => machine.has_vfio(),
            Name::Libusdm => machine.has_vfio() && machine.libusdm.exists(),
            Name::IommufdFixed | Name::Iommufd => machine.has_iommufd(),
            Name::Floor => machine.has_floor(),
        }
    }

    /// How many mappings at once it can have.
    pub fn most(self) -> usize {
        match self {
            Name::Type1 | Name::Libusdm => 65_000,
            // It looks through all of them for a free range.
            Name::Iommufd => 10_000,
            Name::Floor => 0,
            // A page of the IOMMU's tables for each, at 2 MiB: memory that small machines lack.
            Name::Usdm => 65_000,
            _ => usize::MAX,
        }
    }

    /// A second one beside the first: VFIO needs a device of its own for it.
    pub fn open_other(self, machine: &Machine) -> Result<Box<dyn Way>> {
        Ok(match self {
            Name::Type1 => Box::new(type1::Type1::new(&machine.usdm)?),
            name => name.open(machine)?,
        })
    }

    pub fn open(self, machine: &Machine) -> Result<Box<dyn Way>> {
        Ok(match self {
            Name::Native => Box::new(Native::new(false)?),
            Name::NativeFixed => Box::new(Native::new(true)?),
            Name::Library => Box::new(Library::native(machine)?),
            Name::Usdm => Box::new(Library::compatible(machine)?),
            Name::Batch => Box::new(native::Batch::new()?),
            Name::Type1 => Box::new(type1::Type1::new(&machine.type1)?),
            Name::Libusdm => Box::new(usdm::Libusdm::new(machine)?),
            Name::IommufdFixed => Box::new(iommufd::Iommufd::new(machine, true)?),
            Name::Iommufd => Box::new(iommufd::Iommufd::new(machine, false)?),
            Name::Floor => Box::new(Floor::new()?),
        })
    }
}

/// The end of everything: an unmap that does nothing would look fast.
fn check(what: &str, good: bool) -> Result<()> {
    if !good {
        bail!("{what}: {}", std::io::Error::last_os_error());
    }
    Ok(())
}
