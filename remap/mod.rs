// SPDX-License-Identifier: GPL-2.0

//! The kernel side: PFs, their IOMMU domains, and who may change what they reach.
//!
//! From the outside in: `device`, `exports` and `events` are where user space, kernel clients and
//! the driver core enter; `classic` is what the calls mean; `host` and `space` hold the state;
//! `domain`, `group`, `lease`, `pf`, `resv`, `pages` and `ffi` are the only files that call the kernel's C
//! functions. `owner`, `history`, `clock`, `trace` and `watch` are for those who watch a host. Lock
//! order everywhere: device lock, `host::HOST`, a space's lock.

pub(crate) mod classic;
pub(crate) mod clock;
pub(crate) mod config;
mod context;
pub(crate) mod device;
pub(crate) mod domain;
mod events;
pub(crate) mod exports;
pub(crate) mod ffi;
mod frames;
pub(crate) mod group;
pub(crate) mod history;
pub(crate) mod host;
mod ids;
mod info;
#[cfg(CONFIG_KUNIT = "y")]
mod kunit;
mod lease;
pub(crate) mod owner;
mod pages;
pub(crate) mod pf;
mod pins;
mod policy;
pub(crate) mod refusal;
mod resv;
pub(crate) mod space;
mod spare;
mod trace;
mod uapi;
mod user;
mod watch;
mod wire;
