// SPDX-License-Identifier: GPL-2.0

//! Pinned pages of a user buffer and their charge to RLIMIT_MEMLOCK. Both are undone by being
//! dropped, once, whatever the reason.
//!
//! Locks: none may be held while pages are pinned: the caller's page may be on a file system that
//! never answers (FUSE), or in the hands of userfaultfd. For the same reason the charge is an atomic
//! counter (`pinned_vm`) and not one under the process's mmap lock, which a page fault of its own
//! can hold for as long as it likes: unbind and close must not wait for that.

use super::{
    domain::Access,
    ffi,
    frames::Frames,
    owner::Account,
    trace, //
};
use crate::iova::{
    addr::{
        Phys,
        PAGE, //
    },
    span::Span, //
};
use core::{
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    error::code::{
        EINTR,
        EOVERFLOW, //
    },
    prelude::*,
    sync::Arc, //
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
/// The pages of `buffer` are charged to `mm` and counted in `account` on behalf of this value, which
/// has a reference on `mm`.
struct Charge {
    mm: NonNull<bindings::mm_struct>,
    account: Arc<Account>,
    buffer: Buffer,
}

impl Charge {
    /// Charges the calling process; `ENOMEM` beyond its limit.
    fn new(buffer: Buffer, account: &Arc<Account>) -> Result<Self> {
        // SAFETY: Charges the current process, if it has memory at all.
        let mm = NonNull::new(unsafe { ffi::qat_iommu_charge(buffer.pages as u64) });
        let mm = mm.ok_or(ENOMEM)?;
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
    #[inline]
    fn drop(&mut self) {
        // SAFETY: The mm is valid, if only as a husk of an exited process; by the type invariant
        // the pages were charged to it, and the reference is ours.
        unsafe { ffi::qat_iommu_uncharge(self.mm.as_ptr(), self.buffer.pages as u64) };
        self.account.unpinned(self.buffer.length());
    }
}

/// Unpins frames. Process context, without a lock.
///
/// # Safety
///
/// Each of them holds a pin of the caller's, which goes.
#[inline]
unsafe fn unpin(frames: Frames, written: bool) {
    // SAFETY: By the contract of this function.
    unsafe { ffi::qat_iommu_unpin(frames.first, frames.count, written) };
}

/// The pinned pages of a buffer.
///
/// # Invariants
///
/// Each page of the buffer holds one pin of ours, taken with `FOLL_LONGTERM`, on the frame that `held`
/// says.
pub(crate) struct Pins {
    held: Held,
    charge: Charge,
    /// What the PFs may do with them.
    access: Access,
    /// The device may have written to them: `access` says so, too, but this has values that are unused,
    /// so that an entry of a space needs no word to say what it is.
    written: bool,
}

/// Where the pages of a buffer are.
enum Held {
    /// Their frames follow each other from this one on.
    Together(u64),
    /// In several runs, in order.
    Scattered(KVVec<Frames>),
}

// SAFETY: Any thread may unpin the pages, uncharge the process and give its mm back.
unsafe impl Send for Pins {}
// SAFETY: Shared references only read the runs and the buffer.
unsafe impl Sync for Pins {}

/// What has been pinned of a buffer so far; dropped, it is unpinned.
///
/// # Invariants
///
/// Every frame of `before` and `last` holds one pin of ours; those of `last` come last in the buffer.
struct Pinning {
    before: KVVec<Frames>,
    last: Frames,
    written: bool,
}

/// Pages that are pinned at a time.
const BATCH: usize = 512;

/// As many fit on the stack.
const FEW: usize = 16;

/// How pages are pinned.
fn flags(write: bool) -> u32 {
    if write {
        bindings::FOLL_LONGTERM | bindings::FOLL_WRITE
    } else {
        bindings::FOLL_LONGTERM
    }
}

/// Pins as many pages from `start` on as are asked for, or fewer: from 1 on.
///
/// # Safety
///
/// There is room for as many.
#[inline]
unsafe fn pin_some(
    start: usize,
    pages: usize,
    write: bool,
    room: *mut *mut bindings::page,
) -> Result<usize> {
    let pages = c_int::try_from(pages).map_err(|_| EOVERFLOW)?;
    // SAFETY: By the contract of this function. The flags are none of those that the function
    // refuses with a warning.
    let got = unsafe { bindings::pin_user_pages_fast(start, pages, flags(write), room) };
    match usize::try_from(got) {
        Ok(0) => Err(EFAULT),
        Ok(got) => Ok(got),
        Err(_) => match Error::from_errno(got) {
            // Of what ends at 2^64 the kernel says that it wraps. No program has memory there.
            err if err == EOVERFLOW => Err(EFAULT),
            err => Err(err),
        },
    }
}

/// Pins the page at `start` and returns it.
#[inline]
fn pin_one(start: usize, write: bool) -> Result<*mut bindings::page> {
    let mut page = ptr::null_mut();
    // SAFETY: There is room for one.
    unsafe { pin_some(start, 1, write, &raw mut page) }?;
    Ok(page)
}

/// The number of a pinned page's frame.
#[inline]
fn frame(page: *mut bindings::page) -> u64 {
    // SAFETY: The page is pinned, so it has a frame.
    unsafe { ffi::qat_iommu_page_pfn(page) }
}

impl Pins {
    /// Pins the pages of a buffer of the calling process, for reading or for writing as well,
    /// charges them, and counts them in the context's account.
    ///
    /// May sleep, and for as long as user space likes: no lock may be held. A signal ends it between
    /// two batches, a fatal one within a page fault. What was pinned by then is unpinned.
    pub(crate) fn new(buffer: Buffer, access: Access, account: &Arc<Account>) -> Result<Self> {
        let write = access.writes();
        let charge = Charge::new(buffer, account)?;
        if buffer.pages == 1 {
            // INVARIANT: Its only page is pinned.
            let pins = Self {
                held: Held::Together(frame(pin_one(buffer.first, write)?)),
                charge,
                access,
                written: write,
            };
            trace::pin(account, buffer.va(), buffer.pages);
            return Ok(pins);
        }
        // INVARIANT: Nothing is pinned yet.
        let mut pinning = Pinning {
            before: KVVec::new(),
            last: Frames::NONE,
            written: write,
        };
        pinning.all(buffer)?;
        let pins = pinning.finish(charge, access)?;
        trace::pin(account, buffer.va(), buffer.pages);
        Ok(pins)
    }

    /// The buffer.
    #[inline]
    pub(crate) fn buffer(&self) -> &Buffer {
        &self.charge.buffer
    }

    /// What the PFs may do with its pages.
    #[inline]
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// The account of the context that it was pinned for.
    #[inline]
    pub(crate) fn account(&self) -> &Account {
        &self.charge.account
    }

    /// All frames, if they follow each other.
    #[inline]
    fn together(&self) -> Option<Frames> {
        match self.held {
            Held::Together(first) => Some(Frames {
                first,
                count: self.charge.buffer.pages as u64,
            }),
            Held::Scattered(_) => None,
        }
    }

    /// The physical range of the buffer, if it is one.
    #[inline]
    pub(crate) fn contiguous(&self) -> Option<Span<Phys>> {
        self.together().map(|frames| frames.phys())
    }

    /// The frames of the buffer, in order, if they do not all follow each other.
    #[inline]
    pub(crate) fn scattered(&self) -> &[Frames] {
        match &self.held {
            Held::Together(_) => &[],
            Held::Scattered(runs) => runs,
        }
    }

    /// The physically contiguous pieces of the buffer, in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Span<Phys>> + '_ {
        let scattered = self.scattered().iter().map(Frames::phys);
        Iterator::chain(self.contiguous().into_iter(), scattered)
    }

    /// Never unpins the pages: a PF may still reach them. The charge stays, too.
    pub(crate) fn leak(self) {
        pr_err!("the pinned pages of that range are leaked\n");
        let _ = ManuallyDrop::new(self);
    }
}

impl Drop for Pins {
    #[inline]
    fn drop(&mut self) {
        if let Some(frames) = self.together() {
            // SAFETY: By the type invariant.
            unsafe { unpin(frames, self.written) };
        }
        for run in self.scattered() {
            // SAFETY: By the type invariant.
            unsafe { unpin(*run, self.written) };
            ffi::pause();
        }
        trace::unpin(self.account(), self.buffer().va(), self.buffer().pages);
    }
}

impl Pinning {
    fn all(&mut self, buffer: Buffer) -> Result {
        let mut few = [ptr::null_mut(); FEW];
        let mut many: Option<KBox<MaybeUninit<[*mut bindings::page; BATCH]>>> = None;
        let mut done: usize = 0;
        while done < buffer.pages {
            if done > 0 && (ffi::pause() || ffi::signal_pending()) {
                return Err(EINTR);
            }
            let offset = done.checked_mul(PAGE as usize);
            let start = offset
                .and_then(|offset| buffer.first.checked_add(offset))
                .ok_or(EOVERFLOW)?;
            let left = buffer.pages - done;
            if left <= FEW {
                // SAFETY: There is room for as many.
                done += unsafe { self.batch(start, left, few.as_mut_ptr()) }?;
                continue;
            }
            let at_once = self.huge(start, left)?;
            done += at_once;
            // Up to where a large page may begin.
            let want = (left - 1).min(BATCH - 1 - (start / PAGE as usize) % BATCH);
            if at_once > 1 || want == 0 {
                continue;
            }
            let next = start.checked_add(PAGE as usize).ok_or(EOVERFLOW)?;
            let room = match &mut many {
                Some(room) => room,
                None => many.insert(KBox::new_uninit(GFP_KERNEL_ACCOUNT)?),
            };
            // SAFETY: There is room for as many.
            done += unsafe { self.batch(next, want, room.as_mut_ptr().cast()) }?;
        }
        Ok(())
    }

    /// Pins the page at `start`, and if it is mapped as part of a large one, what else of that is in
    /// the buffer, all at once. Returns how many pages that were.
    fn huge(&mut self, start: usize, left: usize) -> Result<usize> {
        let page = pin_one(start, self.written)?;
        self.own(&[page])?;
        // SAFETY: The page is pinned, at this address of the calling process.
        let more = unsafe { ffi::qat_iommu_pin_rest(page, start, left - 1, self.written) };
        let more = usize::try_from(more).map_err(|_| ENOMEM)?;
        // INVARIANT: The pages after it, which are pinned now.
        self.last.count += more as u64;
        Ok(1 + more)
    }

    /// Pins as many pages from `start` on, or fewer.
    ///
    /// # Safety
    ///
    /// There is room for as many.
    unsafe fn batch(
        &mut self,
        start: usize,
        pages: usize,
        room: *mut *mut bindings::page,
    ) -> Result<usize> {
        // SAFETY: By the contract of this function.
        let got = unsafe { pin_some(start, pages, self.written, room) }?;
        // SAFETY: As many were written.
        self.own(unsafe { core::slice::from_raw_parts(room, got) })?;
        Ok(got)
    }

    /// Adds pages that were pinned just now to the runs, or unpins them.
    fn own(&mut self, pages: &[*mut bindings::page]) -> Result {
        let mut rest = pages;
        loop {
            let room = self.before.spare_capacity_mut();
            let mut runs = room.len();
            let room = room.as_mut_ptr().cast();
            // INVARIANT: The pages were pinned by the caller and are now ours.
            // SAFETY: They have frames, and there is room for as many runs.
            let added = unsafe {
                ffi::qat_iommu_add_frames(
                    rest.as_ptr(),
                    rest.len(),
                    &raw mut self.last,
                    room,
                    &raw mut runs,
                )
            };
            // SAFETY: As many were written.
            unsafe { self.before.inc_len(runs) };
            rest = rest.get(added..).unwrap_or(&[]);
            if rest.is_empty() {
                return Ok(());
            }
            // With room for the last run. A list too long for the allocator is refused, not warned about.
            let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
            self.before
                .reserve(rest.len() + 1, flags)
                .inspect_err(|_| {
                    for page in rest {
                        let frames = Frames {
                            first: frame(*page),
                            count: 1,
                        };
                        // SAFETY: Pinned just now and in no run.
                        unsafe { unpin(frames, false) };
                    }
                })?;
        }
    }

    /// All of the buffer is pinned.
    fn finish(mut self, charge: Charge, access: Access) -> Result<Pins> {
        let held = if self.before.is_empty() {
            Held::Together(self.last.first)
        } else {
            self.before
                .push(self.last, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
            Held::Scattered(core::mem::replace(&mut self.before, KVVec::new()))
        };
        // INVARIANT: What this had pinned is the other's now.
        self.last = Frames::NONE;
        Ok(Pins {
            held,
            charge,
            access,
            written: self.written,
        })
    }
}

impl Drop for Pinning {
    fn drop(&mut self) {
        for run in Iterator::chain(self.before.iter(), Some(&self.last)) {
            if run.count > 0 {
                // SAFETY: By the type invariant.
                unsafe { unpin(*run, self.written) };
            }
        }
    }
}
