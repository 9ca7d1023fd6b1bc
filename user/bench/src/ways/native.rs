// SPDX-License-Identifier: GPL-2.0
//! Ours, by the ioctls: one buffer at a time, and batches.

use anyhow::Result;
use qat_iommu::{Access, Context, Iova, Placement, UserBuffer};
use std::sync::Arc;

use super::Way;
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
    context: Arc<Context>,
    fixed: bool,
}

impl Native {
    pub fn new(fixed: bool) -> Result<Self> {
        Ok(Self {
            context: Arc::new(Context::open()?),
            fixed,
        })
    }
}

impl Way for Native {
    fn share(&self) -> Result<Option<Box<dyn Way>>> {
        Ok(Some(Box::new(Self {
            context: Arc::clone(&self.context),
            fixed: self.fixed,
        })))
    }

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

    fn map_all(&mut self, buffers: &[Span], _: u64) -> Result<Vec<u64>> {
        let list: Vec<UserBuffer> = buffers.iter().map(|span| (*span).into()).collect();
        // SAFETY: buffers are memory that nothing refers to, and outlive the ways.
        let iovas = unsafe { self.one.context.map_user_batch(&list, Access::ReadWrite, 0) };
        let iovas = iovas.map_err(|(error, _)| error)?;
        Ok(iovas.into_iter().map(Iova::get).collect())
    }

    fn unmap_all(&mut self, buffers: &[Span], iovas: &[u64]) -> Result<()> {
        let lengths = buffers.iter().map(|span| span.length as u64);
        let ranges: Vec<(Iova, u64)> = iovas.iter().copied().map(Iova::new).zip(lengths).collect();
        let done = self.one.context.unmap_batch(&ranges);
        done.map_err(|(error, _)| error.into())
    }
}
