// SPDX-License-Identifier: GPL-2.0

//! How structures cross the user boundary: each begins with its size, is read once, may be shorter
//! or longer than this kernel's, and is written back no further than the caller has room. No state.

use super::uapi::Wire;
use core::{
    marker::PhantomData,
    mem::size_of, //
};
use kernel::{
    error::code::E2BIG,
    page::PAGE_SIZE,
    prelude::*,
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice,
        UserSliceReader, //
    }, //
};

/// A structure that came from user space.
pub(super) struct Received<T> {
    pub(super) value: T,
    arg: UserPtr,
    /// How much of it the caller knows.
    known: usize,
}

/// The size that `T` had in the first version of the interface, below which it is refused. None
/// has grown since.
const fn first_size<T: Wire>() -> usize {
    size_of::<T>()
}

impl<T: Wire> Received<T> {
    /// Reads the structure that the ioctl argument points to.
    pub(super) fn read(arg: usize) -> Result<Self> {
        let arg = UserPtr::from_addr(arg);
        let mut head = [0; size_of::<u32>()];
        UserSlice::new(arg, head.len())
            .reader()
            .read_slice(&mut head)?;
        let size = usize::try_from(u32::from_ne_bytes(head)).map_err(|_| E2BIG)?;
        if size < first_size::<T>() {
            return Err(EINVAL);
        }
        if size > PAGE_SIZE {
            return Err(E2BIG);
        }

        // The size is not read again: what was checked is what is used.
        let mut reader = UserSlice::new(arg, size).reader();
        reader.skip(head.len())?;
        let known = size.min(size_of::<T>());
        let mut value = T::default();
        let bytes = value.as_bytes_mut();
        let (first, rest) = bytes.split_at_mut_checked(head.len()).ok_or(EINVAL)?;
        first.copy_from_slice(&head);
        let rest = rest.get_mut(..known - head.len()).ok_or(EINVAL)?;
        reader.read_slice(rest)?;
        expect_zero(reader)?;
        Ok(Self { value, arg, known })
    }

    /// Writes the structure back.
    pub(super) fn write(&self) -> Result {
        let bytes = self.value.as_bytes().get(..self.known).ok_or(EINVAL)?;
        UserSlice::new(self.arg, self.known)
            .writer()
            .write_slice(bytes)
    }
}

/// Refuses a tail that this kernel does not know and that is not zero.
fn expect_zero(mut reader: UserSliceReader) -> Result {
    let mut chunk = [0; 64];
    while !reader.is_empty() {
        let length = reader.len().min(chunk.len());
        let chunk = chunk.get_mut(..length).ok_or(EINVAL)?;
        reader.read_slice(chunk)?;
        if chunk.iter().any(|byte| *byte != 0) {
            return Err(E2BIG);
        }
    }
    Ok(())
}

/// Writes as many elements to a user array as it has room for, and counts all of them.
pub(super) struct Filler {
    at: UserPtr,
    room: u32,
    pub(super) count: u32,
}

impl Filler {
    /// A filler for `room` elements at `address`.
    pub(super) fn new(address: u64, room: u32) -> Result<Self> {
        let address = usize::try_from(address).map_err(|_| EFAULT)?;
        Ok(Self {
            at: UserPtr::from_addr(address),
            room,
            count: 0,
        })
    }

    /// Adds an element.
    pub(super) fn push<T: AsBytes>(&mut self, element: &T) -> Result {
        if self.count < self.room {
            UserSlice::new(self.at, size_of::<T>())
                .writer()
                .write(element)?;
            self.at = self.at.wrapping_byte_add(size_of::<T>());
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

/// An array in user space that is read as a whole, and may be written back.
pub(super) struct Array<T> {
    at: UserPtr,
    length: usize,
    _element: PhantomData<T>,
}

impl<T: AsBytes + FromBytes> Array<T> {
    /// The array of `count` elements at `address`.
    pub(super) fn new(address: u64, count: u32) -> Result<Self> {
        let address = usize::try_from(address).map_err(|_| EFAULT)?;
        let count = usize::try_from(count).map_err(|_| E2BIG)?;
        Ok(Self {
            at: UserPtr::from_addr(address),
            length: count.checked_mul(size_of::<T>()).ok_or(E2BIG)?,
            _element: PhantomData,
        })
    }

    /// Reads every element, once.
    pub(super) fn read(&self) -> Result<KVVec<T>> {
        let count = self.length / size_of::<T>();
        let mut elements = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        let mut reader = UserSlice::new(self.at, self.length).reader();
        while !reader.is_empty() {
            elements.push(reader.read()?, GFP_KERNEL_ACCOUNT)?;
        }
        Ok(elements)
    }

    /// Writes every element.
    pub(super) fn write(&self, elements: &[T]) -> Result {
        let mut writer = UserSlice::new(self.at, self.length).writer();
        elements
            .iter()
            .try_for_each(|element| writer.write(element))
    }
}
