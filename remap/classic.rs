// SPDX-License-Identifier: GPL-2.0

//! The three classic calls, for kernel clients and for contexts alike: what each host state makes
//! of them. A classic mapping is one object, held by every space it was made in, and gone with the
//! last of them.
//!
//! Locks: takes `host::HOST`, and beneath it the lock of one space after the other. Process
//! context, may sleep. What a failed call did is undone before it returns.

use super::{
    domain::Access,
    ffi::{
        self,
        ModuleHold, //
    },
    history::Why,
    host::{
        self,
        Host,
        HostGuard, //
    },
    owner::{
        Account,
        By,
        Owner, //
    },
    pages::PageRefs,
    policy,
    refusal::Refusal,
    space::{
        vacant,
        Entry,
        Slot, //
    },
    spare::Spare, //
};
use crate::iova::{
    addr::{
        Address,
        Iova,
        Length,
        Phys,
        PAGE, //
    },
    error::Error as RangeError,
    pages,
    span::Span, //
};
use core::ptr;
use kernel::{
    prelude::*,
    sync::{
        Arc,
        UniqueArc, //
    }, //
};

/// A classic mapping, or what is kept of one for the next.
///
/// # Invariants
///
/// A context's is counted in its account while it has a length.
pub(crate) struct Classic {
    pub(crate) phys: Phys,
    length: Option<Length>,
    pub(crate) access: Access,
    maker: Maker,
    /// How listings name it.
    pub(crate) by: By,
    /// A context's memory that can be kept from being given to someone else. A kernel client frees its
    /// memory itself, after the unmap.
    refs: PageRefs,
}

/// Who made a classic mapping, and what it therefore keeps. Dropped in process context.
enum Maker {
    /// Nobody any more: it is kept for the next one.
    Nobody,
    /// A kernel client, which keeps the module loaded.
    Kernel { _hold: ModuleHold },
    /// A context.
    Context(Arc<Account>),
}

impl Maker {
    fn of(owner: Owner<'_>) -> Self {
        match owner {
            Owner::Kernel(_) => Self::Kernel {
                _hold: ModuleHold::take(),
            },
            Owner::Context(account) => Self::Context(account.clone()),
        }
    }
}

impl Classic {
    /// Nothing yet.
    fn nothing() -> Self {
        Self {
            phys: Phys::new(0),
            length: None,
            access: Access::READ,
            maker: Maker::Nobody,
            by: By::default(),
            refs: PageRefs::none(),
        }
    }

    /// Becomes the mapping that `owner` asks for. It must hold nothing.
    #[inline]
    fn fill(&mut self, request: &Request, access: Access, owner: Owner<'_>) -> Result<(), Refusal> {
        let length = request.iova.length().ok_or(EINVAL)?;
        let (ram, refs) = match owner {
            Owner::Kernel(_) => (policy::is_ram(request.phys)?, PageRefs::none()),
            Owner::Context(_) => request.reference()?,
        };
        if !self.is_of(owner) {
            self.maker = Maker::of(owner);
            self.by = owner.by();
        }
        if let Maker::Context(account) = &self.maker {
            // INVARIANT: Counted now.
            account.ranged(length.get());
        }
        self.phys = request.phys.first();
        self.length = Some(length);
        self.access = if ram { access } else { access.mmio() };
        self.refs = refs;
        Ok(())
    }

    /// Lets its pages go, and a kernel client's hold on the module. A context's account is kept: the
    /// next one is made through the same context.
    #[inline]
    fn clear(&mut self) {
        // INVARIANT: Uncounted.
        let length = self.length.take();
        match (&self.maker, length) {
            (Maker::Context(account), Some(length)) => account.unranged(length.get()),
            (Maker::Kernel { .. }, _) => self.maker = Maker::Nobody,
            _ => {}
        }
        self.refs = PageRefs::none();
    }

    /// Whether `owner` may remove it.
    #[inline]
    fn is_of(&self, owner: Owner<'_>) -> bool {
        match owner {
            Owner::Kernel(_) => matches!(self.maker, Maker::Kernel { .. }),
            Owner::Context(account) => self.is_of_context(account),
        }
    }

