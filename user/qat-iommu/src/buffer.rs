// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Buffers of this process, mapped by address: the commands that the safe
//! [`Mapping`](crate::Mapping) and the C interface are made of.
#![allow(unsafe_code)]

use crate::{sys, Access, Action, Context, Error, Iova};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;
use std::os::fd::AsFd;

/// Where a buffer is to be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placement {
    /// Where the kernel likes: aligned no more than the IOMMU's page sizes gain by.
    Any,
    /// The page that the buffer begins in at a multiple of this, a power of two of at
    /// least a page.
    Aligned(u64),
    /// Exactly here, with the buffer's offset within its page. Needs CAP_SYS_RAWIO.
    Fixed(Iova),
}

/// One buffer of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserBuffer {
    /// Where it begins.
    pub address: usize,
    /// Bytes.
    pub length: usize,
}

impl Context {
    /// Pins a buffer of this process, maps it at contiguous IOVAs, and returns the one
    /// of its first byte. The device keeps seeing the same pages until the mapping
    /// goes, whatever becomes of the address range. The device reaches the whole pages
    /// that the buffer lies in.
    ///
    /// [`MappingMut`](crate::MappingMut) and [`Mapping`](crate::Mapping) are the safe
    /// form.
    ///
    /// # Safety
    ///
    /// Until it is unmapped the buffer must be memory that a device may write to at any
    /// time, if `access` lets it, and that is not freed.
    ///
    /// # Errors
    ///
    /// EFAULT for memory that cannot be pinned; ENOMEM beyond RLIMIT_MEMLOCK; EINVAL for
    /// a length of 0 and a bad alignment; ENOSPC, EADDRNOTAVAIL, EEXIST or ERANGE if
    /// there is no room or the fixed IOVA is not to be had; EPERM for a fixed IOVA, or
    /// without translation, lacking CAP_SYS_RAWIO; EOPNOTSUPP for a scattered buffer
    /// without translation; EINTR, with nothing mapped, if a signal came; EOVERFLOW;
    /// ENODEV.
    #[inline]
    pub unsafe fn map_user(
        &self,
        buffer: UserBuffer,
        access: Access,
        placement: Placement,
    ) -> Result<Iova, Error> {
        let (fixed, alignment, iova) = match placement {
            Placement::Any => (0, 0, 0),
            Placement::Aligned(bytes) => (0, bytes, 0),
            Placement::Fixed(iova) => (uapi::QAT_IOMMU_MAP_FIXED, 0, iova.get()),
        };
        let argument = uapi::qat_iommu_map_user {
            flags: access.flags() | fixed,
            va: wide(buffer.address),
            length: wide(buffer.length),
            alignment,
            iova,
            ..Default::default()
        };
        // SAFETY: the caller vouches for the buffer.
        match unsafe { sys::map_user(self.as_fd(), argument) } {
            Ok(answer) => Ok(Iova::new(answer.iova)),
            Err(errno) => Err(map_error(buffer, placement, errno)),
        }
    }

    /// Removes the newest mapping that this context made of exactly this buffer. No PF
    /// reaches it any more when this returns.
    ///
    /// # Errors
    ///
    /// ENOENT if there is none; EINVAL for a length of 0; EOVERFLOW; ENODEV if it went
    /// with its PF; EIO if the IOMMU did not remove what it should, in which case the
    /// memory must not be used again.
    #[inline]
    pub fn unmap_user(&self, buffer: UserBuffer) -> Result<(), Error> {
        let argument = uapi::qat_iommu_unmap_user {
            va: wide(buffer.address),
            length: wide(buffer.length),
            ..Default::default()
        };
        sys::unmap_user(self.as_fd(), argument)
            .map_err(|errno| Error::new(unmap_action(buffer), errno))
    }

