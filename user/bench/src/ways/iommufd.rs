// SPDX-License-Identifier: GPL-2.0
//! iommufd: an address space of its own for one device, with the IOVA chosen by the program or by
//! the kernel.

use anyhow::{Context as _, Result};
use rustix::fd::{AsRawFd, OwnedFd};

use super::vfio::{ioctl, open};
use super::Way;
use crate::machine::Machine;
use crate::memory::Span;

const IOAS_ALLOC: libc::Ioctl = 0x3b81;
const IOAS_MAP: libc::Ioctl = 0x3b85;
const IOAS_UNMAP: libc::Ioctl = 0x3b86;
const BIND_IOMMUFD: libc::Ioctl = 0x3b76;
const ATTACH_IOMMUFD: libc::Ioctl = 0x3b77;
const FIXED: u32 = 1;
const READ_WRITE: u32 = 6;

/// The kernel's `struct vfio_device_bind_iommufd`.
#[repr(C)]
struct Bind {
    argsz: u32,
    flags: u32,
    iommufd: i32,
    out_devid: u32,
}

/// The kernel's `struct vfio_device_attach_iommufd_pt`, in its first version.
#[repr(C)]
struct Attach {
    argsz: u32,
    flags: u32,
    pt_id: u32,
}

/// The kernel's `struct iommu_ioas_alloc`.
#[repr(C)]
struct Alloc {
    size: u32,
    flags: u32,
    out_ioas_id: u32,
}

/// The kernel's `struct iommu_ioas_map`.
#[repr(C)]
struct Map {
    size: u32,
    flags: u32,
    ioas_id: u32,
    reserved: u32,
    user_va: u64,
    length: u64,
    iova: u64,
}

/// The kernel's `struct iommu_ioas_unmap`.
#[repr(C)]
struct Unmap {
    size: u32,
    ioas_id: u32,
    iova: u64,
    length: u64,
}

pub struct Iommufd {
    // The device goes before the address space that it is attached to.
    _device: OwnedFd,
    iommufd: OwnedFd,
    ioas: u32,
    fixed: bool,
}

impl Iommufd {
    pub fn new(machine: &Machine, fixed: bool) -> Result<Self> {
        let dir = format!("/sys/bus/pci/devices/{}/vfio-dev", machine.iommufd);
        let mut entries = std::fs::read_dir(&dir).with_context(|| format!("no {dir}"))?;
        let name = entries.next().context("no VFIO device")??.file_name();
        let device = open(&format!("/dev/vfio/devices/{}", name.to_string_lossy()))?;
        let iommufd = open("/dev/iommu")?;
        let mut bind = Bind {
            argsz: size_of::<Bind>() as u32,
            flags: 0,
            iommufd: iommufd.as_raw_fd(),
            out_devid: 0,
        };
        let mut alloc = Alloc {
            size: size_of::<Alloc>() as u32,
            flags: 0,
            out_ioas_id: 0,
        };
        let (dev, iommu) = (device.as_raw_fd(), iommufd.as_raw_fd());
        // SAFETY: the structures are the commands'.
        unsafe {
            ioctl(dev, "bind to iommufd", BIND_IOMMUFD, &raw mut bind)?;
            ioctl(iommu, "IOAS", IOAS_ALLOC, &raw mut alloc)?;
            let mut attach = Attach {
                argsz: size_of::<Attach>() as u32,
                flags: 0,
                pt_id: alloc.out_ioas_id,
            };
            ioctl(dev, "attach to IOAS", ATTACH_IOMMUFD, &raw mut attach)?;
        }
        Ok(Self {
            _device: device,
            iommufd,
            ioas: alloc.out_ioas_id,
            fixed,
        })
    }
}

impl Way for Iommufd {
    fn map(&mut self, buffer: Span, at: u64) -> Result<u64> {
        let mut map = Map {
            size: size_of::<Map>() as u32,
            flags: READ_WRITE | if self.fixed { FIXED } else { 0 },
            ioas_id: self.ioas,
            reserved: 0,
            user_va: buffer.address as u64,
            length: buffer.length as u64,
            iova: if self.fixed { at } else { 0 },
        };
        // SAFETY: the structure is the command's; buffers are memory that nothing refers to.
        unsafe { ioctl(self.iommufd.as_raw_fd(), "IOAS map", IOAS_MAP, &raw mut map) }?;
        Ok(map.iova)
    }

    fn unmap(&mut self, buffer: Span, iova: u64) -> Result<()> {
        let mut unmap = Unmap {
            size: size_of::<Unmap>() as u32,
            ioas_id: self.ioas,
            iova,
            length: buffer.length as u64,
        };
        // SAFETY: the structure is the command's.
        unsafe {
            ioctl(
                self.iommufd.as_raw_fd(),
                "IOAS unmap",
                IOAS_UNMAP,
                &raw mut unmap,
            )
        }?;
        Ok(())
    }
}
