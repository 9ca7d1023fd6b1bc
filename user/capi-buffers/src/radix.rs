// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The tree that finds the slot of an address: four levels, as an MMU has them, in which
//! a buffer takes the largest slots that it fills. One writer at a time, any number of
//! readers, who take no lock. A table is never freed, and stays what it is for the same
//! addresses for ever, so that a reader who comes late to one that is out of use finds
//! nothing worse than an answer that was right a moment ago.
#![allow(unsafe_code)]

use crate::{
    hash::HashMap,
    node::{self, Content, Node},
    slot::{Held, Slot, Word},
    span::{Shift, Span, FANOUT},
};
use qat_iommu_capi_core::Wiped;
use rustix::io::Errno;
use std::{
    mem::ManuallyDrop,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Addresses of user space have no more bits on any machine.
const ADDRESS_BITS: u32 = 57;
const ROOT_SLOTS: usize = 1 << (ADDRESS_BITS - Shift::ROOT.0);

/// The slots of one level in one slot of the level above.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) slots: [Slot; FANOUT],
    /// Slots that are not empty, in tables of pages. For the writer.
    pub(crate) used: AtomicUsize,
}

/// A table that was found: as the word that leads to it, because an `Option` of a reference
/// costs one more test.
#[derive(Clone, Copy)]
pub(crate) struct TableAt(Word);

impl TableAt {
    #[inline]
    pub(crate) fn get(self) -> &'static Table {
        // SAFETY: it is made of words that are tables only.
        unsafe { self.0.table() }
    }
}

/// What readers need.
#[derive(Debug)]
pub(crate) struct Root {
    /// The memory is zero in a child, whose tree is thereby empty.
    slots: &'static [Slot; ROOT_SLOTS],
}

/// What the writer needs besides.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// Nodes that are in no list.
    nodes: Vec<&'static Node>,
    /// Tables of pages that are out of use, by the 2 MiB that they are for.
    parked: HashMap<usize, &'static Table>,
    /// All tables of pages that there are, by the first address that each is for.
    pub(crate) page_tables: Vec<(usize, &'static Table)>,
    /// Whole pages that have come to share theirs with another buffer, as address and IOVA:
    /// they need records from now on.
    pub(crate) crowded: Vec<(usize, u64)>,
}

impl Root {
    pub(crate) fn new() -> Result<Self, Errno> {
        let memory = ManuallyDrop::new(Wiped::new(size_of::<[Slot; ROOT_SLOTS]>())?);
        // SAFETY: the memory is large enough, aligned to a page, never unmapped, and all
        // zeroes, which are empty slots. Wiping it in a child makes it so again.
        let slots = unsafe { memory.start().cast().as_ref() };
        Ok(Self { slots })
    }

    /// The IOVA of the byte at `address`, by the newest buffer that holds it.
    #[inline]
    pub(crate) fn lookup(&self, address: usize) -> Option<u64> {
        // Written out for a page that one buffer fills, to which everything else comes
        // late enough as it is.
        let slot = self.slots.get(address >> Shift::ROOT.0)?;
        let word = slot.word();
        if !word.is_table() {
            return walk(slot, Shift::ROOT, address);
        }
        // SAFETY: it is one.
        let slot = &unsafe { word.table() }.slots[Shift::LARGE.index(address)];
        let word = slot.word();
        if !word.is_table() {
            return walk(slot, Shift::LARGE, address);
        }
        // SAFETY: it is one.
        let slot = &unsafe { word.table() }.slots[Shift::MIDDLE.index(address)];
        let word = slot.word();
        if !word.is_table() {
            return walk(slot, Shift::MIDDLE, address);
        }
        // SAFETY: it is one.
        let slot = &unsafe { word.table() }.slots[Shift::PAGE.index(address)];
        match slot.direct() {
            Some(iova) => Some(iova + (address & Shift::PAGE.mask()) as u64),
            None => walk(slot, Shift::PAGE, address),
        }
    }

