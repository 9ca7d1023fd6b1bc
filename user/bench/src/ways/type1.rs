// SPDX-License-Identifier: GPL-2.0
//! VFIO type1, version 2: the program chooses the IOVA.

use anyhow::Result;
use std::sync::Arc;

use super::vfio::{ioctl, Container};
use super::Way;
use crate::memory::Span;

const MAP_DMA: libc::Ioctl = 0x3b71;
const UNMAP_DMA: libc::Ioctl = 0x3b72;
const READ_WRITE: u32 = 3;

/// The kernel's `struct vfio_iommu_type1_dma_map`.
#[repr(C)]
struct Map {
    argsz: u32,
    flags: u32,
    vaddr: u64,
    iova: u64,
    size: u64,
}

/// The kernel's `struct vfio_iommu_type1_dma_unmap`.
#[repr(C)]
struct Unmap {
    argsz: u32,
    flags: u32,
    iova: u64,
    size: u64,
}

pub struct Type1 {
    container: Arc<Container>,
}

impl Type1 {
    /// With the device at this PCI address.
    pub fn new(address: &str) -> Result<Self> {
        Ok(Self {
            container: Arc::new(Container::new(address)?),
        })
    }
}

impl Way for Type1 {
    fn share(&self) -> Result<Option<Box<dyn Way>>> {
        let container = Arc::clone(&self.container);
        Ok(Some(Box::new(Self { container })))
    }

    fn map(&mut self, buffer: Span, at: u64) -> Result<u64> {
        let map = Map {
            argsz: size_of::<Map>() as u32,
            flags: READ_WRITE,
            vaddr: buffer.address as u64,
            iova: at,
            size: buffer.length as u64,
        };
        // SAFETY: the structure is the command's; buffers are memory that nothing refers to.
        unsafe { ioctl(self.container.fd(), "VFIO map", MAP_DMA, &raw const map) }?;
        Ok(at)
    }

    fn unmap(&mut self, buffer: Span, iova: u64) -> Result<()> {
        let unmap = Unmap {
            argsz: size_of::<Unmap>() as u32,
            flags: 0,
            iova,
            size: buffer.length as u64,
        };
        // SAFETY: the structure is the command's.
        unsafe {
            ioctl(
                self.container.fd(),
                "VFIO unmap",
                UNMAP_DMA,
                &raw const unmap,
            )
        }?;
        Ok(())
    }
}
