// SPDX-License-Identifier: GPL-2.0

//! Why a call was refused: the one place where a reason becomes an errno and a line of text. The
//! glossary in the uapi header tells callers the same.

use crate::iova::{
    allocate::NoSpace,
    error::Error as RangeError, //
};
use kernel::{
    bindings,
    error::code,
    prelude::*, //
};

/// The reason for which a call was refused. A refused call has changed nothing.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    /// The range is wrong in itself or for the space.
    Range(RangeError),
    /// No usable PF on this host.
    NoPf,
    /// The PF is not translated and the IOVA is not the physical address.
    NotTranslated,
    /// `shared_fixed=` keeps fixed ranges, or low ones, from a shared PF.
    SharedFixed,
    /// The IOMMU of a shared PF cannot tell whether the DMA API uses a range.
    CannotTellCollision,
    /// A flag that this version does not know.
    UnknownFlag,
    /// A scattered buffer and a PF that is not translated.
    Scattered,
    /// No free range is large enough.
    NoSpace,
    /// The context has buffers in the space it would leave.
    Busy,
    /// Neither read nor write.
    NoAccess,
    /// The caller lacks CAP_SYS_RAWIO.
    NotPermitted,
    /// The kernel is locked down.
    LockedDown,
    /// `phys=` does not allow the physical range.
    PhysPolicy,
    /// The IOMMU did not remove what it was asked to.
    Poisoned,
    /// The kernel's own answer.
    Kernel(Error),
}

impl Refusal {
    /// What user space and kernel logs see.
    pub(crate) fn errno(self) -> Error {
        // Some of these are missing among the named codes of older kernels.
        let from = |errno: u32| match i32::try_from(errno) {
            Ok(errno) => Error::from_errno(-errno),
            Err(_) => EINVAL,
        };
        match self {
            Refusal::Range(RangeError::Zero | RangeError::Misaligned) => EINVAL,
            Refusal::Range(RangeError::Wrap) => from(bindings::EOVERFLOW),
            Refusal::Range(RangeError::OutsideAperture | RangeError::BeyondPhysical) => {
                code::ERANGE
            }
            Refusal::Range(RangeError::Overlap) => EEXIST,
            Refusal::Range(RangeError::NotFound) => ENOENT,
            Refusal::Range(RangeError::TooManyReserved) => ENOSPC,
            Refusal::Range(RangeError::Reserved)
            | Refusal::NotTranslated
            | Refusal::SharedFixed => from(bindings::EADDRNOTAVAIL),
            Refusal::NoPf => ENODEV,
            Refusal::CannotTellCollision | Refusal::UnknownFlag | Refusal::Scattered => {
                from(bindings::EOPNOTSUPP)
            }
            Refusal::NoSpace => ENOSPC,
            Refusal::Busy => EBUSY,
            Refusal::NoAccess => EINVAL,
            Refusal::NotPermitted | Refusal::LockedDown => EPERM,
            Refusal::PhysPolicy => EACCES,
            Refusal::Poisoned => EIO,
            Refusal::Kernel(err) => err,
        }
    }

    /// One line: what was wrong and what to do.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Refusal::Range(err) => err.explain(),
            Refusal::NoPf => "no usable QAT PF; bind one to qat_iommu or to its own driver",
            Refusal::NotTranslated => {
                "the PF is not translated, so iova must equal the physical address"
            }
            Refusal::SharedFixed => {
                "the PF belongs to its own driver and shared_fixed= does not allow this range"
            }
            Refusal::CannotTellCollision => {
                "this IOMMU cannot map fixed ranges for a PF that belongs to its own driver"
            }
            Refusal::Scattered => {
                "the PF is not translated and the buffer is not physically contiguous; use a huge page"
            }
            Refusal::NoSpace => NoSpace.explain(),
            Refusal::Busy => "the context still has buffers in the space it would leave",
            Refusal::UnknownFlag => "a flag is unknown",
            Refusal::NoAccess => "neither read nor write was asked for",
            Refusal::NotPermitted => "the caller lacks CAP_SYS_RAWIO",
            Refusal::LockedDown => "the kernel is locked down",
            Refusal::PhysPolicy => "phys= does not let user space map this physical range",
            Refusal::Poisoned => "the IOMMU did not remove the range; see the kernel log",
            Refusal::Kernel(_) => "the kernel or the IOMMU driver refused",
        }
    }
}

impl From<RangeError> for Refusal {
    fn from(err: RangeError) -> Self {
        Refusal::Range(err)
    }
}

impl From<NoSpace> for Refusal {
    fn from(_: NoSpace) -> Self {
        Refusal::NoSpace
    }
}

impl From<Error> for Refusal {
    fn from(err: Error) -> Self {
        Refusal::Kernel(err)
    }
}

impl From<kernel::alloc::AllocError> for Refusal {
    fn from(err: kernel::alloc::AllocError) -> Self {
        Refusal::Kernel(err.into())
    }
}

#[kunit_tests(qat_iommu_refusals)]
mod tests {
    use super::{
        RangeError,
        Refusal, //
    };
    use kernel::{
        bindings,
        prelude::*, //
    };

    /// Whether this is the number; `Error` makes EINVAL of numbers that are none.
    fn is(why: Refusal, errno: u32) -> bool {
        u32::try_from(-why.errno().to_errno()) == Ok(errno)
    }

    /// The glossary of the uapi header.
    #[test]
    fn each_reason_has_its_number() {
        for (why, errno) in [
            (Refusal::Range(RangeError::Zero), bindings::EINVAL),
            (Refusal::Range(RangeError::Misaligned), bindings::EINVAL),
            (Refusal::Range(RangeError::Wrap), bindings::EOVERFLOW),
            (
                Refusal::Range(RangeError::OutsideAperture),
                bindings::ERANGE,
            ),
            (Refusal::Range(RangeError::BeyondPhysical), bindings::ERANGE),
            (
                Refusal::Range(RangeError::Reserved),
                bindings::EADDRNOTAVAIL,
            ),
            (Refusal::Range(RangeError::Overlap), bindings::EEXIST),
            (Refusal::Range(RangeError::NotFound), bindings::ENOENT),
            (
                Refusal::Range(RangeError::TooManyReserved),
                bindings::ENOSPC,
            ),
            (Refusal::NoPf, bindings::ENODEV),
            (Refusal::NotTranslated, bindings::EADDRNOTAVAIL),
            (Refusal::SharedFixed, bindings::EADDRNOTAVAIL),
            (Refusal::CannotTellCollision, bindings::EOPNOTSUPP),
            (Refusal::UnknownFlag, bindings::EOPNOTSUPP),
            (Refusal::Scattered, bindings::EOPNOTSUPP),
            (Refusal::NoSpace, bindings::ENOSPC),
            (Refusal::Busy, bindings::EBUSY),
            (Refusal::NoAccess, bindings::EINVAL),
            (Refusal::NotPermitted, bindings::EPERM),
            (Refusal::LockedDown, bindings::EPERM),
            (Refusal::PhysPolicy, bindings::EACCES),
            (Refusal::Poisoned, bindings::EIO),
        ] {
            assert!(is(why, errno));
        }
    }

    #[test]
    fn the_kernels_answer_is_handed_on() {
        assert!(is(Refusal::from(ENOMEM), bindings::ENOMEM));
        assert!(is(Refusal::Kernel(EINTR), bindings::EINTR));
    }
}
