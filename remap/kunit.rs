// SPDX-License-Identifier: GPL-2.0

//! What KUnit checks when the module is loaded into a kernel that has it: the bookkeeping of a
//! space with the kernel's own allocator, and arithmetic that needs the kernel's types. (What is
//! private to a file is checked there.) Not in the module of any other kernel.
//!
//! No state, no lock.

use kernel::prelude::kunit_tests;

#[kunit_tests(qat_iommu_addresses)]
mod addresses {
    use crate::{
        iova::{
            addr::{
                Address,
                Iova,
                Length,
                Phys,
                PAGE, //
            },
            span::Span, //
        },
        remap::{
            domain::Access,
            pf,
            pins::Buffer,
            policy,
            user, //
        },
    };

    /// Where the pages around these bytes begin, and how many bytes they have.
    fn around(va: u64, length: u64) -> Option<(u64, u64)> {
        Buffer::around(va, length).map(|buffer| (buffer.va(), buffer.length()))
    }

    fn range(iova: u64, length: u64) -> Option<(u64, u64)> {
        let span = user::range(iova, length).ok()?;
        Some((span.first().raw(), span.last().raw()))
    }

    #[test]
    fn a_width_reaches_its_last_address() {
        assert_eq!(pf::reach(32).last().raw(), 0xffff_ffff);
        assert_eq!(pf::reach(48).last().raw(), 0xffff_ffff_ffff);
        assert_eq!(pf::reach(64).last().raw(), u64::MAX);
        assert_eq!(pf::reach(32).first().raw(), 0);
    }

    #[test]
    fn a_buffer_is_whole_pages() {
        assert_eq!(around(PAGE, 1), Some((PAGE, PAGE)));
        assert_eq!(around(PAGE + 1, PAGE - 1), Some((PAGE, PAGE)));
        assert_eq!(around(PAGE + 1, PAGE), Some((PAGE, 2 * PAGE)));
        assert_eq!(around(2 * PAGE - 1, 2), Some((PAGE, 2 * PAGE)));
    }

    #[test]
    fn a_buffer_does_not_wrap() {
        assert_eq!(around(PAGE, 0), None);
        assert_eq!(around(u64::MAX, 2), None);
        assert_eq!(around(1, u64::MAX), None);
        assert_eq!(around(u64::MAX, 1), Some((u64::MAX - (PAGE - 1), PAGE)));
    }

    #[test]
    fn a_range_is_whole_pages() {
        assert_eq!(range(PAGE + 7, 1), Some((PAGE, 2 * PAGE - 1)));
        assert_eq!(range(PAGE - 1, 2), Some((0, 2 * PAGE - 1)));
        assert_eq!(range(u64::MAX, 1), Some((u64::MAX - (PAGE - 1), u64::MAX)));
        assert_eq!(range(u64::MAX, 2), None);
        assert_eq!(range(PAGE, 0), None);
    }

    #[test]
    fn an_access_is_something() {
        assert!(Access::new(false, false).is_none());
        for (read, write) in [(true, false), (false, true), (true, true)] {
            let has = |access: Access| (access.reads(), access.writes()) == (read, write);
            assert!(Access::new(read, write).is_some_and(has));
            assert!(Access::new(read, write).is_some_and(|access| has(access.mmio())));
        }
    }

    /// The first megabyte of a PC is not RAM all through, and the MSI window is not at all.
    #[test]
    fn ram_is_told_from_what_is_not() {
        let msi = Span::between(Phys::new(0xfee0_0000), Phys::new(0xfee0_0fff));
        assert_eq!(policy::is_ram(msi).ok(), Some(false));
        let low = Span::between(Phys::new(0), Phys::new(0x1f_ffff));
        assert!(policy::is_ram(low).is_err());
        let ram = Span::between(Phys::new(0x100_0000), Phys::new(0x100_0fff));
        assert_eq!(policy::is_ram(ram).ok(), Some(true));
    }

    #[test]
    fn lengths_and_spans_agree() {
        let span = Length::new(PAGE).and_then(|length| Span::new(Iova::new(PAGE), length));
        assert!(span.is_ok_and(|span| span.last().raw() == 2 * PAGE - 1));
    }
}

#[kunit_tests(qat_iommu_bookkeeping)]
mod bookkeeping {
    use crate::iova::{
        addr::{
            Address,
            Iova,
            PAGE, //
        },
        error::Error as RangeError,
        layout::Layout,
        span::Span,
        tree::Node, //
    };
    use kernel::prelude::*;

    const COUNT: u64 = 1000;

    fn page(number: u64) -> Span<Iova> {
        let first = number * PAGE;
        Span::between(Iova::new(first), Iova::new(first + (PAGE - 1)))
    }

    fn space() -> Layout<u64> {
        Layout::new(Span::between(Iova::MIN, Iova::MAX), 1)
    }

    /// Records a page, every other one of them, under its number.
    fn fill(space: &mut Layout<u64>) -> Result {
        for number in 1..=COUNT {
            let node = KBox::new(Node::new(page(2 * number), number), GFP_KERNEL)?;
            space.insert(node).map_err(|_| EEXIST)?;
        }
        Ok(())
    }

    #[test]
    fn what_is_recorded_is_found() -> Result {
        let mut space = space();
        fill(&mut space)?;
        assert_eq!(space.live().iter().count(), 1000);
        for number in 1..=COUNT {
            let found = space.live().get(page(2 * number).last());
            assert!(found.is_some_and(|node| *node.value() == number));
            assert!(space.live().get(page(2 * number + 1).first()).is_none());
            assert!(space.is_free(page(2 * number + 1)));
        }
        Ok(())
    }

    #[test]
    fn an_overlap_is_handed_back() -> Result {
        let mut space = space();
        fill(&mut space)?;
        let both = Span::between(page(2).first(), page(3).last());
        let refused = space.insert(KBox::new(Node::new(both, 7), GFP_KERNEL)?);
        assert!(
            refused.is_err_and(|why| why.error == RangeError::Overlap && *why.node.value() == 7)
        );
        assert_eq!(space.live().iter().count(), 1000);
        Ok(())
    }

    #[test]
    fn what_is_removed_is_gone() -> Result {
        let mut space = space();
        fill(&mut space)?;
        for number in 1..=COUNT {
            let other = space.remove_if(page(2 * number), |value| *value != number);
            assert!(other.is_err());
            let gone = space.remove_if(page(2 * number), |value| *value == number);
            assert!(gone.is_ok_and(|node| *node.value() == number));
            assert!(space.remove_if(page(2 * number), |_| true).is_err());
        }
        assert!(space.live().first().is_none());
        Ok(())
    }

    #[test]
    fn the_page_at_0_is_never_free() -> Result {
        let mut space = space();
        let refused = space.insert(KBox::new(Node::new(page(0), 0), GFP_KERNEL)?);
        assert!(refused.is_err_and(|why| why.error == RangeError::Reserved));
        Ok(())
    }
}
