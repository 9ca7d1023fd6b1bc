// SPDX-License-Identifier: GPL-2.0
//! A PCI function in the hands of a program, through VFIO's container: as much of it as
//! it takes to do DMA with the emulated engine in an address space of the program's own.

use anyhow::{ensure, Context as _, Result};
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::abi::address;
use crate::dma::bar::Bar;
use crate::dma::pf::{Engine, Registers, Verdict};
use crate::expect;
use crate::host::{Bdf, Host};
use crate::ktap::skip;
use crate::mem::user::UserMemory;
use crate::mem::{fresh_bytes, Memory, PAGE};

/// The driver that hands functions to programs.
pub const DRIVER: &str = "vfio-pci";

const TYPE1V2: libc::c_ulong = 3;
const SET_IOMMU: libc::Ioctl = 0x3b66;
const GROUP_SET_CONTAINER: libc::Ioctl = 0x3b68;
const GROUP_GET_DEVICE_FD: libc::Ioctl = 0x3b6a;
const DEVICE_GET_REGION_INFO: libc::Ioctl = 0x3b6c;
const DEVICE_RESET: libc::Ioctl = 0x3b6f;
const MAP_DMA: libc::Ioctl = 0x3b71;
const UNMAP_DMA: libc::Ioctl = 0x3b72;

const BAR0: u32 = 0;
const CONFIG: u32 = 7;
/// Where a virtual function, which has no BAR, has the engine's registers in its configuration
/// space.
const WINDOW: u64 = 0x108;
const READ_WRITE: u32 = 3;

/// The kernel's `struct vfio_region_info`.
#[repr(C)]
#[derive(Default)]
struct Region {
    argsz: u32,
    flags: u32,
    index: u32,
    cap_offset: u32,
    size: u64,
    offset: u64,
}

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

fn size_of<T>() -> u32 {
    crate::abi::size_of::<T>()
}

/// Has the driver there. (Interrupts are not remapped behind virtio-iommu; VFIO must be told
/// that this is known.)
pub fn load(_: &Host) -> Result<()> {
    let load = |arguments: &[&str]| -> Result<bool> {
        Ok(Command::new("modprobe")
            .args(arguments)
            .output()?
            .status
            .success())
    };
    if !load(&["vfio_iommu_type1", "allow_unsafe_interrupts=1"])? || !load(&[DRIVER])? {
        return Err(skip("this machine has no vfio-pci"));
    }
    Ok(())
}

/// One ioctl; what it returned.
fn ioctl<T>(fd: impl AsFd, what: &str, command: libc::Ioctl, argument: T) -> Result<i32> {
    // SAFETY: every caller gives the argument that the command wants, and a structure outlives it.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), command, argument) };
    ensure!(
        done >= 0,
        "VFIO: {what}: {}",
        std::io::Error::last_os_error()
    );
    Ok(done)
}

fn open(path: &str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("cannot open {path}"))
}

/// The registers in the configuration space of a function.
struct Window {
    device: OwnedFd,
    offset: u64,
}

impl Registers for Window {
    fn read64(&self, register: usize) -> u64 {
        let mut bytes = [0xff; 8];
        // A function that is gone reads as ones.
        let _ = rustix::io::pread(&self.device, &mut bytes, self.offset + register as u64);
        u64::from_le_bytes(bytes)
    }

    fn write64(&self, register: usize, value: u64) {
        // What does not arrive shows in what is read.
        let _ = rustix::io::pwrite(
            &self.device,
            &value.to_le_bytes(),
            self.offset + register as u64,
        );
    }
}

/// A function that this program holds, with memory of its own mapped for it.
pub struct Device {
    engine: Engine,
    memory: UserMemory,
    _pinned: Pinned,
    // In this order: the device goes before its group, and that before the container.
    device: OwnedFd,
    _group: OwnedFd,
    container: OwnedFd,
}

/// Pages that all of these have pinned.
static PINNED: AtomicUsize = AtomicUsize::new(0);

/// How many pages VFIO has pinned, and charged, for this program.
pub fn pinned() -> usize {
    PINNED.load(Ordering::SeqCst)
}

