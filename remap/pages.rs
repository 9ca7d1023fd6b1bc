// SPDX-License-Identifier: GPL-2.0

//! References on the RAM behind a physical mapping, so that memory freed while a PF still reaches
//! it is not given to someone else. Owns nothing but its references; takes no lock.

use super::{
    ffi,
    frames::Frames, //
};
use crate::iova::{
    addr::{
        Address,
        Phys,
        PAGE, //
    },
    span::Span, //
};
use kernel::{
    error::code::EINTR,
    prelude::*, //
};

/// References on pages.
///
/// # Invariants
///
/// For each page frame in a run this owns one reference. It is dropped in process context.
pub(crate) struct PageRefs {
    /// The last run, or none. Most have no other, and so take no memory of their own.
    last: Frames,
    /// The runs before.
    others: Option<KVVec<Frames>>,
}

impl PageRefs {
    /// No references.
    pub(crate) const fn none() -> Self {
        // INVARIANT: There are no runs.
        Self {
            last: Frames::NONE,
            others: None,
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.last.count == 0 && self.others.is_none()
    }

    /// References the page that `span` is, if it can be. No answer if it is more than one page, or not
    /// RAM for certain.
    #[inline]
    pub(crate) fn of_ram_page(span: Span<Phys>) -> Option<Self> {
        let pfn = span.first().raw() / PAGE;
        if span.last().raw() / PAGE != pfn {
            return None;
        }
        let mut refs = Self::none();
        if ffi::ram_page_get(pfn)? {
            // INVARIANT: `pfn` was just referenced.
            refs.last = Frames {
                first: pfn,
                count: 1,
            };
        }
        Some(refs)
    }

    /// References every page of `span` that can be: not those that are free, that the slab
    /// allocator owns or that are not RAM.
    ///
    /// May sleep. Fails without memory, and with `EINTR` when the caller is being killed; what was
    /// referenced by then is given back.
    pub(crate) fn take(span: Span<Phys>) -> Result<Self> {
        let mut refs = Self::none();
        for pfn in span.first().raw() / PAGE..=span.last().raw() / PAGE {
            // A batch of pages is short enough to be uninterrupted.
            if pfn % 1024 == 0 && ffi::pause() {
                return Err(EINTR);
            }
            if refs.last.count > 0 {
                if refs.last.is_before(pfn) {
                    if ffi::page_get(pfn) {
                        // INVARIANT: `pfn` follows the run and was just referenced.
                        refs.last.count += 1;
                    }
                    continue;
                }
                refs.end_run()?;
            }
            if ffi::page_get(pfn) {
                // INVARIANT: `pfn` was just referenced.
                refs.last = Frames {
                    first: pfn,
                    count: 1,
                };
            }
        }
        Ok(refs)
    }

    /// Puts the last run to the others.
    #[cold]
    fn end_run(&mut self) -> Result {
        let others = self.others.get_or_insert_with(KVVec::new);
        // A list too long for the allocator is refused, not warned about.
        others.push(self.last, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        // INVARIANT: Its references are with the others now.
        self.last = Frames::NONE;
        Ok(())
    }

    /// Gives all of them back.
    #[inline(never)]
    fn put_all(&mut self) {
        for run in self.others.take().iter().flatten() {
            // SAFETY: By the type invariant this owns the references. They are gone with the list.
            unsafe { put(run) };
        }
        // SAFETY: The same. INVARIANT: Nothing is left.
        unsafe { put(&core::mem::replace(&mut self.last, Frames::NONE)) };
    }
}

impl Drop for PageRefs {
    #[inline]
    fn drop(&mut self) {
        match self.last.count {
            0 if self.others.is_none() => {}
            // SAFETY: By the type invariant this owns the reference, and gives it back once.
            1 if self.others.is_none() => unsafe { ffi::page_put(self.last.first) },
            _ => self.put_all(),
        }
    }
}

/// Gives the references of a run back.
///
/// # Safety
///
/// The caller owns one on each of its pages.
#[inline]
unsafe fn put(run: &Frames) {
    for pfn in run.first..run.first.saturating_add(run.count) {
        if pfn % 1024 == 0 {
            ffi::pause();
        }
        // SAFETY: By the contract of this function.
        unsafe { ffi::page_put(pfn) };
    }
}
