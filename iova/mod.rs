// SPDX-License-Identifier: GPL-2.0

//! Address arithmetic and the bookkeeping of one IOVA space: what is an address, a range, a page
//! size, which ranges are live, which may be used. Pure and safe: it imports nothing of the kernel
//! but the `Box` that its nodes are linked with, it never allocates and it never panics, so the
//! same files are built and tested on the build machine (`user/iova-model`).

#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]

pub(crate) mod addr;
pub(crate) mod allocate;
pub(crate) mod error;
pub(crate) mod layout;
pub(crate) mod list;
pub(crate) mod pages;
mod priority;
pub(crate) mod reserved;
pub(crate) mod span;
mod together;
pub(crate) mod tree;

#[cfg(test)]
#[path = "../user/iova-model/src/audit.rs"]
pub(crate) mod audit;