    /// The table of pages that a span lies in, if it lies in one page and there is one:
    /// the short way for small buffers.
    #[inline]
    fn page_table(&self, span: Span) -> Option<&'static Table> {
        if span.first >> Shift::PAGE.0 != span.last >> Shift::PAGE.0 {
            return None;
        }
        Some(self.table_at(span.first)?.get())
    }

    /// The table of pages that an address lies in, if there is one.
    #[inline]
    pub(crate) fn table_at(&self, address: usize) -> Option<TableAt> {
        // Written out for the same reason as `lookup`.
        let index = address >> Shift::ROOT.0;
        if index >= ROOT_SLOTS {
            return None;
        }
        let word = self.slots[index].word();
        if !word.is_table() {
            return None;
        }
        // SAFETY: it is one.
        let word = unsafe { word.table() }.slots[Shift::LARGE.index(address)].word();
        if !word.is_table() {
            return None;
        }
        // SAFETY: it is one.
        let word = unsafe { word.table() }.slots[Shift::MIDDLE.index(address)].word();
        if !word.is_table() {
            return None;
        }
        Some(TableAt(word))
    }

    /// Whether `span` lies in one page that nothing is in. For readers, too: of any other span it
    /// says nothing.
    #[inline]
    pub(crate) fn is_vacant_page(&self, span: Span) -> bool {
        if span.first >> Shift::PAGE.0 != span.last >> Shift::PAGE.0 {
            return false;
        }
        match self.table_at(span.first) {
            Some(table) => table.get().slots[Shift::PAGE.index(span.first)].is_empty(),
            None => false,
        }
    }

    /// Whether any byte of `span` is in the tree.
    pub(crate) fn touches(&self, span: Span) -> bool {
        if let Some(table) = self.page_table(span) {
            let slot = &table.slots[Shift::PAGE.index(span.first)];
            return touches(slot, Shift::PAGE, span);
        }
        span.parts(Shift::ROOT).any(|part| {
            let slot = self.slots.get(part.first >> Shift::ROOT.0);
            slot.is_some_and(|slot| touches(slot, Shift::ROOT, part))
        })
    }

    /// Adds a buffer of which no byte is in the tree yet; else nothing is done, and `false` returned.
    pub(crate) fn add_alone(&self, writer: &mut Writer, span: Span) -> bool {
        if let Some(table) = self.page_table(span) {
            let slot = &table.slots[Shift::PAGE.index(span.first)];
            if slot.is_empty() {
                table.count(slot, |slot| writer.add_page(slot, span));
                return true;
            }
        }
        let free = !self.touches(span);
        if free {
            self.add(writer, span);
        }
        free
    }

    /// Adds a buffer, the newest. Bytes beyond what user space can have are left out.
    pub(crate) fn add(&self, writer: &mut Writer, span: Span) {
        if let Some(table) = self.page_table(span) {
            let slot = &table.slots[Shift::PAGE.index(span.first)];
            return table.count(slot, |slot| writer.add_page(slot, span));
        }
        for part in span.parts(Shift::ROOT) {
            if let Some(slot) = self.slots.get(part.first >> Shift::ROOT.0) {
                writer.add(slot, Shift::ROOT, part);
            }
        }
    }

    /// Removes a buffer that was added and not removed since. (Of two that are the same
    /// in address and IOVA, the one is as good as the other.)
    pub(crate) fn remove(&self, writer: &mut Writer, span: Span) {
        if let Some(table) = self.page_table(span) {
            let slot = &table.slots[Shift::PAGE.index(span.first)];
            return table.count(slot, |slot| writer.remove(slot, span, Shift::PAGE));
        }
        for part in span.parts(Shift::ROOT) {
            if let Some(slot) = self.slots.get(part.first >> Shift::ROOT.0) {
                writer.remove(slot, part, Shift::ROOT);
            }
        }
    }
}

/// What is known of `address` in a slot that is so wide.
fn walk(mut slot: &Slot, mut shift: Shift, address: usize) -> Option<u64> {
    loop {
        match slot.held() {
            Held::Table(table) => {
                shift = shift.below();
                slot = &table.slots[shift.index(address)];
            }
            Held::Direct(iova) => return Some(iova + (address & shift.mask()) as u64),
            Held::Empty => return None,
            Held::Chain(_) => return node::find(slot, address),
        }
    }
}

fn touches(slot: &Slot, shift: Shift, span: Span) -> bool {
    match slot.held() {
        Held::Empty => false,
        Held::Direct(_) => true,
        Held::Chain(newest) => list(newest)
            .any(|(_, content)| content.span.first <= span.last && span.first <= content.span.last),
        Held::Table(table) => span.parts(shift.below()).any(|part| {
            let slot = &table.slots[shift.below().index(part.first)];
            touches(slot, shift.below(), part)
        }),
    }
}

/// The nodes of a list with what they say. For the writer.
fn list(newest: &'static Node) -> impl Iterator<Item = (&'static Node, Content)> {
    let with_content = |node: &'static Node| (node, node.content());
    std::iter::successors(Some(with_content(newest)), move |(_, content)| {
        content.next.map(with_content)
    })
}

