// SPDX-License-Identifier: GPL-2.0

//! `Layout`, what may be mapped where in one IOVA space: the aperture, the reserved ranges and the
//! live mappings. It judges and records; programming the IOMMU is its caller's.

use super::{
    addr::{Iova, PAGE},
    error::Error,
    reserved::Reserved,
    span::Span,
    tree::{Node, Tree},
};
use crate::boxed::Box;

/// The layout of one space, with a payload `T` for every live mapping.
pub(crate) struct Layout<T> {
    /// The aperture while no PF narrows it.
    widest: Span<Iova>,
    pub(super) aperture: Span<Iova>,
    pub(super) reserved: Reserved,
    pub(super) live: Tree<T>,
}

/// A mapping that was not recorded: why, and the node, so that the caller can let go of it after it
/// has let go of its lock.
pub(crate) struct Refused<T> {
    /// Why.
    pub(crate) error: Error,
    /// What the caller had brought.
    pub(crate) node: Box<Node<T>>,
}

/// Why a PF's rules cannot be taken on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Conflict {
    /// The PF's aperture and the space's have no address in common.
    NoAperture,
    /// There are too many reserved ranges to keep.
    TooManyReserved,
    /// A live mapping would not be inside the aperture.
    OutsideAperture {
        /// The live mapping.
        live: Span<Iova>,
        /// What would remain of the aperture.
        aperture: Span<Iova>,
    },
    /// A live mapping would touch a reserved range.
    Reserved {
        /// The live mapping.
        live: Span<Iova>,
        /// The PF's reserved range.
        reserved: Span<Iova>,
    },
}

impl<T> Layout<T> {
    /// The layout of an empty space in which all of `widest` may be mapped, but the page at 0. How its
    /// live mappings are found depends on `seed`, which nobody is to know.
    pub(crate) fn new(widest: Span<Iova>, seed: u64) -> Self {
        Self {
            widest,
            aperture: widest,
            reserved: Reserved::new(),
            live: Tree::new(seed),
        }
    }

    /// The range that mappings must be inside.
    pub(crate) const fn aperture(&self) -> Span<Iova> {
        self.aperture
    }

    /// The ranges that mappings must not touch.
    pub(crate) const fn reserved(&self) -> &Reserved {
        &self.reserved
    }

    /// The live mappings.
    pub(crate) const fn live(&self) -> &Tree<T> {
        &self.live
    }

    /// The live mappings, to move some elsewhere or back without a check of the rules.
    pub(crate) fn live_mut(&mut self) -> &mut Tree<T> {
        &mut self.live
    }

    /// Records a mapping. The first of these that holds is the refusal: [`Error::Misaligned`],
    /// [`Error::OutsideAperture`], [`Error::Reserved`], [`Error::Overlap`]. If it is refused,
    /// nothing has changed.
    pub(crate) fn insert(&mut self, node: Box<Node<T>>) -> Result<(), Refused<T>> {
        if let Err(error) = self.check_rules(node.span()) {
            return Err(Refused { error, node });
        }
        self.live.insert(node).map_err(|node| Refused {
            error: Error::Overlap,
            node,
        })
    }

    /// Whether a mapping could be recorded at `span`.
    pub(crate) fn is_free(&self, span: Span<Iova>) -> bool {
        self.check_rules(span).is_ok() && self.live.overlapping(span).is_none()
    }

    /// Forgets the mapping that is exactly `span` if its payload is `wanted`; [`Error::NotFound`], and
    /// no change, if there is none.
    #[inline]
    pub(crate) fn remove_if(
        &mut self,
        span: Span<Iova>,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Box<Node<T>>, Error> {
        self.live.remove_if(span, wanted)
    }

    /// Takes on the rules of a joining PF besides those that hold already: only what is in every
    /// aperture and in no reserved range may be mapped. Refused, without a change, if a live mapping
    /// would break them.
    pub(crate) fn restrict(
        &mut self,
        aperture: Span<Iova>,
        reserved: &[Span<Iova>],
    ) -> Result<(), Conflict> {
        let aperture = self
            .aperture
            .intersect(aperture)
            .ok_or(Conflict::NoAperture)?;
        // Live mappings do not overlap, so if the lowest and the highest are inside, all are.
        for node in [self.live.first(), self.live.last()].into_iter().flatten() {
            let live = node.span();
            if !aperture.contains_span(live) {
                return Err(Conflict::OutsideAperture { live, aperture });
            }
        }
        let mut all = self.reserved.clone();
        for &reserved in reserved {
            if let Some(node) = self.live.overlapping(reserved) {
                let live = node.span();
                return Err(Conflict::Reserved { live, reserved });
            }
            all.add(reserved).map_err(|_| Conflict::TooManyReserved)?;
        }
        self.aperture = aperture;
        self.reserved = all;
        self.live.recent.forget();
        Ok(())
    }

    /// Forgets the rules of all PFs, for when PFs leave: those that stay are taken on again with
    /// [`Self::restrict`]. The live mappings remain.
    pub(crate) fn reset_rules(&mut self) {
        self.aperture = self.widest;
        self.reserved = Reserved::new();
        self.live.recent.forget();
    }

    /// Changes the aperture that holds while no PF narrows it: the space got another domain. The
    /// rules of PFs are forgotten as by [`Self::reset_rules`].
    pub(crate) fn set_widest(&mut self, widest: Span<Iova>) {
        self.widest = widest;
        self.reset_rules();
    }

    fn check_rules(&self, span: Span<Iova>) -> Result<(), Error> {
        if !span.is_aligned(PAGE) {
            return Err(Error::Misaligned);
        }
        if !self.aperture.contains_span(span) {
            return Err(Error::OutsideAperture);
        }
        if self.reserved.overlapping(span).is_some() {
            return Err(Error::Reserved);
        }
        Ok(())
    }
}
