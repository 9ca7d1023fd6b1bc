// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! What the C interfaces of libqat_iommu share: the one context of the process,
//! errno, messages, and the border that no panic crosses. Nothing here is exported
//! to C: each API family has a crate of its own above this one, so that it is an
//! archive member of its own in `libqat_iommu.a`, and a program that defines one of
//! its names itself can still link the others.
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod border;
mod debug;
mod errno;
mod failure;
mod fork_mark;
mod per_process;
mod process;
mod settings;
mod slot;
mod wiped;

pub use border::{keeping_errno, plain_status, size, status, value};
pub use debug::{say, warn};
pub use failure::Failure;
pub use per_process::PerProcess;
pub use process::{Process, Reach, PROCESS};
pub use settings::Settings;
pub use wiped::Wiped;
