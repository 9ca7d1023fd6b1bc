// SPDX-License-Identifier: GPL-2.0

//! IOMMU domains: the only file that calls `iommu_map` and its kin. Owns the private domain of
//! the owned space; the default domain of a shared PF is borrowed from the DMA API.
//!
//! Locks: none of its own. A caller holds the lock of the space, so that no two calls touch one
//! range at once; the IOMMU drivers' locks nest inside.

use super::{
    ffi,
    frames::Frames, //
};
use crate::iova::{
    addr::{
        Address,
        Iova,
        Length,
        Phys,
        PAGE, //
    },
    pages::PageSizes,
    span::Span, //
};
use core::{
    cell::Cell,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::{
        code::EOVERFLOW,
        from_err_ptr,
        to_result, //
    },
    pci,
    prelude::*,
    sync::Arc, //
};

/// What a PF may do with a mapping, and how the IOMMU is to reach the memory.
///
/// # Invariants
///
/// Reading or writing is allowed: the kernel warns about a mapping without either.
#[derive(Clone, Copy)]
pub(crate) struct Access(c_int);

impl Access {
    /// Permissions for RAM; `None` without any.
    pub(crate) fn new(read: bool, write: bool) -> Option<Self> {
        let mut prot = 0;
        if read {
            prot |= bindings::IOMMU_READ;
        }
        if write {
            prot |= bindings::IOMMU_WRITE;
        }
        // INVARIANT: At least one bit is set.
        (prot != 0).then_some(Self((prot | bindings::IOMMU_CACHE) as c_int))
    }

    /// Reading alone.
    pub(crate) const READ: Self = Self((bindings::IOMMU_READ | bindings::IOMMU_CACHE) as c_int);

    /// Whether the PF may read.
    pub(crate) fn reads(self) -> bool {
        self.0 & bindings::IOMMU_READ as c_int != 0
    }

    /// Whether the PF may write.
    pub(crate) fn writes(self) -> bool {
        self.0 & bindings::IOMMU_WRITE as c_int != 0
    }

    /// As one byte.
    #[inline]
    pub(crate) fn pack(self) -> u8 {
        let [low, ..] = self.0.to_le_bytes();
        low
    }

    /// What it lets the PF do, of one as a byte.
    pub(crate) fn unpack(byte: u8) -> Option<Self> {
        let has = |bit: u32| u32::from(byte) & bit != 0;
        Self::new(has(bindings::IOMMU_READ), has(bindings::IOMMU_WRITE))
    }

    /// The same for device memory.
    pub(crate) fn mmio(self) -> Self {
        let cache = bindings::IOMMU_CACHE as c_int;
        // INVARIANT: Read and write stay as they are.
        Self(self.0 & !cache | bindings::IOMMU_MMIO as c_int)
    }
}

/// How much is mapped or unmapped without letting others run. A multiple of every IOMMU page size
/// in use, so that a piece never ends inside a large page.
const PIECE: u64 = 1 << 30;

/// How much of what lies side by side is unmapped with one call: so much that the call costs each
/// buffer little, and less than a table of small pages holds. QEMU's AMD IOMMU ends the machine if one
/// call empties a table of several mappings.
const TOGETHER: u64 = 1 << 20;

/// A run of as many pages is mapped alone, in pieces.
const LONG_RUN: u64 = PIECE / PAGE;

fn is_small(span: Span<Iova>) -> bool {
    span.last().raw().wrapping_sub(span.first().raw()) < TOGETHER
}

/// A range of IOVAs, cut into pieces that end at multiples of [`PIECE`].
fn pieces(span: Span<Iova>) -> impl Iterator<Item = Span<Iova>> {
    let mut rest = Some(span);
    core::iter::from_fn(move || {
        let span = rest?;
        let end = Iova::new(span.first().raw() | (PIECE - 1));
        let piece = Span::from_bounds(span.first(), end.min(span.last())).ok()?;
        rest = piece
            .last()
            .checked_add(1)
            .and_then(|next| Span::from_bounds(next, span.last()).ok());
        Some(piece)
    })
}

// Addresses and sizes of IOVAs fit an `usize`.
const _: () = assert!(usize::BITS >= u64::BITS);

/// Address and size of a piece as the kernel's functions take them.
#[inline]
fn start_and_size(piece: Span<Iova>) -> Result<(usize, usize)> {
    let start = usize::try_from(piece.first().raw()).map_err(|_| EOVERFLOW)?;
    let length = piece.length().ok_or(EOVERFLOW)?;
    let size = usize::try_from(length.get()).map_err(|_| EOVERFLOW)?;
    Ok((start, size))
}

