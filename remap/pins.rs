// SPDX-License-Identifier: GPL-2.0

//! Pinned pages of a user buffer and their charge to RLIMIT_MEMLOCK. Both are undone by being
//! dropped, once, whatever the reason.
//!
//! Locks: none may be held while pages are pinned: the caller's page may be on a file system that
//! never answers (FUSE), or in the hands of userfaultfd. For the same reason the charge is an atomic
//! counter (`pinned_vm`) and not one under the process's mmap lock, which a page fault of its own
//! can hold for as long as it likes: unbind and close must not wait for that.

use super::{
    ffi,
    owner::Account,
    trace, //
};
use crate::iova::{
    addr::{
        Address,
        Phys,
        PAGE, //
    },
    span::Span, //
};
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::{
        code::{
            EINTR,
            EOVERFLOW, //
        },
        to_result, //
    },
    mm::Mm,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// A page-aligned buffer of the calling process.
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    first: usize,
    pages: usize,
}

impl Buffer {
    /// The pages that hold `length` bytes from `va` on; `None` if there are none or they wrap.
    pub(crate) fn around(va: u64, length: u64) -> Option<Self> {
        let last = va.checked_add(length.checked_sub(1)?)?;
        let first = va & !(PAGE - 1);
        let pages = (last / PAGE).checked_sub(first / PAGE)?.checked_add(1)?;
        let buffer = Self {
            first: usize::try_from(first).ok()?,
            pages: usize::try_from(pages).ok()?,
        };
        // The end must be an address, too.
        buffer.first.checked_add(buffer.bytes()?.checked_sub(1)?)?;
        Some(buffer)
    }

    /// Where its first page begins.
    pub(crate) fn va(&self) -> u64 {
        self.first as u64
    }

    fn bytes(&self) -> Option<usize> {
        self.pages.checked_mul(PAGE as usize)
    }

    /// How many bytes its pages hold.
    pub(crate) fn length(&self) -> u64 {
        self.bytes().map_or(0, |bytes| bytes as u64)
    }
}

/// Locked memory charged to a process, and counted in a context's account.
///
/// # Invariants
///
/// The pages of `buffer` are charged to `mm` and counted in `account` on behalf of this value.
struct Charge {
    mm: ARef<Mm>,
    account: Arc<Account>,
    buffer: Buffer,
}

impl Charge {
    /// Charges the calling process; `ENOMEM` beyond its limit.
    fn new(buffer: Buffer, account: &Arc<Account>) -> Result<Self> {
        let mm: ARef<Mm> = ARef::from(&**kernel::current!().mm().ok_or(EFAULT)?);
        // SAFETY: The mm is valid.
        to_result(unsafe { ffi::qat_iommu_charge(mm.as_raw(), buffer.pages as u64) })?;
        account.pinned(buffer.length());
        // INVARIANT: Charged and counted just now.
        Ok(Self {
            mm,
            account: account.clone(),
            buffer,
        })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // SAFETY: The mm is valid, if only as a husk of an exited process; by the type invariant
        // the pages were charged to it.
        unsafe { ffi::qat_iommu_uncharge(self.mm.as_raw(), self.buffer.pages as u64) };
        self.account.unpinned(self.buffer.length());
    }
}

/// Physically contiguous pages.
#[derive(Clone, Copy)]
struct Run {
    first: NonNull<bindings::page>,
    pages: usize,
}

impl Run {
    fn phys(&self) -> Span<Phys> {
        // SAFETY: The page is pinned, so it has a frame.
        let first = unsafe { ffi::qat_iommu_page_pfn(self.first.as_ptr()) } * PAGE;
        // A run is at least one page, and all of it is memory: nothing wraps.
        let last = first.saturating_add((self.pages as u64).saturating_mul(PAGE) - 1);
        Span::between(Phys::new(first), Phys::new(last))
    }
}

/// The pinned pages of a buffer.
///
/// # Invariants
///
/// Every page of the runs holds one pin of ours, taken with `FOLL_LONGTERM`; those of `more` come
/// after `first` in the buffer.
pub(crate) struct Pins {
    first: Option<Run>,
    more: KVVec<Run>,
    /// The device may have written to the pages.
    written: bool,
    /// All of the buffer is pinned, and who traces pins has heard of it.
    complete: bool,
    charge: Charge,
}

// SAFETY: Pinned pages may be unpinned by any thread.
unsafe impl Send for Pins {}
// SAFETY: Shared references only read the runs.
unsafe impl Sync for Pins {}

/// Pages that are pinned at a time.
const BATCH: usize = 512;

/// As many fit on the stack.
const FEW: usize = 16;

