// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The mapped buffers of one process: the tree that addresses are looked up in, and the
//! records, changed together.

use crate::{
    radix::{Root, Writer},
    records::{Owner, Record, Records, Wanted},
    span::Span,
};
use qat_iommu_capi_core::Failure;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The mapped buffers of one process.
#[derive(Debug)]
pub struct Buffers {
    root: Root,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    writer: Writer,
    records: Records,
    /// The context of the module that was last used.
    context: Option<Owner>,
}

impl Buffers {
    /// An empty table.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            root: Root::new().map_err(Failure::no_memory)?,
            state: Mutex::default(),
        })
    }

    /// The IOVA of the byte at `address`, by the newest mapping that holds it.
    #[inline]
    pub fn lookup(&self, address: usize) -> Option<u64> {
        self.root.lookup(address)
    }

    /// Whether any byte of a buffer is mapped.
    pub fn touches(&self, address: usize, length: usize) -> bool {
        let span = Span::new(address, length, 0);
        if span.is_some_and(|span| self.root.is_vacant_page(span)) {
            return false;
        }
        // The lists in the tree are the writer's to walk.
        let _state = self.lock();
        span.is_some_and(|span| self.root.touches(span))
    }

    /// Enters what has been mapped.
    pub fn add(&self, records: impl IntoIterator<Item = Record>) {
        let mut state = self.lock();
        for record in records {
            self.enter(&mut state, record);
        }
    }

    /// Enters what has been mapped, unless any byte of the buffer is mapped already.
    pub fn add_alone(&self, record: Record) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(span) = record.span() else {
            return false;
        };
        let free = self.root.add_alone(&mut state.writer, span);
        if free {
            self.forget_lost(state, record.owner);
            state.records.add(record);
        }
        free
    }

    /// Takes out the newest record that is `wanted` and has such an owner, before it is
    /// unmapped: nothing that is on its way out is looked up any more.
    pub fn take(&self, wanted: Wanted, owned: impl Fn(Owner) -> bool) -> Option<Record> {
        let mut state = self.lock();
        let record = state.records.take(wanted, owned)?;
        self.leave(&mut state, &record);
        Some(record)
    }

    /// [`Buffers::take`] for several, or for none: then it names the first that is not
    /// there.
    ///
    /// # Errors
    ///
    /// The index of the first one that is not there.
    pub fn take_each(
        &self,
        wanted: impl IntoIterator<Item = Wanted>,
        owned: impl Fn(Owner) -> bool,
    ) -> Result<Vec<Record>, usize> {
        let mut state = self.lock();
        let mut taken = Vec::new();
        for (index, wanted) in wanted.into_iter().enumerate() {
            let Some(record) = state.records.take(wanted, &owned) else {
                for record in taken.into_iter().rev() {
                    state.records.add(record);
                }
                return Err(index);
            };
            taken.push(record);
        }
        for record in &taken {
            self.leave(&mut state, record);
        }
        Ok(taken)
    }

    /// Takes out everything that has such an owner.
    pub fn take_all(&self, owned: impl Fn(Owner) -> bool) -> Vec<Record> {
        let mut state = self.lock();
        let taken = state.records.take_all(owned);
        for record in &taken {
            self.leave(&mut state, record);
        }
        taken
    }

    fn enter(&self, state: &mut State, record: Record) {
        self.forget_lost(state, record.owner);
        if let Some(span) = record.span() {
            state.records.add(record);
            self.root.add(&mut state.writer, span);
        }
    }

    /// Forgets what was mapped through a context of the module other than this one.
    #[inline]
    fn forget_lost(&self, state: &mut State, owner: Owner) {
        if matches!(owner, Owner::Context(_)) && state.context != Some(owner) {
            // The program closed the descriptor of the one before: what was mapped
            // through it is gone.
            state.context = Some(owner);
            let lost = state
                .records
                .take_all(|other| matches!(other, Owner::Context(_)) && other != owner);
            for record in &lost {
                self.leave(state, record);
            }
        }
    }

    #[inline]
    fn leave(&self, state: &mut State, record: &Record) {
        if let Some(span) = record.span() {
            self.root.remove(&mut state.writer, span);
        }
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held would be an error in this crate; the table is no
        // better for refusing every call after it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "buffers_tests.rs"]
mod tests;
