// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! What the compatible calls act on: the registered VFIO container while there is one,
//! else the PFs; or what the environment variable `QAT_IOMMU_BACKEND` says.

use crate::{container::Container, registry::Registry};
use libc::{EINVAL, ENODEV, ENOENT};
use qat_iommu_capi_buffers::{Backend, Module, NotUnmapped, Owner, Record, Request};
use qat_iommu_capi_core::{Failure, Process};
use std::{ffi::OsStr, sync::Arc};

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The container while there is one, else the PFs.
    Registered,
    Pf,
    Vfio,
    /// Something that is neither.
    Unknown,
}

impl Choice {
    pub(crate) fn from_environment() -> Self {
        Self::new(std::env::var_os("QAT_IOMMU_BACKEND").as_deref())
    }

    fn new(value: Option<&OsStr>) -> Self {
        match value.map(OsStr::as_encoded_bytes) {
            None | Some(b"") => Choice::Registered,
            Some(b"pf") => Choice::Pf,
            Some(b"vfio") => Choice::Vfio,
            Some(_) => Choice::Unknown,
        }
    }
}

/// Both ways of mapping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Either<'a> {
    pub(crate) choice: Choice,
    pub(crate) registry: &'a Registry,
    pub(crate) process: &'a Process,
}

impl Either<'_> {
    /// The container to map in; `None` for the PFs.
    #[inline]
    fn container(self) -> Result<Option<Arc<Container>>, Failure> {
        if self.choice == Choice::Registered && !self.registry.ever() {
            return Ok(None);
        }
        self.chosen()
    }

    #[inline(never)]
    fn chosen(self) -> Result<Option<Arc<Container>>, Failure> {
        match (self.choice, self.registry.current()) {
            (Choice::Pf, _) => Ok(None),
            (Choice::Registered, current) => Ok(current),
            (Choice::Vfio, Some(current)) => Ok(Some(current)),
            (Choice::Vfio, None) => Err(Failure::new(
                ENODEV,
                "QAT_IOMMU_BACKEND=vfio, but no VFIO container is registered; call \
                 qaeRegisterDevice first (qatlib does), or leave the variable out",
            )),
            (Choice::Unknown, _) => Err(Failure::new(
                EINVAL,
                "the environment variable QAT_IOMMU_BACKEND is wrong: it is `pf` or `vfio`, or \
                 left out",
            )),
        }
    }
}

impl Either<'_> {
    /// Unmaps what was mapped in a container.
    #[inline(never)]
    fn unmap_contained(self, record: &Record) -> Result<(), NotUnmapped> {
        match self.registry.current() {
            Some(container) if container.owner() == record.owner => container.unmap(record),
            // It was unregistered since the record was taken out, and is empty.
            _ => Err(NotUnmapped::Gone(Failure::new(
                ENOENT,
                "the VFIO container of this mapping is no longer registered",
            ))),
        }
    }
}

impl Backend for Either<'_> {
    #[inline(always)]
    fn map(&self, request: &Request) -> Result<(u64, Owner), Failure> {
        match self.container()? {
            // A copy, here and below: it alone is in memory for the sake of this call.
            Some(container) => container.map(&{ *request }),
            None => Module(self.process).map(request),
        }
    }

    #[inline]
    fn unmap(&self, record: &Record) -> Result<(), NotUnmapped> {
        if matches!(record.owner, Owner::Context(_)) {
            return Module(self.process).unmap(record);
        }
        self.unmap_contained(&{ *record })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qat_iommu::{Access, Placement};
    use qat_iommu_capi_buffers::Buffers;
    use qat_iommu_capi_core::Settings;
    use std::{fs::File, os::fd::AsRawFd};

    #[test]
    fn the_variable_is_understood() {
        for (value, choice) in [
            (None, Choice::Registered),
            (Some(""), Choice::Registered),
            (Some("pf"), Choice::Pf),
            (Some("vfio"), Choice::Vfio),
            (Some("VF"), Choice::Unknown),
        ] {
            assert_eq!(Choice::new(value.map(OsStr::new)), choice);
        }
    }

    #[test]
    fn the_container_comes_first_unless_told_otherwise() {
        // The module is missing: ENODEV. The container has no IOMMU: EOPNOTSUPP.
        let process = Process::new(Settings {
            node: "/nonexistent",
            pf: || None,
            in_vm: || false,
        });
        let request = Request {
            address: 0x1000,
            length: 0x1000,
            access: Access::ReadWrite,
            placement: Placement::Any,
            alone: true,
        };
        let (registry, buffers) = (Registry::default(), Buffers::new().unwrap());
        let errno = |choice| {
            let either = Either {
                choice,
                registry: &registry,
                process: &process,
            };
            either.map(&request).unwrap_err().errno()
        };
        assert_eq!(errno(Choice::Registered), ENODEV);
        assert_eq!(errno(Choice::Vfio), ENODEV);
        let file = File::open("/dev/null").unwrap();
        registry.register(&buffers, file.as_raw_fd()).unwrap();
        assert_eq!(errno(Choice::Registered), libc::EOPNOTSUPP);
        assert_eq!(errno(Choice::Vfio), libc::EOPNOTSUPP);
        assert_eq!(errno(Choice::Pf), ENODEV);
        assert_eq!(errno(Choice::Unknown), EINVAL);
    }
}