/// Checks that all of a piece was removed.
#[inline(never)]
fn expect_all(piece: Span<Iova>, size: usize, removed: usize) -> Result<(), Poisoned> {
    if removed == size {
        return Ok(());
    }
    pr_err!(
        "the IOMMU removed {removed:#x} bytes of {piece:?}, not {size:#x}; the range stays out of use and its memory referenced\n"
    );
    Err(Poisoned)
}

/// All IOVAs that there are.
pub(crate) fn everything() -> Span<Iova> {
    Span::between(Iova::MIN, Iova::MAX)
}

/// A domain that translates.
///
/// # Invariants
///
/// The pointer is that of a paging domain, valid for the life of the value.
struct Paging(NonNull<bindings::iommu_domain>);

// SAFETY: The IOMMU API may be called from any thread; concurrent calls on disjoint ranges are
// allowed, and the space's lock keeps those on one range apart.
unsafe impl Send for Paging {}
// SAFETY: As above.
unsafe impl Sync for Paging {}

impl Paging {
    fn raw(&self) -> &bindings::iommu_domain {
        // SAFETY: Valid by the type invariant; what is read of it does not change.
        unsafe { self.0.as_ref() }
    }

    /// The addresses that the domain can translate.
    fn aperture(&self) -> Result<Span<Iova>> {
        let geometry = &self.raw().geometry;
        Span::from_bounds(
            Iova::new(geometry.aperture_start),
            Iova::new(geometry.aperture_end),
        )
        .map_err(|_| EINVAL)
    }

    fn page_sizes(&self) -> Result<PageSizes> {
        let bitmap = u64::try_from(self.raw().pgsize_bitmap).map_err(|_| EINVAL)?;
        PageSizes::new(bitmap).ok_or(EINVAL)
    }

    /// Whether mapping over an address that is in use gives an error. (The IOMMU drivers without
    /// the generic page table may succeed and change nothing.)
    fn tells_collision(&self) -> bool {
        self.raw().is_iommupt
    }

    /// Maps `span` to `phys` and what follows it, or nothing.
    #[inline(always)]
    fn map(&self, span: Span<Iova>, phys: Phys, access: Access) -> Result<(), MapError> {
        let bytes = span.last().raw().wrapping_sub(span.first().raw());
        if bytes >= PIECE || span.first().raw() & (PIECE - 1) > PIECE - 1 - bytes {
            return self.map_pieces(span, phys, access);
        }
        // CAST: An `usize` has 64 bits where there are IOMMUs; see the assertion above.
        let (start, size) = (span.first().raw() as usize, bytes as usize + 1);
        // SAFETY: The domain is a paging domain by the type invariant, and `access` has a
        // permission by its own.
        let result = unsafe {
            bindings::iommu_map(
                self.0.as_ptr(),
                start,
                phys.raw(),
                size,
                access.0,
                bindings::GFP_KERNEL_ACCOUNT,
            )
        };
        if result == 0 {
            return Ok(());
        }
        Err(MapError {
            err: Error::from_errno(result),
            undone: true,
        })
    }

    #[cold]
    #[inline(never)]
    fn map_pieces(&self, span: Span<Iova>, phys: Phys, access: Access) -> Result<(), MapError> {
        let mut done = None;
        for piece in pieces(span) {
            let result = self.map_piece(span, piece, phys, access).and_then(|()| {
                done = Some(Span::from_bounds(span.first(), piece.last()).map_err(|_| EINVAL)?);
                if piece.last() < span.last() && ffi::pause() {
                    return Err(EINTR);
                }
                Ok(())
            });
            if let Err(err) = result {
                let undone = done.map_or(Ok(()), |done| self.unmap(done));
                return Err(MapError {
                    err,
                    undone: undone.is_ok(),
                });
            }
        }
        Ok(())
    }

