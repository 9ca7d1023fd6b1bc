// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! A mapped buffer as a value: it cannot outlive the buffer, and unmaps it when it is
//! dropped.
#![allow(unsafe_code)]

use crate::{volatile, Access, Context, Error, Iova, Placement, UserBuffer};
use rustix::io::Errno;
use std::{marker::PhantomData, mem::ManuallyDrop, ops::Deref, ptr::NonNull};

/// A buffer that the PFs read.
///
/// The program keeps reading it, too; nobody writes. The mapping goes when this is
/// dropped. (One that is leaked, by [`std::mem::forget`] say, lasts as long as its
/// context; whoever then still hands its IOVA to a device answers for what it reads.)
///
/// The PFs reach the whole pages that the buffer lies in, so that what else is in them
/// is visible to whoever programs a PF.
#[derive(Debug)]
pub struct Mapping<'a> {
    context: &'a Context,
    start: NonNull<u8>,
    length: usize,
    iova: Iova,
    buffer: PhantomData<&'a [u8]>,
}

/// A buffer that the PFs may write.
///
/// It is borrowed for as long as it is mapped: a device writes at moments that the
/// compiler does not know of, so that no reference to the bytes can be lent out.
/// [`MappingMut::copy_out`] and [`MappingMut::copy_in`] get at them, and
/// [`Mapping::as_ptr`] for volatile accesses. What was copied while the device was
/// writing may be partly old and partly new.
///
/// The PFs reach the whole pages that the buffer lies in: where other things must be
/// safe from a device that is programmed wrongly, give the buffer whole pages.
#[derive(Debug)]
pub struct MappingMut<'a> {
    mapping: Mapping<'a>,
    buffer: PhantomData<&'a mut [u8]>,
}

// SAFETY: it stands for a shared borrow of bytes and of a context, which may both be
// used from any thread.
unsafe impl Send for Mapping<'_> {}
// SAFETY: as above.
unsafe impl Sync for Mapping<'_> {}

impl<'a> Mapping<'a> {
    /// Maps a buffer for the PFs to read.
    ///
    /// # Errors
    ///
    /// As for [`Context::map_user`].
    pub fn new(
        context: &'a Context,
        buffer: &'a [u8],
        placement: Placement,
    ) -> Result<Self, Error> {
        // SAFETY: the device only reads it, and it is borrowed until it is unmapped.
        unsafe { Self::map(context, NonNull::from(buffer), Access::Read, placement) }
    }

    /// # Safety
    ///
    /// As for [`Context::map_user`].
    unsafe fn map(
        context: &'a Context,
        buffer: NonNull<[u8]>,
        access: Access,
        placement: Placement,
    ) -> Result<Self, Error> {
        let start = buffer.cast::<u8>();
        let named = UserBuffer {
            address: start.as_ptr().expose_provenance(),
            length: buffer.len(),
        };
        // SAFETY: the caller vouches for the buffer.
        let iova = unsafe { context.map_user(named, access, placement)? };
        Ok(Self {
            context,
            start,
            length: buffer.len(),
            iova,
            buffer: PhantomData,
        })
    }

    /// The IOVA of the first byte: what to hand to the device.
    pub fn iova(&self) -> Iova {
        self.iova
    }

    /// The IOVA of the byte at `offset`; `None` beyond the end.
    pub fn iova_at(&self, offset: usize) -> Option<Iova> {
        let offset = u64::try_from(offset).ok()?;
        (offset < self.length_wide()).then(|| Iova::new(self.iova.get() + offset))
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Never: a buffer of no bytes cannot be mapped.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where the bytes are. Where the device may write, only volatile accesses see what
    /// it writes.
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// Unmaps the buffer and says how that went; no PF reaches it any more when this
    /// returns. Dropping the mapping does the same and says nothing.
    ///
    /// # Errors
    ///
    /// As for [`Context::unmap`]. After EIO the device may still reach the memory: do
    /// not use it again.
    pub fn unmap(self) -> Result<(), Error> {
        ManuallyDrop::new(self).remove()
    }

    fn remove(&self) -> Result<(), Error> {
        loop {
            match self.context.unmap(self.iova, self.length_wide()) {
                Err(error) if error.errno() == Errno::INTR.raw_os_error() => {}
                result => return result,
            }
        }
    }

    fn length_wide(&self) -> u64 {
        // usize has at most 64 bits wherever Linux runs.
        self.length as u64
    }
}

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        // There is nobody to tell; `unmap` is for those who want to know.
        let _ = self.remove();
    }
}

