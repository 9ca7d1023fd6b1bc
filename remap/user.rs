// SPDX-License-Identifier: GPL-2.0

//! Buffers of programs: pin, map at one contiguous range of IOVAs, undo. For contexts only.
//!
//! In three steps: pin without any lock, allocate every record, then find a range and program the
//! domain under the lock of the space. Whatever fails, dropping the mapping unpins and uncharges.

use super::{
    domain::Access,
    lease::Lease,
    owner::Account,
    pins::{
        Buffer,
        Pins, //
    },
    policy,
    refusal::Refusal,
    space::{
        Entry,
        Slot,
        Space, //
    }, //
};
use crate::iova::{
    addr::{
        Address,
        Iova,
        Length,
        PAGE, //
    },
    allocate::align::Alignment,
    error::Error as RangeError,
    span::Span, //
};
use core::cmp::Reverse;
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A pinned buffer.
pub(crate) struct UserMapping {
    /// When it was mapped, among mappings of one context and one place.
    pub(crate) sequence: u64,
    pub(crate) pins: Pins,
    /// In a shared space: the range, as the DMA API lent it.
    pub(crate) lease: Option<Lease>,
}

/// A mapped buffer by its first page; of several, the newest comes first.
pub(crate) type BufferKey = (u64, Reverse<u64>);

impl UserMapping {
    /// How it is found by its address.
    pub(crate) fn key(&self) -> BufferKey {
        (self.pins.buffer().va(), Reverse(self.sequence))
    }
}

/// Where a buffer is to be mapped.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// Where there is room, aligned at least like this.
    Any(Alignment),
    /// Exactly there.
    At(Span<Iova>),
}

/// A buffer as a program names it.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) buffer: Buffer,
    /// Offset of the first byte within its page.
    pub(crate) offset: u64,
}

impl Wanted {
    /// The buffer of `length` bytes at `va`.
    pub(crate) fn new(va: u64, length: u64) -> Result<Self, Refusal> {
        Length::new(length)?;
        let buffer = Buffer::around(va, length).ok_or(RangeError::Wrap)?;
        Ok(Self {
            buffer,
            offset: va & (PAGE - 1),
        })
    }

    /// The place for it that the caller asks for: `iova` if `fixed`, else by alignment.
    pub(crate) fn place(&self, fixed: bool, iova: u64, alignment: u64) -> Result<Place, Refusal> {
        if !fixed {
            return Ok(Place::Any(match alignment {
                0 => Alignment::PAGE,
                bytes => Alignment::new(bytes)?,
            }));
        }
        policy::check_rawio()?;
        if alignment != 0 || iova & (PAGE - 1) != self.offset {
            return Err(RangeError::Misaligned.into());
        }
        let first = Iova::new(iova & !(PAGE - 1));
        let span = Span::new(first, Length::new(self.buffer.length())?)?;
        Ok(Place::At(span))
    }
}

/// Pins a buffer of the calling process, and puts it into `slot`, which is vacant. No lock may be held.
pub(crate) fn pin(
    wanted: &Wanted,
    account: &Arc<Account>,
    sequence: u64,
    access: Access,
    slot: &mut Slot,
) -> Result<(), Refusal> {
    let entry = Entry::User(UserMapping {
        sequence,
        pins: Pins::new(wanted.buffer, access, account)?,
        lease: None,
    });
    slot.value_mut().fill(entry);
    Ok(())
}

/// What the caller needs besides the open node to map buffers in `space`.
pub(crate) fn check_caller(space: &Space) -> Result<(), Refusal> {
    // Without translation the IOVA is the physical address, which is not for everyone to know, and
    // the device reaches all of memory.
    if space.translates() {
        Ok(())
    } else {
        policy::check_rawio()
    }
}

/// The range that a program means by `iova` and `length`, as the map returned and took them.
pub(crate) fn range(iova: u64, length: u64) -> Result<Span<Iova>, Refusal> {
    Length::new(length)?;
    let last = iova.checked_add(length - 1).ok_or(RangeError::Wrap)?;
    Ok(Span::between(
        Iova::new(iova & !(PAGE - 1)),
        Iova::new(last | (PAGE - 1)),
    ))
}