    /// Maps the first few of `runs` at `first` and after it, or maps nothing. Returns the last
    /// address and the runs that are left.
    fn map_some<'a>(
        &self,
        first: Iova,
        runs: &'a [Frames],
        access: Access,
    ) -> Result<(Iova, &'a [Frames]), MapError> {
        let [run, rest @ ..] = runs else {
            return Ok((first, runs));
        };
        if run.count < LONG_RUN {
            return self.map_few(first, runs, access);
        }
        let failed = |err: Error| MapError { err, undone: true };
        let length = Length::new(run.bytes()).map_err(|_| failed(EINVAL))?;
        let span = Span::new(first, length).map_err(|_| failed(EOVERFLOW))?;
        self.map(span, run.phys().first(), access)?;
        Ok((span.last(), rest))
    }

    /// The same if the first run is not long.
    fn map_few<'a>(
        &self,
        first: Iova,
        runs: &'a [Frames],
        access: Access,
    ) -> Result<(Iova, &'a [Frames]), MapError> {
        // CAST: An `usize` has 64 bits where there are IOMMUs; see the assertion above.
        let start = first.raw() as usize;
        let mut tried = ffi::Mapped::default();
        // SAFETY: The domain is a paging domain by the type invariant, and `access` has a
        // permission by its own. As many runs are there.
        let mapped = unsafe {
            ffi::qat_iommu_map_runs(
                self.0.as_ptr(),
                start,
                runs.as_ptr(),
                runs.len(),
                LONG_RUN,
                access.0,
                &mut tried,
            )
        };
        let mapped = usize::try_from(mapped).map_err(|_| MapError {
            err: i32::try_from(mapped).map_or(EINVAL, Error::from_errno),
            // The kernel has undone it.
            undone: true,
        })?;
        let rest = runs.get(tried.runs..).filter(|_| mapped == tried.bytes);
        let last = Length::new(mapped as u64).map(Length::last_offset);
        match (rest, last.map(|offset| first.checked_add(offset))) {
            (Some(rest), Ok(Some(last))) => Ok((last, rest)),
            _ => {
                pr_err!("the IOMMU mapped {mapped:#x} bytes from {first:?} on\n");
                Err(MapError {
                    err: EINVAL,
                    undone: false,
                })
            }
        }
    }

    #[inline]
    fn map_piece(
        &self,
        span: Span<Iova>,
        piece: Span<Iova>,
        phys: Phys,
        access: Access,
    ) -> Result<()> {
        let offset = piece.first().raw() - span.first().raw();
        let phys = phys.checked_add(offset).ok_or(EOVERFLOW)?;
        let (start, size) = start_and_size(piece)?;
        // SAFETY: The domain is a paging domain by the type invariant, and `access` has a
        // permission by its own.
        to_result(unsafe {
            bindings::iommu_map(
                self.0.as_ptr(),
                start,
                phys.raw(),
                size,
                access.0,
                bindings::GFP_KERNEL_ACCOUNT,
            )
        })
    }

    /// Unmaps a range that was mapped as a whole. The IOTLB is flushed when this returns.
    #[inline(always)]
    fn unmap(&self, span: Span<Iova>) -> Result<(), Poisoned> {
        let bytes = span.last().raw().wrapping_sub(span.first().raw());
        if bytes >= PIECE || span.first().raw() & (PIECE - 1) > PIECE - 1 - bytes {
            return self.unmap_pieces(span);
        }
        // CAST: An `usize` has 64 bits where there are IOMMUs; see the assertion above.
        let (start, size) = (span.first().raw() as usize, bytes as usize + 1);
        // SAFETY: The domain is a paging domain by the type invariant.
        let removed = unsafe { ffi::qat_iommu_unmap_now(self.0.as_ptr(), start, size) };
        if removed == size {
            Ok(())
        } else {
            expect_all(span, size, removed)
        }
    }

    #[cold]
    #[inline(never)]
    fn unmap_pieces(&self, span: Span<Iova>) -> Result<(), Poisoned> {
        self.gathered(|gather| self.unmap_later(span, gather))
    }

    /// Runs `work`, whose unmaps are flushed together when it is done.
    fn gathered<R>(&self, work: impl FnOnce(&Gather) -> R) -> R {
        let mut list = bindings::iommu_iotlb_gather::default();
        let gather = Gather {
            raw: &raw mut list,
            covers: Cell::new(None),
        };
        // SAFETY: The structure is not moved until it is flushed for the last time, below.
        unsafe { ffi::qat_iommu_gather_init(gather.raw) };
        let result = work(&gather);
        self.sync(&gather);
        result
    }

    /// Flushes what was gathered.
    fn sync(&self, gather: &Gather) {
        // SAFETY: Initialised, and used for this domain only.
        unsafe { ffi::qat_iommu_gather_sync(self.0.as_ptr(), gather.raw) };
        gather.covers.set(None);
    }

    /// Unmaps a range that was mapped as a whole; the flush comes at the end of [`Self::gathered`].
    fn unmap_later(&self, span: Span<Iova>, gather: &Gather) -> Result<(), Poisoned> {
        for piece in pieces(span) {
            let (start, size) = start_and_size(piece).map_err(|_| Poisoned)?;
            let with = |covered: Span<Iova>| covered.hull(piece);
            if let Some(covered) = gather.covers.get() {
                let all = with(covered);
                if all.first().raw() / PIECE != all.last().raw() / PIECE {
                    self.sync(gather);
                }
            }
            gather
                .covers
                .set(Some(gather.covers.get().map_or(piece, with)));
            // SAFETY: The domain is a paging domain by the type invariant, and the gather is its
            // own.
            let removed =
                unsafe { bindings::iommu_unmap_fast(self.0.as_ptr(), start, size, gather.raw) };
            expect_all(piece, size, removed)?;
            if piece.last() < span.last() {
                ffi::pause();
            }
        }
        Ok(())
    }

    /// Drops every cached translation of the domain.
    fn flush(&self) {
        // SAFETY: The domain is a paging domain by the type invariant.
        unsafe { ffi::qat_iommu_flush_domain(self.0.as_ptr()) };
    }
}

