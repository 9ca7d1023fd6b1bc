// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Mapping through a VFIO container, for the VFs (or whatever else the program drives
//! through it).

use crate::{
    pool::{Pool, SLAB},
    vfio::ContainerFd,
};
use qat_iommu_capi_buffers::{Backend, NotUnmapped, Owner, Record, Request};
use qat_iommu_capi_core::Failure;
use rustix::io::Errno;
use std::{
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// QAT devices have 48 address bits.
const LAST: u64 = (1 << 48) - 1;

/// How many ranges that somebody else has mapped are passed over in one call.
const COLLISIONS: usize = 64;

/// A registered container.
#[derive(Debug)]
pub(crate) struct Container {
    number: u64,
    fd: ContainerFd,
    /// `None` for one that has no IOMMU.
    pool: Mutex<Option<Pool>>,
}

impl Container {
    pub(crate) fn new(number: u64, fd: ContainerFd) -> Self {
        let container = Self {
            number,
            fd,
            pool: Mutex::new(None),
        };
        container.refresh();
        container
    }

    pub(crate) fn fd(&self) -> ContainerFd {
        self.fd
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner::Container(self.number)
    }

    /// Takes notice of what a device that has joined reserves.
    pub(crate) fn refresh(&self) {
        let valid = self.fd.valid_ranges();
        let mut pool = self.pool();
        *pool = valid.ok().map(|valid| {
            let valid: Vec<_> = valid.into_iter().filter_map(reachable).collect();
            match pool.take() {
                Some(mut pool) => {
                    pool.restrict(&valid);
                    pool
                }
                None => Pool::new(&valid),
            }
        });
    }

    fn pool(&self) -> MutexGuard<'_, Option<Pool>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, slabs: u64) -> Result<u64, Failure> {
        let mut pool = self.pool();
        let pool = pool.as_mut().ok_or_else(|| {
            Failure::new(
                libc::EOPNOTSUPP,
                "the registered VFIO container does not say which IOVAs it has: it is in \
                 no-IOMMU mode, or its IOMMU is not set yet; use VFIO with an IOMMU",
            )
        })?;
        pool.take(slabs).ok_or_else(|| {
            Failure::new(
                libc::ENOSPC,
                "no free range of IOVAs of the VFIO container is large enough; unmap something",
            )
        })
    }

    fn give(&self, iova: u64, slabs: u64) {
        if let Some(pool) = self.pool().as_mut() {
            pool.give(iova, slabs);
        }
    }
}

/// The part of a range that a device's address bits reach.
fn reachable(range: RangeInclusive<u64>) -> Option<RangeInclusive<u64>> {
    let (first, last) = (*range.start(), (*range.end()).min(LAST));
    (first <= last).then_some(first..=last)
}

/// usize has at most 64 bits wherever Linux runs.
fn wide(value: usize) -> u64 {
    value as u64
}

fn slabs(length: usize) -> u64 {
    wide(length).div_ceil(SLAB)
}

impl Backend for Container {
    fn map(&self, request: &Request) -> Result<(u64, Owner), Failure> {
        let slabs = slabs(request.length);
        for _ in 0..COLLISIONS {
            let iova = self.take(slabs)?;
            let mapped = self
                .fd
                .map(wide(request.address), iova, wide(request.length));
            match mapped {
                Ok(()) => return Ok((iova, self.owner())),
                // Somebody else's mapping is there: the range is not ours to give out.
                Err(Errno::EXIST) => {}
                Err(errno) => {
                    self.give(iova, slabs);
                    return Err(map_failure(errno));
                }
            }
        }
        Err(map_failure(Errno::EXIST))
    }