/// Counts the pages of one of them.
struct Pinned;

impl Pinned {
    fn new() -> Self {
        PINNED.fetch_add(LENGTH / PAGE, Ordering::SeqCst);
        Self
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        PINNED.fetch_sub(LENGTH / PAGE, Ordering::SeqCst);
    }
}

/// Where its memory is mapped.
const IOVA: u64 = 0x40_0000;
const LENGTH: usize = 4 * PAGE;

impl Device {
    /// Takes a function that is bound to the driver.
    pub fn open(function: &Bdf) -> Result<Self> {
        let container = open("/dev/vfio/vfio")?;
        let group = open(&format!("/dev/vfio/{}", function.group()?.0))?;
        let number = container.as_raw_fd();
        ioctl(&group, "container", GROUP_SET_CONTAINER, &raw const number)?;
        ioctl(&container, "kind of IOMMU", SET_IOMMU, TYPE1V2)?;
        let name = std::ffi::CString::new(function.0.as_str())?;
        let device = ioctl(&group, "device", GROUP_GET_DEVICE_FD, name.as_ptr())?;
        // SAFETY: the descriptor is new and ours alone.
        let device = unsafe { OwnedFd::from_raw_fd(device) };
        // What another use has left is no concern of this one.
        ioctl(&device, "reset", DEVICE_RESET, 0)?;

        let config = region(&device, CONFIG)?;
        let command = config.offset + 4;
        let on: u16 = 6;
        let written = rustix::io::pwrite(&device, &on.to_le_bytes(), command)?;
        ensure!(written == 2, "VFIO: cannot turn memory decoding on");

        let memory = UserMemory::scattered(LENGTH)?;
        memory.touch();
        let map = Map {
            argsz: size_of::<Map>(),
            flags: READ_WRITE,
            vaddr: address(memory.start()),
            iova: IOVA,
            size: u64::try_from(LENGTH)?,
        };
        ioctl(&container, "map", MAP_DMA, &raw const map)?;
        let pinned = Pinned::new();
        let bar = region(&device, BAR0)?;
        let engine = if bar.size > 0 {
            Engine::over(Bar::map(&device, bar.offset)?)?
        } else {
            Engine::over(Window {
                device: device.try_clone()?,
                offset: config.offset + WINDOW,
            })?
        };
        Ok(Self {
            engine,
            memory,
            _pinned: pinned,
            device,
            _group: group,
            container,
        })
    }

    /// The function copies one page of the program's memory to another, and reaches nothing
    /// beside it.
    pub fn moves_data(&self) -> Result<()> {
        let length = u64::try_from(PAGE)?;
        let data = fresh_bytes(PAGE);
        self.memory.write(0, &data);
        let last = IOVA + u64::try_from(LENGTH - PAGE)?;
        let verdict = self.engine.copy(IOVA, last, length)?;
        expect::equal("the function's copy", verdict, Verdict::Done)?;
        ensure!(
            self.memory.read(LENGTH - PAGE, PAGE) == data,
            "the function copied other bytes"
        );
        let beyond = IOVA + u64::try_from(LENGTH)?;
        let verdict = self.engine.copy(beyond, IOVA, 64)?;
        expect::equal("a copy from nowhere", verdict, Verdict::SourceFault(beyond))
    }

    /// What the function reads at an IOVA of somebody else's, if it may.
    pub fn reads(&self, iova: u64) -> Result<bool> {
        Ok(self.engine.sum(iova, 8)?.is_some())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let unmap = Unmap {
            argsz: size_of::<Unmap>(),
            flags: 0,
            iova: IOVA,
            size: LENGTH as u64,
        };
        // What fails goes with the container.
        let _ = ioctl(&self.container, "unmap", UNMAP_DMA, &raw const unmap);
        let _ = ioctl(&self.device, "reset", DEVICE_RESET, 0);
    }
}

fn region(device: &OwnedFd, index: u32) -> Result<Region> {
    let mut info = Region {
        argsz: size_of::<Region>(),
        index,
        ..Default::default()
    };
    ioctl(device, "region", DEVICE_GET_REGION_INFO, &raw mut info)?;
    Ok(info)
}