/// Ranges that were unmapped and are still to be flushed; see [`Paging::gathered`].
struct Gather {
    raw: *mut bindings::iommu_iotlb_gather,
    /// The range that the flush will have, for drivers merge what lies apart. It is kept within
    /// one aligned [`PIECE`]: not every IOMMU takes a larger one in one request, and requests are for
    /// aligned powers of two.
    covers: Cell<Option<Span<Iova>>>,
}

/// The IOMMU did not remove exactly what it was asked to: what the range reaches is not known.
pub(crate) struct Poisoned;

/// A map that failed.
pub(crate) struct MapError {
    /// Why.
    pub(crate) err: Error,
    /// Whether nothing of it is left; if not, the range is poisoned.
    pub(crate) undone: bool,
}

/// A private domain.
///
/// # Invariants
///
/// The domain was allocated here, and no group is attached to it when the last reference goes:
/// each [`super::group::Attached`] holds one.
pub(crate) struct PrivateDomain(Paging);

impl PrivateDomain {
    /// Allocates a domain for the IOMMU of `dev`.
    pub(crate) fn new(dev: &pci::Device) -> Result<Arc<Self>> {
        // SAFETY: `dev` is bound to this module's driver while it is probed.
        let raw = from_err_ptr(unsafe {
            bindings::iommu_paging_domain_alloc_flags(super::pf::device_ptr(dev), 0)
        })?;
        // INVARIANT: Freshly allocated and paging.
        let domain = Self(Paging(NonNull::new(raw).ok_or(ENOMEM)?));
        Ok(Arc::new(domain, GFP_KERNEL)?)
    }

    /// The domain as the kernel's functions take it.
    pub(super) fn as_ptr(&self) -> *mut bindings::iommu_domain {
        self.0 .0.as_ptr()
    }
}

impl Drop for PrivateDomain {
    fn drop(&mut self) {
        // SAFETY: Allocated by `new`; nothing is attached by the type invariant. Mappings that are
        // left are those the IOMMU failed to remove; they go with the page table.
        unsafe { bindings::iommu_domain_free(self.as_ptr()) };
    }
}

/// What stands behind the IOVAs of a space.
pub(crate) enum Backing {
    /// A domain of our own.
    Private(Arc<PrivateDomain>),
    /// The default domain of a PF that its own driver holds.
    Shared(SharedDomain),
    /// Nothing: addresses go out as they are.
    Untranslated,
}

/// The default domain of a PF that its own driver holds.
///
/// # Invariants
///
/// The driver is bound for as long as this lives, and a bound driver keeps the group in its
/// default domain: the space drops this before the driver's unbind goes on.
pub(crate) struct SharedDomain(Paging);

impl Backing {
    /// The backing of a PF that its own driver holds: its default domain, if that translates.
    ///
    /// # Safety
    ///
    /// The device lock is held and a driver that uses the DMA API is bound. The value is dropped
    /// before that driver is unbound.
    pub(super) unsafe fn of_bound(dev: &pci::Device) -> Self {
        // SAFETY: A bound driver keeps the answer stable.
        let raw = unsafe { bindings::iommu_get_domain_for_dev(super::pf::device_ptr(dev)) };
        let Some(raw) = NonNull::new(raw) else {
            return Backing::Untranslated;
        };
        // SAFETY: The default domain lives as long as the group, which the bound device keeps.
        let kind = unsafe { raw.as_ref() }.type_;
        if kind & bindings::__IOMMU_DOMAIN_PAGING == 0 {
            return Backing::Untranslated;
        }
        // INVARIANT: It is a paging domain; its lifetime follows from the contract above.
        Backing::Shared(SharedDomain(Paging(raw)))
    }