    fn unmap(&self, record: &Record) -> Result<(), NotUnmapped> {
        let length = wide(record.length);
        match self.fd.unmap(record.iova, length) {
            Ok(unmapped) if unmapped == length => {
                self.give(record.iova, slabs(record.length));
                Ok(())
            }
            Ok(unmapped) => Err(NotUnmapped::Gone(Failure::new(
                libc::EIO,
                format!(
                    "VFIO unmapped {unmapped} bytes instead of {length} at IOVA {:#x}: somebody \
                     else unmaps in this container; the range is not used again",
                    record.iova
                ),
            ))),
            Err(_) if !self.fd.is_intact() => Err(NotUnmapped::AllGone(Failure::new(
                libc::ENOENT,
                "the program has closed the registered VFIO container, and with it all \
                 mappings; unregister it first",
            ))),
            Err(errno) => Err(NotUnmapped::Kept(Failure::new(
                errno.raw_os_error(),
                format!(
                    "VFIO_IOMMU_UNMAP_DMA of {length} bytes at IOVA {:#x} failed: {errno}",
                    record.iova
                ),
            ))),
        }
    }
}

fn map_failure(errno: Errno) -> Failure {
    let reason = match errno {
        Errno::EXIST => "other mappings of the VFIO container are wherever there is room (EEXIST)",
        Errno::NOMEM => {
            "the buffer exceeds what this process may lock (`ulimit -l`), or the kernel is out of \
             memory; raise RLIMIT_MEMLOCK or free some (ENOMEM)"
        }
        Errno::NOSPC => {
            "VFIO allows no more mappings (parameter dma_entry_limit of the module \
             vfio_iommu_type1); map fewer and larger buffers (ENOSPC)"
        }
        Errno::FAULT => {
            "the buffer cannot be pinned: part of it is not mapped, not writable, or of a file \
             that is mapped writable; use anonymous, shared or huge page memory (EFAULT)"
        }
        Errno::BADF | Errno::NOTTY => {
            "the registered VFIO container is closed; unregister one before it is closed"
        }
        _ => "VFIO_IOMMU_MAP_DMA failed; `man errno` has the reason",
    };
    Failure::new(errno.raw_os_error(), reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, os::fd::AsRawFd};

    fn container(file: &File) -> Container {
        Container::new(1, ContainerFd::new(file.as_raw_fd()).unwrap())
    }

    fn request() -> Request {
        Request {
            address: 0x1000,
            length: 0x1000,
            access: qat_iommu::Access::ReadWrite,
            placement: qat_iommu::Placement::Any,
            alone: true,
        }
    }

    fn record() -> Record {
        Record {
            address: 0x1000,
            length: 0x1000,
            iova: SLAB,
            owner: Owner::Container(1),
        }
    }

    #[test]
    fn one_without_iovas_maps_nothing() {
        let file = File::open("/dev/null").unwrap();
        let failure = container(&file).map(&request()).unwrap_err();
        assert_eq!(failure.errno(), libc::EOPNOTSUPP);
    }

    #[test]
    fn a_refused_range_is_free_again() {
        let file = File::open("/dev/null").unwrap();
        let container = container(&file);
        *container.pool() = Some(Pool::new(&[0..=3 * SLAB - 1]));
        for _ in 0..10 {
            let failure = container.map(&request()).unwrap_err();
            assert_eq!(failure.errno(), libc::ENOTTY);
        }
        assert_eq!(container.pool().as_mut().unwrap().take(2), Some(SLAB));
    }

    #[test]
    fn a_refused_unmap_leaves_the_mapping() {
        let file = File::open("/dev/null").unwrap();
        let refused = container(&file).unmap(&record());
        assert!(matches!(refused, Err(NotUnmapped::Kept(_))), "{refused:?}");
    }

    #[test]
    fn addresses_end_where_the_devices_do() {
        assert_eq!(reachable(0..=u64::MAX), Some(0..=LAST));
        assert_eq!(reachable(LAST + 1..=u64::MAX), None);
        assert_eq!(slabs(1), 1);
        assert_eq!(slabs(2 << 30), 1024);
        assert_eq!(slabs((2 << 20) + 4096), 2);
    }
}
