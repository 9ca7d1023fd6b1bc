// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! What a context has mapped, as the module tells it.

use crate::{sys, Access, Action, Context, Error, Iova, IovaRange, Phys};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;
use std::os::fd::AsFd;

/// What backs a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backing {
    /// A physical range.
    Phys(Phys),
    /// A pinned buffer: where its first page was in the process that mapped it.
    User(usize),
}

/// One mapping of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mapped {
    /// The IOVAs that it covers, whole pages.
    pub iovas: IovaRange,
    /// What backs it.
    pub backing: Backing,
    /// What the PFs may do with it.
    pub access: Access,
}

/// The mappings of a context in its space, in the order of their IOVAs. Those that
/// come and go meanwhile may be seen or not.
#[derive(Debug)]
pub struct Mappings<'a> {
    context: &'a Context,
    /// Where to look from; `None` at the end.
    next: Option<u64>,
}

impl Context {
    /// Lists the mappings of this context in its space.
    pub fn mappings(&self) -> Mappings<'_> {
        Mappings {
            context: self,
            next: Some(0),
        }
    }
}

impl Iterator for Mappings<'_> {
    type Item = Result<Mapped, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let argument = uapi::qat_iommu_query {
            iova: self.next.take()?,
            ..Default::default()
        };
        match sys::query(self.context.as_fd(), argument) {
            Ok(answer) => {
                self.next = answer.iova.checked_add(answer.length);
                Mapped::from_raw(&answer)
                    .ok_or_else(|| Error::new(Action::Query, Errno::INVAL))
                    .into()
            }
            Err(Errno::NOENT) => None,
            Err(errno) => Some(Err(Error::new(Action::Query, errno))),
        }
    }
}

impl Mapped {
    /// `None` for what this version does not know.
    fn from_raw(raw: &uapi::qat_iommu_query) -> Option<Self> {
        let backing = match raw.kind {
            uapi::QAT_IOMMU_QUERY_PHYS => Backing::Phys(Phys::new(raw.backing)),
            uapi::QAT_IOMMU_QUERY_USER => Backing::User(usize::try_from(raw.backing).ok()?),
            _ => return None,
        };
        Some(Self {
            iovas: IovaRange {
                first: Iova::new(raw.iova),
                last: Iova::new(raw.iova.checked_add(raw.length.checked_sub(1)?)?),
            },
            backing,
            access: Access::from_flags(raw.map_flags)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> uapi::qat_iommu_query {
        uapi::qat_iommu_query {
            iova: 0x10_0000,
            length: 0x2000,
            backing: 0x7f00_0000_1000,
            kind: uapi::QAT_IOMMU_QUERY_USER,
            map_flags: uapi::QAT_IOMMU_MAP_READ,
            ..Default::default()
        }
    }

    #[test]
    fn describes_a_mapping() {
        let mapped = Mapped::from_raw(&raw()).unwrap();
        assert_eq!(mapped.iovas.to_string(), "0x100000-0x101fff");
        assert_eq!(mapped.backing, Backing::User(0x7f00_0000_1000));
        assert_eq!(mapped.access, Access::Read);
    }

    #[test]
    fn what_makes_no_sense_is_not_shown() {
        for strange in [
            uapi::qat_iommu_query { kind: 9, ..raw() },
            uapi::qat_iommu_query { length: 0, ..raw() },
            uapi::qat_iommu_query {
                map_flags: 0,
                ..raw()
            },
        ] {
            assert_eq!(Mapped::from_raw(&strange), None);
        }
    }

    #[test]
    fn an_error_ends_the_list() {
        let context = Context::open_node("/dev/null").unwrap();
        let mut mappings = context.mappings();
        let error = mappings.next().unwrap().unwrap_err();
        assert_eq!(error.errno(), Errno::NOTTY.raw_os_error());
        assert!(mappings.next().is_none());
    }
}
