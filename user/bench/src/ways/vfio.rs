// SPDX-License-Identifier: GPL-2.0
//! A device in the hands of this program through VFIO's container, for those who map by it.

use anyhow::{ensure, Context as _, Result};
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;

const TYPE1V2: libc::c_ulong = 3;
const SET_IOMMU: libc::Ioctl = 0x3b66;
const GROUP_SET_CONTAINER: libc::Ioctl = 0x3b68;
const GROUP_GET_DEVICE_FD: libc::Ioctl = 0x3b6a;

/// One ioctl; what it returned.
///
/// # Safety
///
/// The argument is what the command wants.
#[inline]
pub unsafe fn ioctl<T>(fd: RawFd, what: &str, command: libc::Ioctl, argument: T) -> Result<i32> {
    // SAFETY: the caller vouches for it.
    let done = unsafe { libc::ioctl(fd, command, argument) };
    ensure!(done >= 0, "{what}: {}", std::io::Error::last_os_error());
    Ok(done)
}

pub fn open(path: &str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("cannot open {path}"))
}

/// A container with one device in it. In this order: the device goes before its group, and that
/// before the container.
pub struct Container {
    _device: OwnedFd,
    _group: OwnedFd,
    container: OwnedFd,
}

impl Container {
    /// With the device at this PCI address, which has vfio-pci for a driver.
    pub fn new(address: &str) -> Result<Self> {
        let link = std::fs::read_link(format!("/sys/bus/pci/devices/{address}/iommu_group"))?;
        let number = link.file_name().and_then(|name| name.to_str());
        let group = open(&format!("/dev/vfio/{}", number.context("no group")?))?;
        let container = open("/dev/vfio/vfio")?;
        let name = CString::new(address)?;
        let raw = container.as_raw_fd();
        // SAFETY: these are the arguments that the commands want.
        let device = unsafe {
            ioctl(
                group.as_raw_fd(),
                "container",
                GROUP_SET_CONTAINER,
                &raw const raw,
            )?;
            ioctl(raw, "kind of IOMMU", SET_IOMMU, TYPE1V2)?;
            let device = ioctl(
                group.as_raw_fd(),
                "device",
                GROUP_GET_DEVICE_FD,
                name.as_ptr(),
            )?;
            // The descriptor is new and ours alone.
            OwnedFd::from_raw_fd(device)
        };
        Ok(Self {
            _device: device,
            _group: group,
            container,
        })
    }

    pub fn fd(&self) -> RawFd {
        self.container.as_fd().as_raw_fd()
    }
}
