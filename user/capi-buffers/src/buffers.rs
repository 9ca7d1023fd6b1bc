// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The mapped buffers of one process: the tree that addresses are looked up in, and the
//! records, changed together.

use crate::{
    radix::{Root, Writer},
    records::{Owner, Record, Records, Wanted},
    span::Span,
    whole::{is_page, PAGE},
};
use qat_iommu::Context;
use qat_iommu_capi_core::Failure;
use std::{
    ptr,
    sync::{
        atomic::{AtomicUsize, Ordering},
        Mutex, MutexGuard, PoisonError,
    },
};

/// The mapped buffers of one process.
#[derive(Debug)]
pub struct Buffers {
    root: Root,
    /// How many there are. Changed under the lock.
    live: AtomicUsize,
    state: Mutex<State>,
}

/// A buffer is either a whole page of the tree (see `whole`), mapped through `context`, or
/// has a record.
#[derive(Debug, Default)]
struct State {
    writer: Writer,
    records: Records,
    /// The context of the module that was last used.
    context: Option<&'static Context>,
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
            live: AtomicUsize::new(0),
            state: Mutex::default(),
        })
    }

    /// The IOVA of the byte at `address`, by the newest mapping that holds it.
    #[inline]
    pub fn lookup(&self, address: usize) -> Option<u64> {
        self.root.lookup(address)
    }

    /// Whether no buffer is mapped: neither by this thread, nor by another that has told this
    /// one of it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.live.load(Ordering::Relaxed) == 0
    }

    /// Whether any byte of a buffer is mapped.
    #[inline(always)]
    pub fn touches(&self, address: usize, length: usize) -> bool {
        let span = Span::new(address, length, 0);
        !span.is_some_and(|span| self.root.is_vacant_page(span)) && self.really_touches(span)
    }

    #[inline(never)]
    fn really_touches(&self, span: Option<Span>) -> bool {
        // The lists in the tree are the writer's to walk.
        let _state = self.lock();
        span.is_some_and(|span| self.root.touches(span))
    }

    /// Enters what has been mapped.
    pub fn add(&self, records: impl IntoIterator<Item = Record>) {
        let mut state = self.lock();
        for record in records {
            self.enter(&mut state, &record);
        }
    }

    /// Enters one that has been mapped.
    #[inline(always)]
    pub fn add_one(&self, record: Record) {
        let mut state = self.lock();
        if !self.enter_page(&mut state, record) {
            self.enter(&mut state, &{ record });
        }
    }

    /// Enters what has been mapped, unless any byte of the buffer is mapped already.
    #[inline(always)]
    pub fn add_alone(&self, record: Record) -> bool {
        let mut state = self.lock();
        self.enter_page(&mut state, record) || self.enter_alone(&mut state, &{ record })
    }

    #[inline(never)]
    fn enter_alone(&self, state: &mut State, record: &Record) -> bool {
        let Some(span) = record.span() else {
            return false;
        };
        let free = self.root.add_alone(&mut state.writer, span);
        if free {
            self.forget_lost(state, record.owner);
            state.records.add(*record);
            self.count(|live| live + 1);
        }
        free
    }

    /// Takes out the newest record that is `wanted` and has such an owner, before it is
    /// unmapped: nothing that is on its way out is looked up any more.
    #[inline]
    pub fn take(&self, wanted: Wanted, owned: impl Fn(Owner) -> bool) -> Option<Record> {
        let mut state = self.lock();
        match self.take_page(&state, wanted, &owned) {
            Some(record) => Some(record),
            None => self.take_recorded(&mut state, wanted, owned),
        }
    }

    #[inline(never)]
    fn take_recorded(
        &self,
        state: &mut State,
        wanted: Wanted,
        owned: impl Fn(Owner) -> bool,
    ) -> Option<Record> {
        self.record_wholes(state, wanted);
        let record = state.records.take(wanted, owned)?;
        self.leave(state, &record);
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
            self.record_wholes(&mut state, wanted);
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
        self.take_owned(&mut state, owned)
    }

    fn take_owned(&self, state: &mut State, owned: impl Fn(Owner) -> bool) -> Vec<Record> {
        let mut taken = state.records.take_all(&owned);
        for record in &taken {
            self.leave(state, record);
        }
        if let Some(owner) = state.context.map(Owner::Context).filter(|one| owned(*one)) {
            let wholes = state.writer.take_wholes();
            self.count(|live| live - wholes.len());
            taken.extend(wholes.into_iter().map(|whole| record_of(whole, owner)));
        }
        taken
    }

    /// The short way in, for a page that nothing else is in. `false` if it is not one.
    #[inline]
    fn enter_page(&self, state: &mut State, record: Record) -> bool {
        let entered = matches!(record.owner, Owner::Context(context) if state.has(context))
            && is_page(record.address, record.length)
            && !state.records.has_iovas()
            && self.root.add_whole(record.address, record.iova);
        if entered {
            self.count(|live| live + 1);
        }
        entered
    }

    /// The short way out.
    #[inline]
    fn take_page(
        &self,
        state: &State,
        wanted: Wanted,
        owned: impl Fn(Owner) -> bool,
    ) -> Option<Record> {
        let Wanted::Buffer { address, length } = wanted else {
            return None;
        };
        let owner = Owner::Context(state.context?);
        if !is_page(address, length) || !owned(owner) {
            return None;
        }
        let iova = self.root.take_whole(address)?;
        self.count(|live| live - 1);
        Some(record_of((address, iova), owner))
    }

    /// Makes records of the whole pages that are to be looked for among them.
    fn record_wholes(&self, state: &mut State, wanted: Wanted) {
        let wholes = match wanted {
            Wanted::Buffer { address, length } if is_page(address, length) => {
                let iova = self.root.make_plain(address);
                iova.map(|iova| (address, iova)).into_iter().collect()
            }
            Wanted::Buffer { .. } => return,
            // From the first of these on there are no more.
            Wanted::Range { .. } | Wanted::Pages { .. } if state.records.has_iovas() => return,
            Wanted::Range { .. } | Wanted::Pages { .. } => state.writer.make_all_plain(),
        };
        state.record(wholes);
    }

    #[inline(never)]
    fn enter(&self, state: &mut State, record: &Record) {
        self.forget_lost(state, record.owner);
        if let Some(span) = record.span() {
            self.root.add(&mut state.writer, span);
            // They are older.
            let crowded = std::mem::take(&mut state.writer.crowded);
            state.record(crowded);
            state.records.add(*record);
            self.count(|live| live + 1);
        }
    }

    /// Forgets what was mapped through a context of the module other than this one.
    #[inline]
    fn forget_lost(&self, state: &mut State, owner: Owner) {
        if let Owner::Context(context) = owner {
            if !state.has(context) {
                // The program closed the descriptor of the one before: what was mapped
                // through it is gone.
                let lost = |other| matches!(other, Owner::Context(_)) && other != owner;
                self.take_owned(state, lost);
                state.context = Some(context);
            }
        }
    }

    #[inline]
    fn leave(&self, state: &mut State, record: &Record) {
        if let Some(span) = record.span() {
            self.root.remove(&mut state.writer, span);
            self.count(|live| live - 1);
        }
    }

    /// Changes the number of buffers. With the lock held.
    #[inline]
    fn count(&self, change: impl FnOnce(usize) -> usize) {
        let live = self.live.load(Ordering::Relaxed);
        self.live.store(change(live), Ordering::Relaxed);
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held would be an error in this crate; the table is no
        // better for refusing every call after it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    #[inline]
    fn has(&self, context: &'static Context) -> bool {
        self.context.is_some_and(|own| ptr::eq(own, context))
    }

    /// Makes records of pages that were whole buffers.
    fn record(&mut self, wholes: Vec<(usize, u64)>) {
        if let Some(context) = self.context {
            for whole in wholes {
                self.records.add(record_of(whole, Owner::Context(context)));
            }
        }
    }
}

/// The record of a whole page, given as address and IOVA.
#[inline]
fn record_of((address, iova): (usize, u64), owner: Owner) -> Record {
    Record {
        address,
        length: PAGE,
        iova,
        owner,
    }
}

#[cfg(test)]
#[path = "buffers_tests.rs"]
mod tests;
