// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Mapping through the kernel module, for the PFs.
#![allow(unsafe_code)]

use crate::{
    calls::{not_mapped, Backend, NotUnmapped, Request},
    Buffers, Owner, Record, Wanted,
};
use libc::{EIO, ENODEV, ENOENT};
use qat_iommu::{Access, Context, Error, Iova, UserBuffer};
use qat_iommu_capi_core::{Failure, Process};
use std::cell::Cell;

/// The module, as one process reaches it.
#[derive(Debug, Clone, Copy)]
pub struct Module<'a>(pub &'a Process);

impl Backend for Module<'_> {
    #[inline(always)]
    fn map(&self, request: &Request) -> Result<(u64, Owner), Failure> {
        let buffer = UserBuffer {
            address: request.address,
            length: request.length,
        };
        let (access, placement) = (request.access, request.placement);
        let (iova, context) = self.0.attempt(move |context| {
            // SAFETY: the C program that asks for it answers for its buffer, as it does
            // for every other pointer that it hands to C functions.
            let iova = unsafe { context.map_user(buffer, access, placement)? };
            Ok((iova.get(), context))
        })?;
        Ok((iova, Owner::Context(context)))
    }

    #[inline]
    fn unmap(&self, record: &Record) -> Result<(), NotUnmapped> {
        let context = context_of(record)?;
        let (iova, length) = range(record);
        context
            .unmap(iova, length)
            .map_err(|error| not_unmapped(context, error))
    }
}

impl Module<'_> {
    /// Maps several buffers and enters them, or none.
    ///
    /// # Errors
    ///
    /// Those of the module, with the index of the buffer that it is about, if it is
    /// about one.
    pub fn map_batch(
        &self,
        buffers: &Buffers,
        wanted: &[UserBuffer],
        access: Access,
        alignment: u64,
    ) -> Result<Vec<u64>, (Failure, Option<usize>)> {
        let culprit = Cell::new(None);
        let mapped = self.0.attempt(|context| {
            // SAFETY: as in `map`.
            let iovas = unsafe { context.map_user_batch(wanted, access, alignment) };
            match iovas {
                Ok(iovas) => Ok((iovas, Owner::Context(context))),
                Err((error, index)) => {
                    culprit.set(index);
                    Err(error)
                }
            }
        });
        let (iovas, owner) = mapped.map_err(|failure| (failure, culprit.get()))?;
        let iovas: Vec<u64> = iovas.into_iter().map(Iova::get).collect();
        buffers.add(wanted.iter().zip(&iovas).map(|(buffer, iova)| Record {
            address: buffer.address,
            length: buffer.length,
            iova: *iova,
            owner,
        }));
        Ok(iovas)
    }

    /// Takes out and unmaps several mappings, or none.
    ///
    /// # Errors
    ///
    /// ENOENT; those of the module; with the index of the mapping that it is about, if
    /// it is about one.
    pub fn unmap_batch(
        &self,
        buffers: &Buffers,
        wanted: impl IntoIterator<Item = Wanted>,
    ) -> Result<(), (Failure, Option<usize>)> {
        let records = buffers
            .take_each(wanted, is_module)
            .map_err(|index| (not_mapped(), Some(index)))?;
        let Some(first) = records.first() else {
            return Ok(());
        };
        let result = context_of(first).map_err(|error| (error, None));
        let result = result.and_then(|context| {
            let ranges: Vec<_> = records.iter().map(range).collect();
            context
                .unmap_batch(&ranges)
                .map_err(|(error, index)| (not_unmapped(context, error), index))
        });
        result.map_err(|(error, index)| {
            let failure = match (error, index) {
                (NotUnmapped::Gone(failure), Some(gone)) if failure.errno() == ENOENT => {
                    // The others are as they were; after other errors they are not.
                    let (before, after) = records.split_at(gone);
                    buffers.add(before.iter().chain(after.iter().skip(1)).copied());
                    failure
                }
                (error, _) => error.settle(buffers, &records),
            };
            (failure, index)
        })
    }
}

/// Whether a mapping was made through the module.
#[inline]
pub fn is_module(owner: Owner) -> bool {
    matches!(owner, Owner::Context(_))
}

#[inline]
fn context_of(record: &Record) -> Result<&'static Context, NotUnmapped> {
    match record.owner {
        Owner::Context(context) => Ok(context),
        Owner::Container(_) => Err(NotUnmapped::Kept(not_mapped())),
    }
}

#[inline]
fn range(record: &Record) -> (Iova, u64) {
    // usize has at most 64 bits wherever Linux runs.
    (Iova::new(record.iova), record.length as u64)
}

#[cold]
fn not_unmapped(context: &Context, error: Error) -> NotUnmapped {
    let errno = error.errno();
    if !context.is_intact() {
        return NotUnmapped::AllGone(Failure::new(
            ENOENT,
            "the program has closed the library's descriptor of the device, and with it all \
             mappings; keep it open",
        ));
    }
    match errno {
        // It went with its PF; or the module keeps it from being used again.
        ENODEV | ENOENT | EIO => NotUnmapped::Gone(error.into()),
        _ => NotUnmapped::Kept(error.into()),
    }
}
