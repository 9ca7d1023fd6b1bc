// SPDX-License-Identifier: GPL-2.0
//! `/dev/qat_iommu` at its lowest: the ioctls with any pointer, number and
//! content, so that malformed requests can be made, and [`Context`], one open
//! file with well-formed ones.

pub mod user;

use anyhow::{Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use std::ffi::c_void;

/// The device node.
pub const NODE: &str = "/dev/qat_iommu";
pub const READ: u32 = uapi::QAT_IOMMU_MAP_READ;
pub const WRITE: u32 = uapi::QAT_IOMMU_MAP_WRITE;
/// Read and write.
pub const BOTH: u32 = READ | WRITE;

/// An ioctl whose number and pointer are taken as they are.
struct Raw {
    command: Opcode,
    pointer: *mut c_void,
}

// SAFETY: the kernel decides what it makes of number and pointer; that it copes with every
// value is what is tested. `IS_MUTATING` keeps the compiler from assuming anything.
unsafe impl Ioctl for Raw {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.command
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.pointer
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Makes one ioctl with any number and any pointer.
pub fn raw(fd: BorrowedFd<'_>, command: u32, pointer: *mut c_void) -> Result<(), Errno> {
    // SAFETY: the commands of the interface write to the structure (and the arrays it names)
    // only; callers give pointers to memory of their own, or ones that must be refused.
    unsafe { rustix::ioctl::ioctl(fd, Raw { command, pointer }) }
}

/// The size of a structure, as the interface wants it in its first field.
pub fn size_of<T>() -> u32 {
    u32::try_from(std::mem::size_of::<T>()).expect("structures are small")
}

/// A well-formed request to map, for a test to spoil.
pub fn map_request(phys: u64, iova: u64, length: u64) -> uapi::qat_iommu_map_phys {
    uapi::qat_iommu_map_phys {
        size: size_of::<uapi::qat_iommu_map_phys>(),
        flags: BOTH,
        phys,
        iova,
        length,
        mapped: 0,
    }
}

/// A well-formed request to unmap.
pub fn unmap_request(iova: u64, length: u64) -> uapi::qat_iommu_unmap {
    uapi::qat_iommu_unmap {
        size: size_of::<uapi::qat_iommu_unmap>(),
        flags: 0,
        iova,
        length,
    }
}

/// A well-formed request for INFO that asks for no lists.
pub fn info_request() -> uapi::qat_iommu_info {
    uapi::qat_iommu_info {
        size: size_of::<uapi::qat_iommu_info>(),
        ..Default::default()
    }
}

/// A well-formed request for the default space.
pub fn attach_request() -> uapi::qat_iommu_attach {
    uapi::qat_iommu_attach {
        size: size_of::<uapi::qat_iommu_attach>(),
        flags: uapi::QAT_IOMMU_ATTACH_DEFAULT,
        ..Default::default()
    }
}

/// What INFO says, with its lists.
#[derive(Debug)]
pub struct Info {
    pub fixed: uapi::qat_iommu_info,
    pub pfs: Vec<uapi::qat_iommu_pf>,
    pub reserved: Vec<uapi::qat_iommu_range>,
}

/// One open file of the device node.
pub struct Context(OwnedFd);

impl AsFd for Context {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Context {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Context {
    pub fn open() -> Result<Self> {
        Self::try_open().with_context(|| format!("cannot open {NODE}"))
    }

    pub fn try_open() -> Result<Self, Errno> {
        rustix::fs::open(NODE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map(Self)
    }

    /// A second descriptor of the same open file.
    pub fn duplicate(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// The number of the descriptor.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// One ioctl on a structure of the interface.
    pub fn ioctl<T>(&self, command: u32, request: &mut T) -> Result<(), Errno> {
        raw(self.as_fd(), command, std::ptr::from_mut(request).cast())
    }

    /// Maps for reading and writing; the bytes that were really mapped.
    pub fn map(&self, phys: u64, iova: u64, length: u64) -> Result<u64, Errno> {
        self.map_with(phys, iova, length, BOTH)
    }

    pub fn map_with(&self, phys: u64, iova: u64, length: u64, flags: u32) -> Result<u64, Errno> {
        let mut request = map_request(phys, iova, length);
        request.flags = flags;
        self.ioctl(uapi::QAT_IOMMU_MAP_PHYS, &mut request)?;
        Ok(request.mapped)
    }

    pub fn unmap(&self, iova: u64, length: u64) -> Result<(), Errno> {
        self.ioctl(uapi::QAT_IOMMU_UNMAP, &mut unmap_request(iova, length))
    }

    /// Chooses the default space; its number.
    pub fn attach_default(&self) -> Result<u64, Errno> {
        let mut request = attach_request();
        self.ioctl(uapi::QAT_IOMMU_ATTACH, &mut request)?;
        Ok(request.space)
    }

    /// INFO with room for `pfs` and `ranges` entries; the lists are cut to what was written.
    pub fn info_with_room(&self, pfs: usize, ranges: usize) -> Result<Info, Errno> {
        let mut pf_list = vec![uapi::qat_iommu_pf::default(); pfs];
        let mut range_list = vec![uapi::qat_iommu_range::default(); ranges];
        let mut request = info_request();
        request.pfs = address(pf_list.as_mut_ptr());
        request.num_pfs = u32::try_from(pfs).expect("a short list");
        request.reserved_ranges = address(range_list.as_mut_ptr());
        request.num_reserved_ranges = u32::try_from(ranges).expect("a short list");
        self.ioctl(uapi::QAT_IOMMU_INFO, &mut request)?;
        let kept = |count: u32| usize::try_from(count).expect("a small number");
        pf_list.truncate(kept(request.num_pfs));
        range_list.truncate(kept(request.num_reserved_ranges));
        Ok(Info {
            fixed: request,
            pfs: pf_list,
            reserved: range_list,
        })
    }

    /// INFO with room enough.
    pub fn info(&self) -> Result<Info> {
        self.info_with_room(64, 64).context("INFO")
    }
}

/// A pointer as the interface carries it.
pub fn address<T>(pointer: *const T) -> u64 {
    u64::try_from(pointer.addr()).expect("an address has 64 bits")
}

/// A structure followed by zeros up to `bytes` in all, in whole words, so that a test can spoil
/// what follows the structure.
pub fn padded<T: Copy>(value: T, bytes: usize) -> Vec<u64> {
    let mut words = vec![0u64; bytes.max(std::mem::size_of::<T>()).div_ceil(8)];
    assert!(align_of::<T>() <= align_of::<u64>());
    // SAFETY: the words are long enough and aligned enough for the value.
    unsafe { words.as_mut_ptr().cast::<T>().write(value) };
    words
}

/// A page followed by one that cannot be accessed.
pub struct EdgePage(std::ptr::NonNull<u8>);

impl EdgePage {
    const LENGTH: usize = 8192;
    const EDGE: usize = 4096;

    pub fn new() -> Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                Self::LENGTH,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .context("cannot allocate memory")?;
        let page = Self(std::ptr::NonNull::new(start.cast()).context("mapped at 0")?);
        // SAFETY: the second page of this value's own mapping, which nothing uses.
        unsafe {
            let second = page.0.as_ptr().add(Self::EDGE).cast();
            rustix::mm::mprotect(second, Self::EDGE, MprotectFlags::empty())?;
        }
        Ok(page)
    }

    /// Places as much of a value as fits within `bytes` before the edge; where it begins.
    pub fn put_before_edge<T: Copy>(&self, value: T, bytes: usize) -> *mut c_void {
        assert!(bytes <= Self::EDGE);
        let len = std::mem::size_of::<T>().min(bytes);
        // SAFETY: `bytes` before the edge are inside the first page, and `len` is not more.
        unsafe {
            let start = self.0.as_ptr().add(Self::EDGE - bytes);
            std::ptr::copy_nonoverlapping(std::ptr::from_ref(&value).cast::<u8>(), start, len);
            start.cast()
        }
    }

    /// Takes the right to write away.
    pub fn make_read_only(&self) -> Result<()> {
        // SAFETY: the first page of this value's own mapping; `&mut` to it is never given out.
        Ok(unsafe {
            rustix::mm::mprotect(self.0.as_ptr().cast(), Self::EDGE, MprotectFlags::READ)
        }?)
    }
}

impl Drop for EdgePage {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), Self::LENGTH) };
    }
}
