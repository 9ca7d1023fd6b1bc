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
    host::{
        self,
        Host, //
    },
    pages::PageRefs,
    policy,
    refusal::Refusal,
    space::{
        Entry,
        Slot, //
    }, //
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
    span::Span,
    tree::Node, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Who made a mapping, and alone may remove it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Kernel clients, all of them: they cannot be told apart.
    Kernel,
    /// The context with this number.
    Context(u64),
}

/// A classic mapping.
pub(crate) struct Classic {
    pub(crate) phys: Phys,
    pub(crate) access: Access,
    pub(crate) owner: Owner,
    /// The memory that can be kept from being given to someone else.
    refs: PageRefs,
    /// A kernel client's mapping keeps the module.
    _hold: Option<ModuleHold>,
}

impl Classic {
    /// Never gives the memory back: a PF may still reach it.
    pub(crate) fn leak(self: Arc<Self>) {
        if !self.refs.is_empty() {
            pr_err!("the pages of that range are leaked\n");
        }
        core::mem::forget(self);
    }
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

/// Maps `size` bytes from `phys` at `iova` in every space, or in none. Returns the bytes mapped.
///
/// In a VM nothing is done and nothing is checked.
pub(crate) fn map(
    owner: Owner,
    phys: u64,
    iova: u64,
    size: u64,
    access: Access,
) -> Result<u64, Refusal> {
    if config()?.vm {
        return Ok(remap_size(size).max(size));
    }
    let result = map_on_host(owner, phys, iova, size, access);
    if let Err(why) = &result {
        ffi::log_refusal(c"map", phys, iova, size, why.errno(), why.why());
    }
    result
}

fn map_on_host(
    owner: Owner,
    phys: u64,
    iova: u64,
    size: u64,
    access: Access,
) -> Result<u64, Refusal> {
    if owner != Owner::Kernel {
        policy::check_caller()?;
    }
    let host = host::lock();
    let request = Request::new(&host, phys, iova, size)?;
    if !host.usable() {
        return Err(Refusal::NoPf);
    }
    let ram = match owner {
        Owner::Kernel => policy::is_ram(request.phys)?,
        Owner::Context(_) => policy::check_range(request.phys)?,
    };
    let classic = Arc::new(
        Classic {
            phys: request.phys.first(),
            access: if ram { access } else { access.mmio() },
            owner,
            // A kernel client frees its memory itself, after the unmap.
            refs: match owner {
                Owner::Context(_) if ram => PageRefs::take(request.phys)?,
                _ => PageRefs::none(),
            },
            _hold: (owner == Owner::Kernel).then(ModuleHold::take),
        },
        GFP_KERNEL_ACCOUNT,
    )?;

    let usable = || host.spaces().filter(|space| space.usable());
    for (made, space) in usable().enumerate() {
        if let Err(why) = slot(request.iova, &classic).and_then(|slot| space.map(slot, &classic)) {
            for space in usable().take(made) {
                // A poisoned range was reported and stays recorded.
                let _ = space.unmap(request.iova, &classic);
            }
            return Err(why);
        }
    }
    Ok(request.iova.length().map_or(0, Length::get))
}

fn slot(span: Span<Iova>, classic: &Arc<Classic>) -> Result<Slot, Refusal> {
    let entry = Entry::Classic(classic.clone());
    Ok(KBox::new(Node::new(span, entry), GFP_KERNEL_ACCOUNT)?)
}

/// Unmaps the mapping of `owner` that is exactly `size` bytes (rounded up) from `iova`, in every
/// space that holds it. The memory is not looked at. No PF reaches it when this returns.
pub(crate) fn unmap(owner: Owner, iova: u64, size: u64) -> Result<(), Refusal> {
    if config()?.vm {
        return Ok(());
    }
    let result = unmap_on_host(owner, iova, size);
    if let Err(why) = &result {
        ffi::log_refusal(c"unmap", 0, iova, size, why.errno(), why.why());
    }
    result
}

fn unmap_on_host(owner: Owner, iova: u64, size: u64) -> Result<(), Refusal> {
    let host = host::lock();
    let length = round_up(&host, size)?;
    let iova = Iova::new(iova);
    if !iova.is_aligned(PAGE) {
        return Err(RangeError::Misaligned.into());
    }
    let span = Span::new(iova, length)?;
    let Some(classic) = host.spaces().find_map(|space| space.find(span, owner)) else {
        return Err(if host.usable() {
            RangeError::NotFound.into()
        } else {
            Refusal::NoPf
        });
    };
    let mut result = Ok(());
    for space in host.spaces() {
        if space.unmap(span, &classic).is_err() {
            result = Err(Refusal::Poisoned);
        }
    }
    result
}

/// Unmaps every classic mapping that `owner` made. For a context that is closed.
pub(crate) fn release(owner: Owner) {
    for space in host::lock().spaces() {
        space.release_classics(owner);
    }
}
