// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Which buffers of the process are mapped where: the table that every API family of
//! libqat_iommu that maps buffers shares. An address is looked up without a lock and
//! without a system call; whoever maps and unmaps goes through [`map`] and [`unmap`],
//! which keep the table and what really is mapped in step.
//!
//! From the inside out: a `node` is a buffer's part of one page, a `slot` says what is
//! known of one page (or 2 MiB, or 1 GiB), the `radix` tree finds the slot of an address,
//! `records` know each buffer as a whole, and [`Buffers`] is both under one lock.
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod buffers;
mod calls;
mod hash;
mod module;
mod node;
mod radix;
mod records;
mod slot;
mod span;
mod whole;

pub use buffers::Buffers;
pub use calls::{map, unmap, Backend, NotUnmapped, Request};
pub use module::{is_module, Module};
pub use records::{Owner, Record, Wanted};

use qat_iommu_capi_core::{Failure, PerProcess};

/// The table of this process.
pub static BUFFERS: PerProcess<Buffers> = PerProcess::new();

/// The table of this process, made at first use.
///
/// # Errors
///
/// ENOMEM.
#[inline]
pub fn buffers() -> Result<&'static Buffers, Failure> {
    BUFFERS.get_or_make(Buffers::new)
}

/// The IOVA of the byte at `address`, by the newest mapping that holds it. In a child
/// that has mapped nothing, nothing is found: its parent's table is wiped there.
#[inline]
pub fn lookup(address: usize) -> Option<u64> {
    BUFFERS.get_even_inherited()?.lookup(address)
}
