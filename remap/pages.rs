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
pub(crate) struct PageRefs(KVVec<Frames>);

impl PageRefs {
    /// No references.
    pub(crate) const fn none() -> Self {
        // INVARIANT: There are no runs.
        Self(KVVec::new())
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
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
            if let Some(run) = refs.0.last_mut() {
                if run.is_before(pfn) {
                    if ffi::page_get(pfn) {
                        // INVARIANT: `pfn` follows the run and was just referenced.
                        run.count += 1;
                    }
                    continue;
                }
            }
            // A list too long for the allocator is refused, not warned about.
            refs.0.reserve(1, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
            if ffi::page_get(pfn) {
                // INVARIANT: `pfn` was just referenced. There is room for the push.
                let run = Frames {
                    first: pfn,
                    count: 1,
                };
                let _ = refs.0.push_within_capacity(run);
            }
        }
        Ok(refs)
    }
}

impl Drop for PageRefs {
    fn drop(&mut self) {
        for run in self.0.iter() {
            for pfn in run.first..run.first.saturating_add(run.count) {
                if pfn % 1024 == 0 {
                    ffi::pause();
                }
                // SAFETY: By the type invariant this owns a reference, and gives it back once.
                unsafe { ffi::page_put(pfn) };
            }
        }
    }
}
