// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! A context: one open file of the device node, and the commands it takes.

use crate::{sys, Access, Action, Error, Info, Iova, PfAddress, Phys, Space};
use qat_iommu_uapi as uapi;
use rustix::{
    fs::{fstat, open, Mode as FileMode, OFlags},
    io::Errno,
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// The version of the ioctl interface that this crate was made for.
pub const ABI_VERSION: u32 = uapi::QAT_IOMMU_ABI_VERSION as u32;

/// Where the module's device node is.
pub const DEVICE: &str = "/dev/qat_iommu";

/// Which space a context is to work in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attach {
    /// The owned space, else that of the only shared PF.
    Default,
    /// The space of this PF.
    Pf(PfAddress),
}

/// One open file of the device node.
///
/// It owns the mappings made through it: they go when the last reference to the
/// file goes. A child made by `fork` holds such a reference until it executes
/// another program, closes its copy or ends.
#[derive(Debug)]
pub struct Context {
    fd: OwnedFd,
    /// Device number of the node, by which a descriptor that someone else closed
    /// and used again is recognised.
    device: u64,
}

impl Context {
    /// Opens [`DEVICE`].
    ///
    /// # Errors
    ///
    /// [`Error::module_missing`] where the module is not loaded; EACCES where this
    /// user may not open the node.
    pub fn open() -> Result<Self, Error> {
        Self::open_node(DEVICE)
    }

    /// Opens a device node that is not in the usual place, as in a container.
    ///
    /// # Errors
    ///
    /// As [`Context::open`].
    pub fn open_node(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        open_file(path).map_err(|errno| Error::new(Action::Open { path: path.into() }, errno))
    }

    /// Whether the descriptor still is the file that was opened: a program that
    /// closes all its descriptors (to become a daemon, say) closes this one too,
    /// and its number may mean another file since.
    pub fn is_intact(&self) -> bool {
        fstat(&self.fd).is_ok_and(|stat| stat.st_rdev == self.device)
    }

    /// Describes the host's PFs, and the space that this context works in: the one
    /// that [`Context::attach`] chose, else the default one.
    ///
    /// # Errors
    ///
    /// ENODEV if the PF of the space that was chosen is gone.
    pub fn info(&self) -> Result<Info, Error> {
        self.read_info()
            .map_err(|errno| Error::new(Action::Info, errno))
    }

    fn read_info(&self) -> Result<Info, Errno> {
        let mut pfs = vec![uapi::qat_iommu_pf::default(); 16];
        let mut ranges = vec![uapi::qat_iommu_range::default(); 32];
        loop {
            let raw = sys::info(self.as_fd(), &mut pfs, &mut ranges)?;
            let there = |count: u32| usize::try_from(count).map_err(|_| Errno::OVERFLOW);
            let (pfs_there, ranges_there) = (there(raw.num_pfs)?, there(raw.num_reserved_ranges)?);
            if let (Some(pfs), Some(ranges)) = (pfs.get(..pfs_there), ranges.get(..ranges_there)) {
                return Ok(Info::from_raw(&raw, pfs, ranges));
            }
            // PFs may come in between: the next round finds out.
            pfs.resize(pfs_there.max(pfs.len()), Default::default());
            ranges.resize(ranges_there.max(ranges.len()), Default::default());
        }
    }

    /// Chooses the one space that [`Context::info`] describes. [`Context::map_phys`]
    /// is not bound by the choice: it reaches every space.
    ///
    /// # Errors
    ///
    /// ENODEV if there is no such PF (or no default), EBUSY while this context has
    /// mappings in the space it would leave.
    pub fn attach(&self, to: Attach) -> Result<Space, Error> {
        let argument = match to {
            Attach::Default => uapi::qat_iommu_attach {
                flags: uapi::QAT_IOMMU_ATTACH_DEFAULT,
                ..Default::default()
            },
            Attach::Pf(pf) => uapi::qat_iommu_attach {
                segment: pf.domain(),
                bus: pf.bus(),
                device: pf.device(),
                function: pf.function(),
                ..Default::default()
            },
        };
        match sys::attach(self.as_fd(), argument) {
            Ok(answer) => Ok(Space(answer.space)),
            Err(errno) => Err(Error::new(Action::Attach { to }, errno)),
        }
    }

