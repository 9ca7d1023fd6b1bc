// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! A buffer's part of one page, linked to the parts that older buffers have of the same
//! page. Nodes are read without a lock while one writer takes them out and uses them
//! again elsewhere: each has a version, odd while it is in no list, by which a reader
//! knows that what it has read belongs together. None is ever freed.

use crate::{
    slot::{Held, Slot},
    span::{Shift, Span},
};
use std::sync::atomic::{fence, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Node {
    version: AtomicUsize,
    /// First byte.
    first: AtomicUsize,
    /// Last byte.
    last: AtomicUsize,
    /// IOVA of the first byte.
    iova: AtomicU64,
    /// The next older one, or null.
    next: AtomicPtr<Node>,
}

/// What a node says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content {
    pub(crate) span: Span,
    pub(crate) next: Option<&'static Node>,
}

impl Node {
    /// A new node that is in no list.
    pub(crate) fn leak() -> &'static Self {
        Box::leak(Box::new(Self {
            version: AtomicUsize::new(1),
            ..Self::default()
        }))
    }

    /// For the writer, whose own stores these are.
    pub(crate) fn content(&self) -> Content {
        Content {
            span: Span {
                first: self.first.load(Ordering::Relaxed),
                last: self.last.load(Ordering::Relaxed),
                iova: self.iova.load(Ordering::Relaxed),
            },
            next: self.next(),
        }
    }

    /// For readers: `None` if the node was being used for something else.
    fn read(&self) -> Option<Content> {
        let version = self.version.load(Ordering::Acquire);
        if version % 2 != 0 {
            return None;
        }
        let content = self.content();
        fence(Ordering::Acquire);
        (self.version.load(Ordering::Relaxed) == version).then_some(content)
    }

    /// Fills a node that is in no list. For the writer.
    pub(crate) fn fill(&self, span: Span, next: Option<&'static Node>) {
        let version = self.version.load(Ordering::Relaxed);
        debug_assert!(version % 2 != 0, "the node is in a list");
        // A reader that sees one of the new values sees that the version was odd.
        fence(Ordering::Release);
        self.first.store(span.first, Ordering::Relaxed);
        self.last.store(span.last, Ordering::Relaxed);
        self.iova.store(span.iova, Ordering::Relaxed);
        self.link(next);
        self.version
            .store(version.wrapping_add(1), Ordering::Release);
    }

    /// Marks a node that has just been taken out of its list. For the writer.
    pub(crate) fn retire(&self) {
        let version = self.version.load(Ordering::Relaxed);
        debug_assert!(version % 2 == 0, "the node is in no list");
        self.version
            .store(version.wrapping_add(1), Ordering::Release);
    }

    /// Changes what comes after. For the writer.
    pub(crate) fn link(&self, next: Option<&'static Node>) {
        let next = next.map_or(std::ptr::null(), std::ptr::from_ref);
        self.next.store(next.cast_mut(), Ordering::Release);
    }

    #[allow(unsafe_code)]
    fn next(&self) -> Option<&'static Node> {
        // SAFETY: only null and nodes are stored, and nodes are never freed.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }
}

/// The IOVA of `address`, by the newest buffer in the list that `slot` has. The writer
/// may change the list meanwhile: then it is read again, so that the answer was right at
/// some moment during the call.
pub(crate) fn find(slot: &Slot, address: usize) -> Option<u64> {
    let page = address >> Shift::PAGE.0;
    'list: loop {
        let mut node = match slot.held() {
            Held::Chain(newest) => Some(newest),
            Held::Direct(iova) => return Some(iova + (address & Shift::PAGE.mask()) as u64),
            Held::Empty | Held::Table(_) => return None,
        };
        while let Some(current) = node {
            let Some(Content { span, next }) = current.read() else {
                continue 'list;
            };
            if span.first >> Shift::PAGE.0 != page {
                // It is in another page's list by now.
                continue 'list;
            }
            if span.first <= address && address <= span.last {
                return Some(span.iova + (address - span.first) as u64);
            }
            node = next;
        }
        return None;
    }
}