    /// [`Context::map_user`] for several buffers, or for none, with one system call.
    /// The alignment is a power of two of at least a page, or 0.
    ///
    /// # Safety
    ///
    /// As for [`Context::map_user`], for each buffer.
    ///
    /// # Errors
    ///
    /// As for [`Context::map_user`]; E2BIG for more than 65,536. With the error comes
    /// the index of the buffer that it is about, if it is about one.
    pub unsafe fn map_user_batch(
        &self,
        buffers: &[UserBuffer],
        access: Access,
        alignment: u64,
    ) -> Result<Vec<Iova>, (Error, Option<usize>)> {
        if buffers.is_empty() {
            return Ok(Vec::new());
        }
        let mut raw: Vec<_> = buffers
            .iter()
            .map(|buffer| uapi::qat_iommu_user_buffer {
                va: wide(buffer.address),
                length: wide(buffer.length),
                iova: 0,
            })
            .collect();
        // SAFETY: the caller vouches for the buffers.
        let result =
            unsafe { sys::map_user_batch(self.as_fd(), &mut raw, access.flags(), alignment) };
        match result {
            Ok(()) => Ok(raw.iter().map(|buffer| Iova::new(buffer.iova)).collect()),
            Err((errno, failed)) => {
                let placement = match alignment {
                    0 => Placement::Any,
                    bytes => Placement::Aligned(bytes),
                };
                let action = match failed.and_then(|index| buffers.get(index)) {
                    Some(buffer) => map_action(*buffer, placement),
                    None => batch_action(buffers.len()),
                };
                Err((Error::new(action, errno), failed))
            }
        }
    }

    /// Removes several mappings of buffers, each as its IOVA and length, or none, with
    /// one system call and, where possible, one flush of the IOMMU.
    ///
    /// # Errors
    ///
    /// As for [`Context::unmap`]; E2BIG for more than 65,536. With the error comes the
    /// index of the range that it is about, if it is about one.
    pub fn unmap_batch(&self, ranges: &[(Iova, u64)]) -> Result<(), (Error, Option<usize>)> {
        if ranges.is_empty() {
            return Ok(());
        }
        let mut raw: Vec<_> = ranges
            .iter()
            .map(|(iova, length)| uapi::qat_iommu_unmap_range {
                iova: iova.get(),
                length: *length,
            })
            .collect();
        sys::unmap_batch(self.as_fd(), &mut raw).map_err(|(errno, failed)| {
            let action = match failed.and_then(|index| ranges.get(index)) {
                Some((iova, length)) => Action::Unmap {
                    iova: *iova,
                    length: *length,
                    forced: false,
                },
                None => batch_action(ranges.len()),
            };
            (Error::new(action, errno), failed)
        })
    }
}

#[cold]
#[inline(never)]
fn map_error(buffer: UserBuffer, placement: Placement, errno: Errno) -> Error {
    Error::new(map_action(buffer, placement), errno)
}

fn map_action(buffer: UserBuffer, placement: Placement) -> Action {
    Action::MapUser {
        address: buffer.address,
        length: buffer.length,
        placement,
    }
}

fn unmap_action(buffer: UserBuffer) -> Action {
    Action::UnmapUser {
        address: buffer.address,
        length: buffer.length,
    }
}

fn batch_action(count: usize) -> Action {
    Action::Batch { count }
}

/// usize has at most 64 bits wherever Linux runs.
#[inline]
fn wide(value: usize) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_device_does_not_take_the_commands() {
        let context = Context::open_node("/dev/null").unwrap();
        let errno = Errno::NOTTY.raw_os_error();
        let buffer = UserBuffer {
            address: 0x1000,
            length: 4096,
        };
        let (access, anywhere) = (Access::Read, Placement::Any);
        // SAFETY: nothing is mapped by a device that does not know the command.
        let error = unsafe { context.map_user(buffer, access, anywhere) }.unwrap_err();
        assert_eq!(error.errno(), errno);
        assert!(error.to_string().contains("4096 bytes at 0x1000"));
        assert_eq!(context.unmap_user(buffer).unwrap_err().errno(), errno);

        // SAFETY: as above.
        let failed = unsafe { context.map_user_batch(&[buffer; 3], access, 0) };
        let (error, index) = failed.unwrap_err();
        assert_eq!((error.errno(), index), (errno, None));
        let (error, index) = context.unmap_batch(&[(Iova::new(0), 1)]).unwrap_err();
        assert_eq!((error.errno(), index), (errno, None));
    }

    #[test]
    fn an_empty_batch_asks_nobody() {
        let context = Context::open_node("/dev/null").unwrap();
        // SAFETY: there is no buffer.
        let mapped = unsafe { context.map_user_batch(&[], Access::Read, 0) };
        assert_eq!(mapped, Ok(Vec::new()));
        assert_eq!(context.unmap_batch(&[]), Ok(()));
    }
}