impl<'a> MappingMut<'a> {
    /// Maps a buffer for the PFs to access as `access` says.
    ///
    /// # Errors
    ///
    /// As for [`Context::map_user`].
    pub fn new(
        context: &'a Context,
        buffer: &'a mut [u8],
        access: Access,
        placement: Placement,
    ) -> Result<Self, Error> {
        // SAFETY: it is exclusively borrowed until it is unmapped, and no reference to
        // its bytes exists meanwhile.
        let mapping = unsafe { Mapping::map(context, NonNull::from(buffer), access, placement)? };
        Ok(Self {
            mapping,
            buffer: PhantomData,
        })
    }

    /// Copies bytes out of the buffer, from `offset`.
    ///
    /// # Panics
    ///
    /// If they are not all within the buffer.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len());
        // SAFETY: the bytes are within the buffer, which is mapped and borrowed, and no
        // reference to them exists.
        unsafe { volatile::copy_out(from, to) }
    }

    /// Copies bytes into the buffer, from `offset`.
    ///
    /// # Panics
    ///
    /// If there is no room for all of them.
    pub fn copy_in(&mut self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: as in `copy_out`; the borrow of `self` excludes other threads.
        unsafe { volatile::copy_in(from, to) }
    }

    /// [`Mapping::unmap`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn unmap(self) -> Result<(), Error> {
        self.mapping.unmap()
    }

    /// Where `length` bytes from `offset` are.
    fn at(&self, offset: usize, length: usize) -> *mut u8 {
        let end = offset.checked_add(length);
        assert!(
            end.is_some_and(|end| end <= self.mapping.length),
            "{length} bytes at {offset} are not within the buffer of {} bytes",
            self.mapping.length
        );
        // SAFETY: the offset is within the buffer, or at its end.
        unsafe { self.mapping.start.as_ptr().add(offset) }
    }
}

impl<'a> Deref for MappingMut<'a> {
    type Target = Mapping<'a>;

    fn deref(&self) -> &Mapping<'a> {
        &self.mapping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mapping that no device knows of: dropping it asks a device that takes none of
    /// the commands.
    fn unreal<'a>(context: &'a Context, buffer: &'a mut [u8]) -> MappingMut<'a> {
        let (start, length) = (NonNull::from(&mut *buffer).cast(), buffer.len());
        MappingMut {
            mapping: Mapping {
                context,
                start,
                length,
                iova: Iova::new(0xffff_f000_0123),
                buffer: PhantomData,
            },
            buffer: PhantomData,
        }
    }

    #[test]
    fn offsets_are_within_the_buffer() {
        let context = Context::open_node("/dev/null").unwrap();
        let mut buffer = [0; 100];
        let mapping = unreal(&context, &mut buffer);
        assert_eq!(mapping.iova_at(0), Some(mapping.iova()));
        assert_eq!(mapping.iova_at(99), Some(Iova::new(0xffff_f000_0186)));
        assert_eq!(mapping.iova_at(100), None);
        assert_eq!((mapping.len(), mapping.is_empty()), (100, false));
        let error = mapping.unmap().unwrap_err();
        assert_eq!(error.errno(), Errno::NOTTY.raw_os_error());
    }

    #[test]
    fn bytes_go_in_and_out() {
        let context = Context::open_node("/dev/null").unwrap();
        let mut buffer = [7; 100];
        let mut mapping = unreal(&context, &mut buffer);
        mapping.copy_in(3, b"some bytes for a device");
        let mut out = [0; 25];
        mapping.copy_out(2, &mut out);
        assert_eq!(&out, b"\x07some bytes for a device\x07");
        mapping.copy_out(100, &mut []);
        drop(mapping);
        assert_eq!(&buffer[3..7], b"some");
    }

    #[test]
    #[should_panic(expected = "2 bytes at 99 are not within the buffer of 100 bytes")]
    fn nothing_is_copied_beyond_the_end() {
        let context = Context::open_node("/dev/null").unwrap();
        let mut buffer = [7; 100];
        unreal(&context, &mut buffer).copy_out(99, &mut [0; 2]);
    }

    #[test]
    fn a_buffer_that_cannot_be_mapped_is_given_back() {
        let context = Context::open_node("/dev/null").unwrap();
        let mut buffer = [1; 16];
        assert!(Mapping::new(&context, &buffer, Placement::Any).is_err());
        let access = Access::ReadWrite;
        assert!(MappingMut::new(&context, &mut buffer, access, Placement::Any).is_err());
        assert_eq!(buffer, [1; 16]);
    }
}
