// SPDX-License-Identifier: GPL-2.0
//! Ours, by the ioctls: one buffer at a time, and batches.

use anyhow::Result;
use qat_iommu::{Access, Context, Iova, Placement, UserBuffer};

use super::{Round, Way};
use crate::clock::{timed, Mark};
use crate::memory::Span;

impl From<Span> for UserBuffer {
    fn from(span: Span) -> Self {
        Self {
            address: span.address,
            length: span.length,
        }
    }
}

pub struct Native {
    pub context: Context,
    fixed: bool,
}

impl Native {
    pub fn new(fixed: bool) -> Result<Self> {
        Ok(Self {
            context: Context::open()?,
            fixed,
        })
    }
}

impl Way for Native {
    fn map(&mut self, buffer: Span, at: u64) -> Result<u64> {
        let placement = if self.fixed {
            Placement::Fixed(Iova::new(at))
        } else {
            Placement::Any
        };
        // SAFETY: buffers are memory that nothing refers to, and outlive the ways.
        let iova = unsafe {
            self.context
                .map_user(buffer.into(), Access::ReadWrite, placement)
        }?;
        Ok(iova.get())
    }

    fn unmap(&mut self, buffer: Span, iova: u64) -> Result<()> {
        self.context.unmap(Iova::new(iova), buffer.length as u64)?;
        Ok(())
    }
}

/// Many at once.
pub struct Batch {
    one: Native,
}

impl Batch {
    pub fn new() -> Result<Self> {
        Ok(Self {
            one: Native::new(false)?,
        })
    }
}

impl Way for Batch {
    fn map(&mut self, buffer: Span, at: u64) -> Result<u64> {
        self.one.map(buffer, at)
    }

    fn unmap(&mut self, buffer: Span, iova: u64) -> Result<()> {
        self.one.unmap(buffer, iova)
    }

    fn round_of_many(&mut self, buffers: &[Span], _: u64) -> Result<Round> {
        let context = &self.one.context;
        let list: Vec<UserBuffer> = buffers.iter().map(|span| (*span).into()).collect();
        // SAFETY: buffers are memory that nothing refers to, and outlive the ways.
        let (iovas, map) = timed(Mark::Map, || unsafe {
            context.map_user_batch(&list, Access::ReadWrite, 0)
        });
        let iovas = iovas.map_err(|(error, _)| error)?;
        let lengths = buffers.iter().map(|span| span.length as u64);
        let ranges: Vec<(Iova, u64)> = iovas.into_iter().zip(lengths).collect();
        let (done, unmap) = timed(Mark::Unmap, || context.unmap_batch(&ranges));
        done.map_err(|(error, _)| error)?;
        Ok(Round { map, unmap })
    }
}
