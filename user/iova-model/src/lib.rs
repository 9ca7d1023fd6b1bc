// SPDX-License-Identifier: GPL-2.0

//! The module's `iova/` folder, the very same files, built on the build machine: as they are in the
//! kernel (`no_std`, nothing but a box to link nodes with), and under tests that compare them with
//! naive models.

#![cfg_attr(not(test), no_std)]
// The module decides what is used; without the tests nothing is.
#![cfg_attr(not(test), allow(dead_code))]

extern crate alloc;

mod boxed;
#[path = "../../../iova/mod.rs"]
mod iova;

#[cfg(test)]
mod tests;
