// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! What the flags and the alignment of the native calls mean.

use libc::{EINVAL, EOPNOTSUPP};
use qat_iommu::{Access, Iova, Placement};
use qat_iommu_capi_core::Failure;

/// `QAT_IOMMU_READ` of `qat_iommu.h`.
pub(crate) const READ: u32 = 1 << 0;
/// `QAT_IOMMU_WRITE`.
pub(crate) const WRITE: u32 = 1 << 1;
/// `QAT_IOMMU_FIXED`.
pub(crate) const FIXED: u32 = 1 << 2;

/// What the device may do. `allowed` are flags of other meanings that may be there.
#[inline]
pub(crate) fn access(flags: u32, allowed: u32) -> Result<Access, Failure> {
    if flags & !(READ | WRITE | allowed) != 0 {
        return Err(unknown(flags & !(READ | WRITE | allowed)));
    }
    match (flags & READ != 0, flags & WRITE != 0) {
        (true, true) => Ok(Access::ReadWrite),
        (true, false) => Ok(Access::Read),
        (false, true) => Ok(Access::Write),
        (false, false) => Err(no_access()),
    }
}

#[cold]
fn unknown(flags: u32) -> Failure {
    Failure::new(
        EOPNOTSUPP,
        format!("this call does not know the flags {flags:#x}; leave them out"),
    )
}

#[cold]
fn no_access() -> Failure {
    Failure::new(
        EINVAL,
        "the flags let the device neither read nor write; give QAT_IOMMU_READ, QAT_IOMMU_WRITE \
         or both",
    )
}

/// Where a buffer is to be mapped; `iova` matters with `QAT_IOMMU_FIXED` only.
#[inline]
pub(crate) fn placement(flags: u32, alignment: u64, iova: u64) -> Result<Placement, Failure> {
    match (flags & FIXED != 0, alignment) {
        (true, 0) => Ok(Placement::Fixed(Iova::new(iova))),
        (true, _) => Err(fixed_and_aligned()),
        (false, 0) => Ok(Placement::Any),
        (false, bytes) => Ok(Placement::Aligned(bytes)),
    }
}

#[cold]
fn fixed_and_aligned() -> Failure {
    Failure::new(
        EINVAL,
        "there is an alignment as well as QAT_IOMMU_FIXED; give 0 for the alignment",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_checked() {
        assert_eq!(access(READ, 0), Ok(Access::Read));
        assert_eq!(access(WRITE, 0), Ok(Access::Write));
        assert_eq!(access(READ | WRITE | FIXED, FIXED), Ok(Access::ReadWrite));
        assert_eq!(access(FIXED, FIXED).unwrap_err().errno(), EINVAL);
        assert_eq!(access(READ | FIXED, 0).unwrap_err().errno(), EOPNOTSUPP);
        let unknown = access(READ | (1 << 31), FIXED).unwrap_err();
        assert_eq!(unknown.errno(), EOPNOTSUPP);
        assert!(unknown.reason().contains("0x80000000"));
    }

    #[test]
    fn a_place_is_fixed_or_aligned() {
        assert_eq!(placement(READ, 0, 7), Ok(Placement::Any));
        assert_eq!(placement(READ, 8192, 7), Ok(Placement::Aligned(8192)));
        let fixed = placement(READ | FIXED, 0, 0x7000);
        assert_eq!(fixed, Ok(Placement::Fixed(Iova::new(0x7000))));
        assert_eq!(placement(FIXED, 8192, 0).unwrap_err().errno(), EINVAL);
    }

    #[test]
    fn the_flags_are_those_of_the_header() {
        let header = include_str!("../../../include/qat_iommu/qat_iommu.h");
        for (name, value) in [("READ", READ), ("WRITE", WRITE), ("FIXED", FIXED)] {
            let line = format!("#define QAT_IOMMU_{name}\t{value:#x}u\n");
            assert!(header.contains(&line), "{line}");
        }
    }
}