    /// Maps a physical range at an IOVA in every space, all or nothing, and returns
    /// how many bytes are mapped: the remap size of `length`.
    ///
    /// `phys` and `iova` must be page aligned, `length` at least 1. Needs
    /// CAP_SYS_RAWIO and a kernel that is not locked down.
    ///
    /// # Errors
    ///
    /// EINVAL for unaligned addresses and a length of 0; EEXIST if any page of the
    /// IOVA range is mapped; EADDRNOTAVAIL if it cannot be honoured (reserved, or
    /// untranslated and not 1:1, or kept from a shared PF); ERANGE beyond the
    /// aperture or the physical width; EOVERFLOW if it wraps; EADDRINUSE if the
    /// kernel's DMA API has it; EACCES for memory that user space may not map;
    /// EPERM; ENODEV; ENOMEM; EOPNOTSUPP if the IOMMU cannot do it.
    #[inline]
    pub fn map_phys(
        &self,
        phys: Phys,
        iova: Iova,
        length: u64,
        access: Access,
    ) -> Result<u64, Error> {
        let argument = uapi::qat_iommu_map_phys {
            flags: access.flags(),
            phys: phys.get(),
            iova: iova.get(),
            length,
            ..Default::default()
        };
        match sys::map_phys(self.as_fd(), argument) {
            Ok(answer) => Ok(answer.mapped),
            Err(errno) => Err(map_error(phys, iova, length, errno)),
        }
    }

    /// Removes exactly one mapping of this context, from every space that holds it.
    /// No PF reaches the memory any more when this returns. The memory itself is
    /// not looked at: it may have been freed before.
    ///
    /// `length` is what was given to the map; it is rounded up in the same way.
    ///
    /// # Errors
    ///
    /// ENOENT if no mapping of this context has exactly this range; EINVAL for an
    /// unaligned address and a length of 0; EOVERFLOW; ENODEV; EIO if the IOMMU did
    /// not remove what it should, in which case the memory must not be used again.
    #[inline]
    pub fn unmap(&self, iova: Iova, length: u64) -> Result<(), Error> {
        self.unmap_with(iova, length, 0)
    }

    /// Removes exactly one mapping that a kernel client made and left behind, from every
    /// space that holds it. Once no device uses the memory: the client may still think
    /// that it is mapped. Needs CAP_SYS_RAWIO.
    ///
    /// # Errors
    ///
    /// ENOENT if no kernel client has a mapping of exactly this range; EPERM; else as
    /// [`Context::unmap`].
    pub fn unmap_forced(&self, iova: Iova, length: u64) -> Result<(), Error> {
        self.unmap_with(iova, length, uapi::QAT_IOMMU_UNMAP_FORCE)
    }

    #[inline]
    fn unmap_with(&self, iova: Iova, length: u64, flags: u32) -> Result<(), Error> {
        let argument = uapi::qat_iommu_unmap {
            flags,
            iova: iova.get(),
            length,
            ..Default::default()
        };
        sys::unmap(self.as_fd(), argument).map_err(|errno| unmap_error(iova, length, flags, errno))
    }
}

#[cold]
#[inline(never)]
fn map_error(phys: Phys, iova: Iova, length: u64, errno: Errno) -> Error {
    Error::new(Action::MapPhys { phys, iova, length }, errno)
}

#[cold]
#[inline(never)]
fn unmap_error(iova: Iova, length: u64, flags: u32, errno: Errno) -> Error {
    let action = Action::Unmap {
        iova,
        length,
        forced: flags & uapi::QAT_IOMMU_UNMAP_FORCE != 0,
    };
    Error::new(action, errno)
}

impl AsFd for Context {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_file(path: &Path) -> Result<Context, Errno> {
    let fd = open(path, OFlags::RDWR | OFlags::CLOEXEC, FileMode::empty())?;
    let device = fstat(&fd)?.st_rdev;
    Ok(Context { fd, device })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_node_means_a_missing_module() {
        let error = Context::open_node("/nonexistent/qat_iommu").unwrap_err();
        assert_eq!(error.errno(), Errno::NOENT.raw_os_error());
        assert!(error.module_missing());
        assert!(error.to_string().contains("modprobe qat_iommu"), "{error}");
    }

    #[test]
    fn another_device_does_not_take_the_commands() {
        let context = Context::open_node("/dev/null").unwrap();
        assert!(context.is_intact());
        let error = context.info().unwrap_err();
        assert_eq!(error.errno(), Errno::NOTTY.raw_os_error());
        assert!(!error.module_missing());
        assert_eq!(
            context.unmap(Iova::new(0), 0).unwrap_err().errno(),
            Errno::NOTTY.raw_os_error()
        );
    }

    #[test]
    fn descriptors_do_not_survive_exec() {
        let context = Context::open_node("/dev/null").unwrap();
        let flags = rustix::io::fcntl_getfd(&context).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}
