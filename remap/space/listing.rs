// SPDX-License-Identifier: GPL-2.0

//! How a space and its mappings look to those who watch a host: one line each. No lock but that of
//! the space, held for one line.

use super::{
    Entry,
    Space, //
};
use crate::{
    iova::{
        addr::{
            Address,
            Iova, //
        },
        pages::PageSizes,
        span::Span,
        tree::Node, //
    },
    remap::{
        domain::{
            Access,
            Backing, //
        },
        owner::By, //
    },
};
use core::ops::{
    AddAssign,
    SubAssign, //
};
use kernel::{
    fmt,
    seq_file::SeqFile,
    seq_print, //
};

/// What backs a mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A physical range.
    Phys,
    /// A pinned buffer.
    User,
    /// Nobody knows: the IOMMU failed to remove it.
    Poisoned,
}

impl Kind {
    /// By their numbers.
    pub(crate) const ALL: [Self; 3] = [Self::Phys, Self::User, Self::Poisoned];
}

/// What a mapping looks like from outside. Refers to nothing, so it can outlive the mapping.
pub(crate) struct Portrait {
    pub(crate) space: u64,
    pub(crate) span: Span<Iova>,
    pub(crate) kind: Kind,
    pub(crate) access: Access,
    /// The physical address, or that of the buffer in its process.
    pub(crate) backing: u64,
    pub(crate) by: By,
}

impl Portrait {
    /// Of the entry at `span` of the space with this number.
    #[inline(always)]
    pub(crate) fn new(space: u64, span: Span<Iova>, entry: &Entry) -> Self {
        let (kind, access, backing, by) = if let Entry::User(user) = entry {
            let pins = &user.pins;
            let va = pins.buffer().va();
            (Kind::User, pins.access(), va, pins.account().by())
        } else if let Entry::Classic(classic) = entry {
            let phys = classic.phys.raw();
            (Kind::Phys, classic.access, phys, classic.by)
        } else {
            (Kind::Poisoned, Access::READ, 0, By::default())
        };
        Self {
            space,
            span,
            kind,
            access,
            backing,
            by,
        }
    }
}

/// The beginning of a line about a mapping, up to who made it.
impl fmt::Display for Portrait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Phys => "phys",
            Kind::User => "user",
            Kind::Poisoned => "poisoned",
        };
        let access = match (self.access.reads(), self.access.writes()) {
            (true, true) => "rw",
            (false, true) => "w",
            _ => "r",
        };
        write!(
            f,
            "space={} first={:#x} last={:#x} kind={kind} access={access} backing={:#x}",
            self.space,
            self.span.first(),
            self.span.last(),
            self.backing
        )
    }
}

/// How much is mapped in a space.
#[derive(Clone, Copy, Default)]
pub(super) struct Amount {
    bytes: u64,
    /// How many of them are pinned.
    pinned: u64,
}

impl Amount {
    /// What pinned buffers of so many bytes add.
    pub(super) fn pinned(bytes: u64) -> Self {
        Self {
            bytes,
            pinned: bytes,
        }
    }

    /// What one mapping adds.
    #[inline]
    pub(super) fn of(node: &Node<Entry>) -> Self {
        let bytes = node.span().bytes();
        Self {
            bytes,
            pinned: match node.value() {
                Entry::User(_) => bytes,
                Entry::Classic(_) | Entry::Poisoned => 0,
            },
        }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, more: Self) {
        self.bytes = self.bytes.wrapping_add(more.bytes);
        self.pinned = self.pinned.wrapping_add(more.pinned);
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, less: Self) {
        self.bytes = self.bytes.wrapping_sub(less.bytes);
        self.pinned = self.pinned.wrapping_sub(less.pinned);
    }
}

/// The smallest and the largest of the IOMMU's pages that a mapping can be made of.
#[derive(Clone, Copy)]
pub(crate) struct Pages(Option<(u64, u64)>);

impl Pages {
    fn of(node: &Node<Entry>, backing: Option<&Backing>) -> Self {
        let Some(sizes) = backing
            .filter(|backing| backing.translates())
            .and_then(|backing| backing.page_sizes().ok())
        else {
            return Self(None);
        };
        match node.value() {
            Entry::Classic(classic) => {
                Self(sizes.used(node.span().first(), classic.run().into_iter()))
            }
            Entry::User(user) => Self(sizes.used(node.span().first(), user.pins.runs())),
            Entry::Poisoned => Self(None),
        }
    }
}

/// `0x1000..0x200000`, or `-` where nothing translates.
impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((smallest, largest)) => write!(f, "{smallest:#x}..{largest:#x}"),
            None => f.write_str("-"),
        }
    }
}

impl Space {
    /// The mapping that holds `from`, or the next one above.
    pub(crate) fn portrait(&self, from: Iova) -> Option<(Portrait, Pages)> {
        let state = self.state.lock();
        let live = state.layout.live();
        let node = live.get(from).or_else(|| live.next(from))?;
        Some((
            Portrait::new(self.id, node.span(), node.value()),
            Pages::of(node, state.backing.as_ref()),
        ))
    }

    /// Writes its line.
    pub(crate) fn write_line(&self, out: &SeqFile) {
        let state = self.state.lock();
        let backing = state.backing.as_ref();
        let kind = match (self.owned, state.vm) {
            (true, _) => "owned",
            (false, true) => "vm",
            (false, false) => "shared",
        };
        seq_print!(
            out,
            "space={} kind={kind} translated={} pfs=",
            self.id,
            u8::from(backing.is_some_and(Backing::translates))
        );
        let mut before = "";
        for pf in &state.pfs {
            seq_print!(out, "{before}{}", pf.address);
            before = ",";
        }
        if before.is_empty() {
            seq_print!(out, "-");
        }
        let aperture = state.layout.aperture();
        seq_print!(
            out,
            " aperture={aperture:?} pages={:#x} mappings={} bytes={:#x} pinned={:#x} reserved=",
            backing
                .and_then(|backing| backing.page_sizes().ok())
                .map_or(0, PageSizes::bitmap),
            state.layout.live().len(),
            state.amount.bytes,
            state.amount.pinned
        );
        let mut before = "";
        for range in state.layout.reserved().iter() {
            seq_print!(out, "{before}{range:?}");
            before = ",";
        }
        if before.is_empty() {
            seq_print!(out, "-");
        }
        seq_print!(out, "\n");
    }
}
