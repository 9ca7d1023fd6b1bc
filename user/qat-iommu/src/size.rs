// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The remap size: what a mapping of some size really covers.

/// The page size of this kernel, in bytes.
#[inline]
pub fn page_size() -> u64 {
    // usize has at most 64 bits wherever Linux runs.
    u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}

/// `size` rounded up to a multiple of `granule`, which must be a power of two.
/// `None` for a size of 0, and where the result would not fit.
#[inline]
pub fn round_up(size: u64, granule: u64) -> Option<u64> {
    debug_assert!(granule.is_power_of_two());
    if size == 0 {
        return None;
    }
    let mask = granule - 1;
    Some(size.checked_add(mask)? & !mask)
}

/// The unit of mapping of a space with these IOMMU page sizes (a bitmap, 0 where
/// there is no space): its smallest page, and no less than the kernel's.
pub(crate) fn granule(page_sizes: u64, kernel_page: u64) -> u64 {
    match page_sizes {
        0 => kernel_page,
        sizes => kernel_page.max(1 << sizes.trailing_zeros()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_up_to_whole_pages() {
        assert_eq!(round_up(1, 4096), Some(4096));
        assert_eq!(round_up(4095, 4096), Some(4096));
        assert_eq!(round_up(4096, 4096), Some(4096));
        assert_eq!(round_up(4097, 4096), Some(8192));
        assert_eq!(round_up((8 << 40) + 1, 4096), Some((8 << 40) + 4096));
        assert_eq!(round_up(1, 1 << 21), Some(1 << 21));
    }

    #[test]
    fn zero_and_overflow_have_no_remap_size() {
        assert_eq!(round_up(0, 4096), None);
        assert_eq!(round_up(u64::MAX, 4096), None);
        assert_eq!(round_up(u64::MAX - 4094, 4096), None);
        assert_eq!(round_up(u64::MAX - 4095, 4096), Some(u64::MAX - 4095));
    }

    #[test]
    fn granule_is_the_larger_of_both_pages() {
        assert_eq!(granule(0x4020_1000, 4096), 4096);
        assert_eq!(granule(0x0020_0000, 4096), 2 << 20);
        assert_eq!(granule(0x0000_1000, 65536), 65536);
        assert_eq!(granule(0, 4096), 4096);
        assert_eq!(granule(1 << 63, 4096), 1 << 63);
    }
}
