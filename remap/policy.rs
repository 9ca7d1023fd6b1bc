// SPDX-License-Identifier: GPL-2.0

//! Who may map which physical memory. Raw physical maps reach all of it, so user space needs
//! CAP_SYS_RAWIO and a kernel that is not locked down, and `phys=` says which memory. No state.

use super::{
    config::{
        config,
        PhysPolicy, //
    },
    ffi,
    refusal::Refusal, //
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
    bindings,
    prelude::*, //
};

/// Of so few pages each is looked at: that takes less than to look the range up.
const LOOKED_AT: u64 = 16;

/// Whether the caller, a user program, may map physical memory at all.
pub(crate) fn check_caller() -> Result<(), Refusal> {
    check_rawio()?;
    // SAFETY: A plain question; it may be logged.
    if unsafe { bindings::security_locked_down(bindings::lockdown_reason_LOCKDOWN_DEV_MEM) } != 0 {
        return Err(Refusal::LockedDown);
    }
    Ok(())
}

/// Whether the caller may deal in raw addresses.
pub(crate) fn check_rawio() -> Result<(), Refusal> {
    // SAFETY: Asks about the current task.
    if unsafe { bindings::capable(bindings::CAP_SYS_RAWIO as c_int) } {
        Ok(())
    } else {
        Err(Refusal::NotPermitted)
    }
}

/// Whether `phys=` lets user space map `span`; the answer is whether it is RAM.
pub(crate) fn check_range(span: Span<Phys>) -> Result<bool, Refusal> {
    check_kind(is_ram(span)?)
}

/// Whether `phys=` lets user space map memory that is RAM, or that is not; the answer is the same.
pub(crate) fn check_kind(ram: bool) -> Result<bool, Refusal> {
    match config()?.phys {
        PhysPolicy::Any => Ok(ram),
        PhysPolicy::Ram if ram => Ok(ram),
        PhysPolicy::Ram | PhysPolicy::Off => Err(Refusal::PhysPolicy),
    }
}

/// Whether all of `span` is RAM, or none of it. A mixture cannot be mapped with one permission.
pub(crate) fn is_ram(span: Span<Phys>) -> Result<bool, Refusal> {
    let (first, last) = (span.first().raw() / PAGE, span.last().raw() / PAGE);
    if last - first < LOOKED_AT && (first..=last).all(ffi::is_ram_page) {
        return Ok(true);
    }
    look_up(span)
}

/// The same, from the kernel's list of what is where.
#[cold]
fn look_up(span: Span<Phys>) -> Result<bool, Refusal> {
    let length = span.length().ok_or(Refusal::PhysPolicy)?;
    let size = usize::try_from(length.get()).map_err(|_| Refusal::PhysPolicy)?;
    // SAFETY: Looks the range up in the kernel's resource tree.
    let answer = unsafe {
        bindings::region_intersects(
            span.first().raw(),
            size,
            bindings::IORESOURCE_SYSTEM_RAM as usize,
            bindings::IORES_DESC_NONE as usize,
        )
    };
    match u32::try_from(answer).map_err(|_| Refusal::PhysPolicy)? {
        // Beyond the end of RAM there can be nothing at all, which counts for neither.
        bindings::REGION_INTERSECTS if ffi::ram_bytes(span) == length.get() => Ok(true),
        bindings::REGION_DISJOINT => Ok(false),
        _ => Err(Refusal::PhysPolicy),
    }
}