impl Writer {
    fn add(&mut self, slot: &Slot, shift: Shift, span: Span) {
        if shift == Shift::PAGE {
            return self.add_page(slot, span);
        }
        if shift <= Shift::LARGE && span.fills(shift) && self.clear(slot, shift, span.first) {
            return slot.store(Held::Direct(span.iova));
        }
        let below = shift.below();
        let table = match slot.held() {
            Held::Table(table) => table,
            Held::Direct(iova) => {
                let table = self.table(shift, span.first);
                for (index, slot) in table.slots.iter().enumerate() {
                    slot.store(Held::Direct(iova + ((index << below.0) as u64)));
                }
                table.used.store(FANOUT, Ordering::Relaxed);
                slot.store(Held::Table(table));
                table
            }
            Held::Empty | Held::Chain(_) => {
                let table = self.table(shift, span.first);
                slot.store(Held::Table(table));
                table
            }
        };
        for part in span.parts(below) {
            let slot = &table.slots[below.index(part.first)];
            table.count(slot, |slot| self.add(slot, below, part));
        }
    }

    fn remove(&mut self, slot: &Slot, span: Span, shift: Shift) {
        match slot.held() {
            Held::Empty => {}
            // Nobody else is in it, else it would have been taken apart.
            Held::Direct(_) => slot.store(Held::Empty),
            Held::Chain(newest) => self.remove_part(slot, newest, span),
            Held::Table(table) => {
                let below = shift.below();
                for part in span.parts(below) {
                    let slot = &table.slots[below.index(part.first)];
                    table.count(slot, |slot| self.remove(slot, part, below));
                }
            }
        }
    }

    fn add_page(&mut self, slot: &Slot, span: Span) {
        let older = match slot.held() {
            Held::Empty | Held::Table(_) if span.fills(Shift::PAGE) => {
                return slot.store(Held::Direct(span.iova));
            }
            Held::Empty | Held::Table(_) => None,
            Held::Direct(iova) => {
                let first = span.first & !Shift::PAGE.mask();
                if slot.whole().is_some() {
                    self.crowded.push((first, iova));
                }
                let last = span.first | Shift::PAGE.mask();
                Some(self.node(Span { first, last, iova }, None))
            }
            Held::Chain(newest) => Some(newest),
        };
        slot.store(Held::Chain(self.node(span, older)));
    }

    fn remove_part(&mut self, slot: &Slot, newest: &'static Node, span: Span) {
        let mut newer: Option<&'static Node> = None;
        for (node, content) in list(newest) {
            if content.span == span {
                match (newer, content.next) {
                    (Some(newer), next) => newer.link(next),
                    (None, Some(next)) => slot.store(Held::Chain(next)),
                    (None, None) => slot.store(Held::Empty),
                }
                self.retire(node);
                break;
            }
            newer = Some(node);
        }
        if let Held::Chain(node) = slot.held() {
            let content = node.content();
            if content.next.is_none() && content.span.fills(Shift::PAGE) {
                slot.store(Held::Direct(content.span.iova));
                self.retire(node);
            }
        }
    }

    /// Makes a slot empty if no buffer is in it, and says whether it is.
    fn clear(&mut self, slot: &Slot, shift: Shift, address: usize) -> bool {
        match slot.held() {
            Held::Empty => true,
            // Whether tables of tables are out of use is not known.
            Held::Table(table)
                if shift == Shift::MIDDLE && table.used.load(Ordering::Relaxed) == 0 =>
            {
                self.parked.insert(address >> shift.0, table);
                slot.store(Held::Empty);
                true
            }
            Held::Table(_) | Held::Direct(_) | Held::Chain(_) => false,
        }
    }

    /// An empty table for what is below the slot of `address`.
    fn table(&mut self, shift: Shift, address: usize) -> &'static Table {
        let parked = match shift {
            Shift::MIDDLE => self.parked.remove(&(address >> shift.0)),
            _ => None,
        };
        parked.unwrap_or_else(|| {
            let table = Box::leak(Box::new(Table {
                slots: [const { Slot::empty() }; FANOUT],
                used: AtomicUsize::new(0),
            }));
            if shift == Shift::MIDDLE {
                self.page_tables.push((address & !shift.mask(), table));
            }
            table
        })
    }

    fn node(&mut self, span: Span, next: Option<&'static Node>) -> &'static Node {
        let node = self.nodes.pop().unwrap_or_else(Node::leak);
        node.fill(span, next);
        node
    }

    fn retire(&mut self, node: &'static Node) {
        node.retire();
        self.nodes.push(node);
    }
}

impl Table {
    /// Keeps count of the slots in use while `change` changes one.
    fn count(&self, slot: &Slot, change: impl FnOnce(&Slot)) {
        let before = slot.is_empty();
        change(slot);
        let used = self.used.load(Ordering::Relaxed);
        match (before, slot.is_empty()) {
            (true, false) => self.used.store(used + 1, Ordering::Relaxed),
            (false, true) => self.used.store(used - 1, Ordering::Relaxed),
            (true, true) | (false, false) => {}
        }
    }
}

#[cfg(test)]
#[path = "radix_tests.rs"]
mod tests;