    /// Whether this context made it.
    #[inline]
    pub(crate) fn is_of_context(&self, other: &Account) -> bool {
        matches!(&self.maker, Maker::Context(account) if account.is(other))
    }

    /// The physical range.
    pub(crate) fn run(&self) -> Option<Span<Phys>> {
        Span::new(self.phys, self.length?).ok()
    }

    /// Never gives the memory back: a PF may still reach it.
    pub(crate) fn leak(self: Arc<Self>) {
        if !self.refs.is_empty() {
            pr_err!("the pages of that range are leaked\n");
        }
        core::mem::forget(self);
    }
}

impl Drop for Classic {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The box for the first space of a mapping that is to be made, and what it is to be made of: what the
/// last one lived in, if that was kept.
#[inline]
fn vacant_classic(spare: &Spare) -> Result<(Slot, Pin<UniqueArc<Classic>>)> {
    let mut slot = match spare.take() {
        Some(slot) => slot,
        None => vacant()?,
    };
    let kept = slot.value_mut().take_classic();
    match kept.and_then(Arc::into_unique_or_drop) {
        Some(kept) => Ok((slot, kept)),
        None => {
            let fresh = UniqueArc::new(Classic::nothing(), GFP_KERNEL_ACCOUNT)?;
            Ok((slot, Pin::new(fresh)))
        }
    }
}

/// Lets go of what was unmapped from the last space, and keeps what it lived in for the next one.
#[inline]
fn keep(spare: &Spare, mut slot: Slot) {
    if let Some(classic) = slot.value_mut().take_classic() {
        // Unless someone looks at it, nobody else has it.
        if let Some(mut classic) = Arc::into_unique_or_drop(classic) {
            classic.clear();
            slot.value_mut().fill(Entry::Classic(classic.into()));
        }
    }
    spare.put(slot);
}

/// A valid request: aligned, not empty, not wrapping.
struct Request {
    iova: Span<Iova>,
    phys: Span<Phys>,
}

impl Request {
    fn new(host: &Host, phys: u64, iova: u64, size: u64) -> Result<Self, Refusal> {
        let length = round_up(host, size)?;
        let (phys, iova) = (Phys::new(phys), Iova::new(iova));
        if !phys.is_aligned(PAGE) || !iova.is_aligned(PAGE) {
            return Err(RangeError::Misaligned.into());
        }
        let request = Self {
            iova: Span::new(iova, length)?,
            phys: Span::new(phys, length)?,
        };
        request.phys.check_width(ffi::phys_bits())?;
        Ok(request)
    }

