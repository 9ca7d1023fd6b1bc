// SPDX-License-Identifier: GPL-2.0

//! How structures cross the user boundary: each begins with its size, is read once, may be shorter
//! or longer than this kernel's, and is written back no further than the caller has room. No state.

use super::{
    ffi,
    uapi::Wire, //
};
use core::{
    marker::PhantomData,
    mem::{
        align_of,
        size_of,
        size_of_val,
        MaybeUninit, //
    }, //
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
    arg: usize,
}

impl<T: Wire> Received<T> {
    /// Reads the structure that the ioctl argument points to.
    #[inline]
    pub(super) fn read(arg: usize) -> Result<Self> {
        let Some(value) = read_words::<T>(arg) else {
            return Err(Self::refuse(arg));
        };
        // None has grown since its first version, so all that is known is there.
        let size = usize::try_from(value.size()).map_err(|_| E2BIG)?;
        if size != size_of::<T>() {
            Self::check_size(arg, size)?;
        }
        Ok(Self { value, arg })
    }

    /// Why it cannot be read: it may be shorter than it should be.
    #[cold]
    fn refuse(arg: usize) -> Error {
        let mut head = [0; size_of::<u32>()];
        let read = UserSlice::new(UserPtr::from_addr(arg), head.len())
            .reader()
            .read_slice(&mut head);
        match (read, usize::try_from(u32::from_ne_bytes(head))) {
            (Ok(()), Ok(size)) if size < size_of::<T>() => EINVAL,
            (Ok(()), Ok(size)) if size > PAGE_SIZE => E2BIG,
            _ => EFAULT,
        }
    }

    /// Checks a size that is not this kernel's, and what it says there is behind what is known.
    #[cold]
    fn check_size(arg: usize, size: usize) -> Result {
        if size < size_of::<T>() {
            return Err(EINVAL);
        }
        if size > PAGE_SIZE {
            return Err(E2BIG);
        }
        let mut reader = UserSlice::new(UserPtr::from_addr(arg), size).reader();
        reader.skip(size_of::<T>())?;
        expect_zero(reader)
    }

    /// Writes the structure back.
    pub(super) fn write(&self) -> Result {
        UserSlice::new(UserPtr::from_addr(self.arg), size_of::<T>())
            .writer()
            .write_slice(self.value.as_bytes())
    }

    /// Writes one field back, which is at this offset.
    #[inline]
    pub(super) fn write_word(&self, offset: usize, word: u64) -> Result {
        let to = self.arg.checked_add(offset).ok_or(EFAULT)?;
        // SAFETY: Writes to user space, and fails where that may not be written to.
        if unsafe { ffi::qat_iommu_write_word(word, to) } {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }
}

/// What crosses the border does so in words.
const fn whole_words<T>() {
    assert!(size_of::<T>() % size_of::<u64>() == 0 && align_of::<T>() == align_of::<u64>());
}

/// Reads a structure, each word of it once.
#[inline]
fn read_words<T: Wire>(from: usize) -> Option<T> {
    const { whole_words::<T>() };
    let words = size_of::<T>() / size_of::<u64>();
    let mut value = MaybeUninit::<T>::uninit();
    let to = value.as_mut_ptr().cast();
    // SAFETY: There is room for as many words.
    let read = unsafe {
        match words {
            3 => ffi::qat_iommu_read_three(to, from),
            5 => ffi::qat_iommu_read_five(to, from),
            _ => ffi::qat_iommu_read_words(to, from, words),
        }
    };
    // SAFETY: Each of its words was read, and any bit pattern is valid in it.
    read.then(|| unsafe { value.assume_init() })
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
    at: usize,
    length: usize,
    _element: PhantomData<T>,
}

impl<T: AsBytes + FromBytes> Array<T> {
    /// The array of `count` elements at `address`.
    pub(super) fn new(address: u64, count: u32) -> Result<Self> {
        const { whole_words::<T>() };
        let address = usize::try_from(address).map_err(|_| EFAULT)?;
        let count = usize::try_from(count).map_err(|_| E2BIG)?;
        Ok(Self {
            at: address,
            length: count.checked_mul(size_of::<T>()).ok_or(E2BIG)?,
            _element: PhantomData,
        })
    }

    /// Reads every element, once.
    pub(super) fn read(&self) -> Result<KVVec<T>> {
        let count = self.length / size_of::<T>();
        let mut elements = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        let words = self.length / size_of::<u64>();
        let room = elements.spare_capacity_mut().as_mut_ptr().cast();
        // SAFETY: There is room for as many elements, and so for their words.
        if !unsafe { ffi::qat_iommu_read_words(room, self.at, words) } {
            return Err(EFAULT);
        }
        // SAFETY: As many were read, and any bit pattern is valid in them.
        unsafe { elements.inc_len(count) };
        Ok(elements)
    }

    /// Writes every element.
    pub(super) fn write(&self, elements: &[T]) -> Result {
        let bytes = size_of_val(elements).min(self.length);
        // SAFETY: Plain bytes, without padding, by the type's `AsBytes`.
        let bytes = unsafe { core::slice::from_raw_parts(elements.as_ptr().cast(), bytes) };
        UserSlice::new(UserPtr::from_addr(self.at), self.length)
            .writer()
            .write_slice(bytes)
    }
}
