// SPDX-License-Identifier: GPL-2.0

//! The tracepoints of `remap/trace.h`. Each costs a look at one word while nobody traces: what a mapping
//! is made of is put together behind it. No state; may be called with any lock held.

use super::{
    history::Why,
    owner::Account,
    pf::PciAddress,
    space::{
        Kind,
        Portrait, //
    }, //
};
use crate::iova::{
    addr::{
        Address,
        Iova, //
    },
    span::Span, //
};
use kernel::{
    bindings::tracepoint,
    prelude::*, //
};

// Without lockdep a part of it that is never looked at here is a structure without fields.
#[allow(improper_ctypes)]
extern "C" {
    static mut __tracepoint_map: tracepoint;
    static mut __tracepoint_unmap: tracepoint;
    static mut __tracepoint_pin: tracepoint;
    static mut __tracepoint_unpin: tracepoint;
}

extern "C" {
    fn qat_iommu_trace_map(
        space: u64,
        context: u64,
        iova: u64,
        length: u64,
        backing: u64,
        user: bool,
    );
    fn qat_iommu_trace_unmap(
        space: u64,
        context: u64,
        iova: u64,
        length: u64,
        backing: u64,
        user: bool,
        why: *const c_char,
    );
    fn qat_iommu_trace_pin(context: u64, pid: c_int, va: u64, pages: u64);
    fn qat_iommu_trace_unpin(context: u64, pid: c_int, va: u64, pages: u64);
    fn qat_iommu_trace_attach(
        segment: u32,
        bus: u8,
        device: u8,
        function: u8,
        space: u64,
        owned: bool,
    );
    fn qat_iommu_trace_detach(
        segment: u32,
        bus: u8,
        device: u8,
        function: u8,
        space: u64,
        owned: bool,
    );
}

/// Whether someone traces this point. What is called then asks again, in C.
///
/// Not by `static_branch_unlikely!`: that names the label it jumps to twice, and where something is
/// built into every block, as for KCOV, the compiler makes two blocks of it. Then jump and jump table
/// differ, and the kernel may stop with a BUG when the point is traced.
macro_rules! traced {
    ($point:ident) => {
        cfg!(CONFIG_TRACEPOINTS) && {
            // SAFETY: `trace.c` defines it, and it stays where it is while the module is loaded. The
            // kernel writes the word as a whole.
            let listeners = unsafe { (&raw const $point.key.key.enabled.counter).read_volatile() };
            listeners != 0
        }
    };
}

/// A mapping was made in a space.
#[inline]
fn mapped(space: u64, context: u64, span: Span<Iova>, backing: u64, user: bool) {
    if !traced!(__tracepoint_map) {
        return;
    }
    let first = span.first().raw();
    // SAFETY: Takes numbers.
    unsafe { qat_iommu_trace_map(space, context, first, span.bytes(), backing, user) };
}

/// The physical range from `phys` on was mapped in a space; `context` is 0 for a kernel client.
#[inline]
pub(crate) fn map_phys(space: u64, context: u64, span: Span<Iova>, phys: u64) {
    mapped(space, context, span, phys, false);
}

/// The buffer at `va` was mapped in a space.
#[inline]
pub(crate) fn map_user(space: u64, context: u64, span: Span<Iova>, va: u64) {
    mapped(space, context, span, va, true);
}

/// Whether someone traces [`unmap`].
#[inline]
pub(crate) fn unmap_is_traced() -> bool {
    traced!(__tracepoint_unmap)
}

/// A mapping is gone from a space, and flushed.
pub(crate) fn unmap(mapping: &Portrait, why: Why) {
    // SAFETY: Takes numbers, and a static string.
    unsafe {
        qat_iommu_trace_unmap(
            mapping.space,
            mapping.by.context,
            mapping.span.first().raw(),
            mapping.span.bytes(),
            mapping.backing,
            mapping.kind == Kind::User,
            why.name().as_char_ptr(),
        )
    };
}

/// A buffer was pinned.
#[inline]
pub(crate) fn pin(account: &Account, va: u64, pages: usize) {
    if !traced!(__tracepoint_pin) {
        return;
    }
    // SAFETY: Takes numbers.
    unsafe { qat_iommu_trace_pin(account.id, account.pid, va, pages as u64) };
}

/// A buffer was unpinned.
#[inline]
pub(crate) fn unpin(account: &Account, va: u64, pages: usize) {
    if !traced!(__tracepoint_unpin) {
        return;
    }
    // SAFETY: Takes numbers.
    unsafe { qat_iommu_trace_unpin(account.id, account.pid, va, pages as u64) };
}

/// A PF came to a space.
pub(crate) fn attach(pf: PciAddress, space: u64, owned: bool) {
    // SAFETY: Takes numbers.
    unsafe { qat_iommu_trace_attach(pf.segment, pf.bus, pf.device, pf.function, space, owned) };
}

/// A PF left a space.
pub(crate) fn detach(pf: PciAddress, space: u64, owned: bool) {
    // SAFETY: Takes numbers.
    unsafe { qat_iommu_trace_detach(pf.segment, pf.bus, pf.device, pf.function, space, owned) };
}