    #[inline]
    fn paging(&self) -> Option<&Paging> {
        match self {
            Backing::Private(domain) => Some(&domain.0),
            Backing::Shared(domain) => Some(&domain.0),
            Backing::Untranslated => None,
        }
    }

    /// Whether addresses are translated.
    #[inline]
    pub(crate) fn translates(&self) -> bool {
        self.paging().is_some()
    }

    /// Whether the DMA API uses the domain too.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Backing::Shared(_))
    }

    /// Whether both are one domain that the DMA API uses.
    pub(crate) fn is_same_shared(&self, other: &Backing) -> bool {
        matches!((self, other), (Backing::Shared(one), Backing::Shared(two)) if one.0 .0 == two.0 .0)
    }

    /// Whether mapping over an address that is in use gives an error.
    pub(crate) fn tells_collision(&self) -> bool {
        self.paging().is_none_or(Paging::tells_collision)
    }

    /// The addresses that can be translated.
    pub(crate) fn aperture(&self) -> Result<Span<Iova>> {
        self.paging().map_or(Ok(everything()), Paging::aperture)
    }

    /// The page sizes that can be mapped.
    pub(crate) fn page_sizes(&self) -> Result<PageSizes> {
        match self.paging() {
            Some(paging) => paging.page_sizes(),
            None => PageSizes::new(PAGE).ok_or(EINVAL),
        }
    }

    /// Maps `span` to `phys` and what follows it, or nothing.
    #[inline]
    pub(crate) fn map(&self, span: Span<Iova>, phys: Phys, access: Access) -> Result<(), MapError> {
        self.paging()
            .map_or(Ok(()), |paging| paging.map(span, phys, access))
    }

    /// Drops every cached translation of the domain.
    pub(crate) fn flush(&self) {
        if let Some(paging) = self.paging() {
            paging.flush();
        }
    }

    /// Maps `span` to the runs, in their order, or nothing. They are as long as the span.
    pub(crate) fn map_runs(
        &self,
        span: Span<Iova>,
        runs: &[Frames],
        access: Access,
    ) -> Result<(), MapError> {
        let Some(paging) = self.paging() else {
            return Ok(());
        };
        let mut done = None;
        let mut rest = runs;
        while !rest.is_empty() {
            let next = match done {
                None => Some(span.first()),
                Some(last) => Address::checked_add(last, 1),
            };
            let mapped = match next {
                _ if done.is_some() && ffi::pause() => Err(EINTR),
                Some(next) => Ok(next),
                None => Err(EOVERFLOW),
            };
            let mapped = mapped
                .map_err(|err| MapError { err, undone: true })
                .and_then(|next| paging.map_some(next, rest, access));
            (done, rest) = match mapped {
                Ok((last, rest)) => (Some(last), rest),
                Err(failed) => {
                    let undone = done
                        .is_none_or(|last| paging.unmap(Span::between(span.first(), last)).is_ok());
                    return Err(MapError {
                        err: failed.err,
                        undone: failed.undone && undone,
                    });
                }
            };
        }
        Ok(())
    }

    /// Unmaps a range that was mapped as a whole. The IOTLB is flushed when this returns.
    #[inline]
    pub(crate) fn unmap(&self, span: Span<Iova>) -> Result<(), Poisoned> {
        self.paging().map_or(Ok(()), |paging| paging.unmap(span))
    }

    /// Unmaps several such ranges and flushes the IOTLB once. `poisoned` is called if there is one
    /// that the IOMMU did not remove.
    pub(crate) fn unmap_all(
        &self,
        spans: impl Iterator<Item = Span<Iova>>,
        mut poisoned: impl FnMut(),
    ) {
        let Some(paging) = self.paging() else {
            return;
        };
        paging.gathered(|gather| {
            let mut unmap = |span| {
                if paging.unmap_later(span, gather).is_err() {
                    poisoned();
                }
            };
            // What lies side by side goes together.
            let mut side_by_side: Option<Span<Iova>> = None;
            for span in spans {
                side_by_side = Some(match side_by_side {
                    Some(before) if before.touches(span) && is_small(before.hull(span)) => {
                        before.hull(span)
                    }
                    Some(before) => {
                        unmap(before);
                        span
                    }
                    None => span,
                });
            }
            side_by_side.into_iter().for_each(unmap);
        });
    }
}
