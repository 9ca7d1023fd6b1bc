// SPDX-License-Identifier: GPL-2.0

//! The three classic calls, for kernel clients and for contexts alike: what each host state makes
//! of them. A classic mapping is one object, held by every space it was made in, and gone with the
//! last of them.
//!
//! Locks: takes `host::HOST`, and beneath it the lock of one space after the other. Process
//! context, may sleep. What a failed call did is undone before it returns.

use super::{
    config::config,
    domain::Access,
    ffi::{
        self,
        ModuleHold, //
    },
    history::Why,
    host::{
        self,
        Host, //
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
        Slot,
        Unmapped, //
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
    pages::PageSizes,
    span::Span, //
};
use core::ptr;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A classic mapping.
///
/// # Invariants
///
/// A context's is counted in its account.
pub(crate) struct Classic {
    pub(crate) phys: Phys,
    length: Length,
    pub(crate) access: Access,
    maker: Maker,
}

/// Who made a classic mapping, and what it therefore keeps. Dropped in process context.
enum Maker {
    /// Nobody any more: it is kept for the next one.
    Nobody,
    /// A kernel client. It frees its memory itself, after the unmap, and keeps the module loaded.
    Kernel { caller: usize, _hold: ModuleHold },
    /// A context.
    Context {
        account: Arc<Account>,
        /// The memory that can be kept from being given to someone else.
        refs: PageRefs,
    },
}

impl Classic {
    fn new(request: &Request, access: Access, owner: Owner<'_>) -> Result<Self, Refusal> {
        let length = request.iova.length().ok_or(EINVAL)?;
        let (ram, maker) = match owner {
            Owner::Kernel(caller) => {
                let ram = policy::is_ram(request.phys)?;
                let _hold = ModuleHold::take();
                (ram, Maker::Kernel { caller, _hold })
            }
            Owner::Context(account) => {
                let (ram, refs) = request.reference()?;
                // INVARIANT: Counted now.
                account.ranged(length.get());
                let account = account.clone();
                (ram, Maker::Context { account, refs })
            }
        };
        Ok(Self {
            phys: request.phys.first(),
            length,
            access: if ram { access } else { access.mmio() },
            maker,
        })
    }

    /// Lets its maker and its pages go.
    fn clear(&mut self) {
        if let Maker::Context { account, .. } = &self.maker {
            account.unranged(self.length.get());
        }
        // INVARIANT: Uncounted, and a context's no more.
        self.maker = Maker::Nobody;
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
        matches!(&self.maker, Maker::Context { account, .. } if account.is(other))
    }

    /// The number of the context that made it, 0 for a kernel client's.
    #[inline]
    pub(crate) fn context(&self) -> u64 {
        match &self.maker {
            Maker::Context { account, .. } => account.id,
            Maker::Kernel { .. } | Maker::Nobody => 0,
        }
    }

    /// How listings name its maker.
    pub(crate) fn by(&self) -> By {
        match &self.maker {
            Maker::Kernel { caller, .. } => By {
                caller: *caller,
                ..By::default()
            },
            Maker::Context { account, .. } => account.by(),
            Maker::Nobody => By::default(),
        }
    }

    /// The physical range.
    pub(crate) fn run(&self) -> Option<Span<Phys>> {
        Span::new(self.phys, self.length).ok()
    }

    /// Never gives the memory back: a PF may still reach it.
    pub(crate) fn leak(self: Arc<Self>) {
        if matches!(&self.maker, Maker::Context { refs, .. } if !refs.is_empty()) {
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

/// A mapping that is to be made, and the box for the first space. Made from what the last one lived in,
/// if that was kept.
fn boxed(spare: &Spare, classic: Classic) -> Result<(Slot, Arc<Classic>)> {
    let mut slot = match spare.take() {
        Some(slot) => slot,
        None => vacant()?,
    };
    let kept = match slot.value_mut().take() {
        Entry::Classic(kept) => Arc::into_unique_or_drop(kept),
        Entry::User(_) | Entry::Poisoned => None,
    };
    let classic = match kept {
        Some(mut kept) => {
            kept.set(classic);
            kept.into()
        }
        None => Arc::new(classic, GFP_KERNEL_ACCOUNT)?,
    };
    Ok((slot, classic))
}

/// Lets go of what was unmapped from the last space, and keeps what it lived in for the next one.
fn keep(spare: &Spare, mut slot: Slot) {
    if let Entry::Classic(classic) = slot.value_mut().take() {
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
    PageSizes::new(host.granule())
        .and_then(|pages| pages.round_up(size))
        .ok_or(RangeError::Wrap.into())
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
    if config()?.vm {
        return Ok(remap_size(size).max(size));
    }
    map_on_host(owner, spare, phys, iova, size, access)
        .inspect_err(|why| tell(c"map", phys, iova, size, why))
}

#[inline]
fn map_on_host(
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
    let host = host::lock();
    let request = Request::new(&host, phys, iova, size)?;
    if !host.usable() {
        return Err(Refusal::NoPf);
    }
    // What is mapped for PFs that are away is to hold again when they come back.
    let mut away = host.spaces().filter(|space| !space.usable());
    if away.any(|space| space.overlaps(request.iova)) {
        return Err(RangeError::Overlap.into());
    }
    let classic = Classic::new(&request, access, owner)?;
    let (slot, classic) = boxed(spare, classic)?;

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
    if config()?.vm {
        return Ok(());
    }
    unmap_on_host(owner, spare, iova, size, why)
        .inspect_err(|why| tell(c"unmap", 0, iova, size, why))
}

#[inline]
fn unmap_on_host(
    owner: Owner<'_>,
    spare: &Spare,
    iova: u64,
    size: u64,
    why: Why,
) -> Result<(), Refusal> {
    let host = host::lock();
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
    if matches!(why, Why::Force) {
        pr_info!("the mapping {span:?} of a kernel client is removed by force\n");
    }
    let mut poisoned = first.left.is_err();
    for space in spaces {
        // The others may hold another one there.
        let same = |held: &Classic| ptr::eq(held, first.classic);
        if let Some(Unmapped { left: Err(_), .. }) = space.unmap(span, same, why) {
            poisoned = true;
        }
    }
    drop(host);
    if let Ok(slot) = first.left {
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