impl Pins {
    /// Pins the pages of a buffer of the calling process, for reading or for writing as well,
    /// charges them, and counts them in the context's account.
    ///
    /// May sleep, and for as long as user space likes: no lock may be held. A signal ends it between
    /// two batches, a fatal one within a page fault. What was pinned by then is unpinned.
    pub(crate) fn new(buffer: Buffer, write: bool, account: &Arc<Account>) -> Result<Self> {
        // INVARIANT: There are no runs yet.
        let mut pins = Self {
            first: None,
            more: KVVec::new(),
            written: write,
            complete: false,
            charge: Charge::new(buffer, account)?,
        };
        if buffer.pages <= FEW {
            pins.pin(buffer, &mut [core::ptr::null_mut(); FEW])?;
        } else {
            let mut scratch = KVec::from_elem(
                core::ptr::null_mut(),
                buffer.pages.min(BATCH),
                GFP_KERNEL_ACCOUNT,
            )?;
            pins.pin(buffer, &mut scratch)?;
        }
        pins.complete = true;
        trace::pin(account, buffer.va(), buffer.pages);
        Ok(pins)
    }

    fn pin(&mut self, buffer: Buffer, scratch: &mut [*mut bindings::page]) -> Result {
        let mut flags = bindings::FOLL_LONGTERM;
        if self.written {
            flags |= bindings::FOLL_WRITE;
        }
        let mut done: usize = 0;
        while done < buffer.pages {
            if done > 0 && (ffi::pause() || ffi::signal_pending()) {
                return Err(EINTR);
            }
            let want = scratch.len().min(buffer.pages - done);
            let start = done
                .checked_mul(PAGE as usize)
                .and_then(|offset| buffer.first.checked_add(offset))
                .ok_or(EOVERFLOW)?;
            // SAFETY: The array has room for as many pages as are asked for. The flags are none of
            // those that the function refuses with a warning.
            let got = unsafe {
                bindings::pin_user_pages_fast(
                    start,
                    c_int::try_from(want).map_err(|_| EOVERFLOW)?,
                    flags,
                    scratch.as_mut_ptr(),
                )
            };
            let got = usize::try_from(got).map_err(|_| Error::from_errno(got))?;
            if got == 0 {
                return Err(EFAULT);
            }
            let pages = scratch.get(..got).ok_or(EINVAL)?;
            if let Err((err, rest)) = self.take(pages) {
                for page in rest {
                    // SAFETY: Pinned just now and in no run.
                    unsafe { bindings::unpin_user_page_range_dirty_lock(*page, 1, false) };
                }
                return Err(err);
            }
            done += got;
        }
        Ok(())
    }

    /// Adds pinned pages to the runs. Those that could not be added are given back.
    fn take<'a>(
        &mut self,
        pages: &'a [*mut bindings::page],
    ) -> core::result::Result<(), (Error, &'a [*mut bindings::page])> {
        let mut rest = pages;
        while let [page, ..] = *rest {
            // Struct pages of consecutive frames are consecutive.
            let pages = rest
                .iter()
                .enumerate()
                .take_while(|(index, next)| core::ptr::eq(**next, page.wrapping_add(*index)))
                .count();
            let Some(first) = NonNull::new(page) else {
                return Err((EFAULT, rest));
            };
            // INVARIANT: The pages were pinned by the caller and are now ours.
            self.append(Run { first, pages })
                .map_err(|err| (err, rest))?;
            rest = rest.get(pages..).unwrap_or(&[]);
        }
        Ok(())
    }

    fn append(&mut self, run: Run) -> Result {
        let last = match self.more.last_mut() {
            Some(last) => Some(last),
            None => self.first.as_mut(),
        };
        match last {
            Some(last) if last.first.as_ptr().wrapping_add(last.pages) == run.first.as_ptr() => {
                last.pages += run.pages;
            }
            // A list too long for the allocator is refused, not warned about.
            Some(_) => self.more.push(run, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?,
            None => self.first = Some(run),
        }
        Ok(())
    }

    /// The buffer.
    pub(crate) fn buffer(&self) -> &Buffer {
        &self.charge.buffer
    }

    /// The account of the context that it was pinned for.
    pub(crate) fn account(&self) -> &Account {
        &self.charge.account
    }

    fn all(&self) -> impl Iterator<Item = &Run> {
        Iterator::chain(self.first.iter(), self.more.iter())
    }

    /// The physically contiguous pieces of the buffer, in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Span<Phys>> + '_ {
        self.all().map(Run::phys)
    }

    /// The physical range of the buffer, if it is one.
    pub(crate) fn contiguous(&self) -> Option<Span<Phys>> {
        match (&self.first, self.more.is_empty()) {
            (Some(run), true) => Some(run.phys()),
            _ => None,
        }
    }

    /// Never unpins the pages: a PF may still reach them. The charge stays, too.
    pub(crate) fn leak(self) {
        pr_err!("the pinned pages of that range are leaked\n");
        let _ = ManuallyDrop::new(self);
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for run in self.all() {
            // SAFETY: By the type invariant each page of the run holds a pin of ours, which goes
            // once. Dropped in process context without a lock.
            unsafe {
                bindings::unpin_user_page_range_dirty_lock(
                    run.first.as_ptr(),
                    run.pages,
                    self.written,
                )
            };
            ffi::pause();
        }
        if self.complete {
            trace::unpin(self.account(), self.buffer().va(), self.buffer().pages);
        }
    }
}