    /// Whether its memory is RAM, if a program may map it, with references on it.
    #[inline]
    fn reference(&self) -> Result<(bool, PageRefs), Refusal> {
        if let Some(refs) = PageRefs::of_ram_page(self.phys) {
            return Ok((policy::check_kind(true)?, refs));
        }
        let ram = policy::check_range(self.phys)?;
        let refs = if ram {
            PageRefs::take(self.phys)?
        } else {
            PageRefs::none()
        };
        Ok((ram, refs))
    }
}

/// The remap size of `size`.
fn round_up(host: &Host, size: u64) -> Result<Length, Refusal> {
    Length::new(size)?;
    pages::remap_size(host.granule(), size).ok_or(RangeError::Wrap.into())
}

/// What `icp_sal_iommu_get_remap_size` answers: 0 for 0 and for what cannot be rounded up.
pub(crate) fn remap_size(size: u64) -> u64 {
    round_up(&host::lock(), size).map_or(0, Length::get)
}

/// Tells, at debug level, why a call was refused.
#[cold]
fn tell(call: &CStr, phys: u64, iova: u64, size: u64, why: &Refusal) {
    ffi::log_refusal(call, phys, iova, size, why.errno(), why.why());
}

/// Maps `size` bytes from `phys` at `iova` in every space, or in none. Returns the bytes mapped.
///
/// In a VM nothing is done and nothing is checked.
pub(crate) fn map(
    owner: Owner<'_>,
    spare: &Spare,
    phys: u64,
    iova: u64,
    size: u64,
    access: Access,
) -> Result<u64, Refusal> {
    let host = host::lock();
    if host.in_vm() {
        return Ok(round_up(&host, size).map_or(0, Length::get).max(size));
    }
    map_on_host(host, owner, spare, phys, iova, size, access)
        .inspect_err(|why| tell(c"map", phys, iova, size, why))
}

#[inline]
fn map_on_host(
    host: HostGuard,
    owner: Owner<'_>,
    spare: &Spare,
    phys: u64,
    iova: u64,
    size: u64,
    access: Access,
) -> Result<u64, Refusal> {
    if matches!(owner, Owner::Context(_)) {
        policy::check_caller()?;
    }
    let request = Request::new(&host, phys, iova, size)?;
    if !host.usable() {
        return Err(Refusal::NoPf);
    }
    // What is mapped for PFs that are away is to hold again when they come back.
    let mut away = host.spaces().filter(|space| !space.usable());
    if away.any(|space| space.overlaps(request.iova)) {
        return Err(RangeError::Overlap.into());
    }
    let (slot, mut classic) = vacant_classic(spare)?;
    classic.fill(&request, access, owner)?;
    let classic = Arc::from(classic);

    let mut first = Some(slot);
    let usable = || host.spaces().filter(|space| space.usable());
    for (made, space) in usable().enumerate() {
        let slot = match first.take() {
            Some(slot) => Ok(slot),
            None => vacant(),
        };
        let result = slot.map_err(Refusal::from).and_then(|mut slot| {
            slot.set_span(request.iova);
            slot.value_mut().fill(Entry::Classic(classic.clone()));
            space.map(slot, &classic)
        });
        if let Err(why) = result {
            for space in usable().take(made) {
                // A poisoned range was reported and stays recorded.
                let _ = space.unmap(request.iova, |held| ptr::eq(held, &*classic), Why::Failed);
            }
            return Err(why);
        }
    }
    Ok(request.iova.length().map_or(0, Length::get))
}

/// Unmaps the mapping of `owner` that is exactly `size` bytes (rounded up) from `iova`, in every
/// space that holds it. The memory is not looked at. No PF reaches it when this returns.
pub(crate) fn unmap(
    owner: Owner<'_>,
    spare: &Spare,
    iova: u64,
    size: u64,
    why: Why,
) -> Result<(), Refusal> {
    let host = host::lock();
    if host.in_vm() {
        return Ok(());
    }
    unmap_on_host(host, owner, spare, iova, size, why)
        .inspect_err(|why| tell(c"unmap", 0, iova, size, why))
}

#[inline]
fn unmap_on_host(
    host: HostGuard,
    owner: Owner<'_>,
    spare: &Spare,
    iova: u64,
    size: u64,
    why: Why,
) -> Result<(), Refusal> {
    let length = round_up(&host, size)?;
    let iova = Iova::new(iova);
    if !iova.is_aligned(PAGE) {
        return Err(RangeError::Misaligned.into());
    }
    let span = Span::new(iova, length)?;
    let mut spaces = host.spaces();
    let Some(first) = spaces.find_map(|space| space.unmap(span, |held| held.is_of(owner), why))
    else {
        let forced = matches!(why, Why::Force);
        return Err(if host.usable() || forced {
            RangeError::NotFound.into()
        } else {
            Refusal::NoPf
        });
    };
    let mut poisoned = first.is_err();
    for space in spaces {
        let unmapped = match &first {
            Ok(slot) => slot.value().classic(),
            Err(leaked) => leaked.0,
        };
        // They may hold another one there.
        let same = |held: &Classic| ptr::eq(held, unmapped);
        if let Some(Err(_)) = space.unmap(span, same, why) {
            poisoned = true;
        }
    }
    drop(host);
    if let Ok(slot) = first {
        keep(spare, slot);
    }
    if poisoned {
        Err(Refusal::Poisoned)
    } else {
        Ok(())
    }
}

/// Unmaps every classic mapping of a context that closes.
pub(crate) fn release(account: &Account) {
    for space in host::lock().spaces() {
        space.release_classics(account);
    }
}
