// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Decide which memory the Intel QuickAssist (QAT) Physical Functions (PFs) of
//! this host may reach by DMA, through the kernel module `qat_iommu`.
//!
//! A [`Context`] is one open file of `/dev/qat_iommu`. It owns the mappings made
//! through it; they go when the last reference to the file goes.
//!
//! ```no_run
//! use qat_iommu::{Access, Context, Iova, Phys};
//!
//! # fn main() -> Result<(), qat_iommu::Error> {
//! let context = Context::open()?;
//! let (phys, iova) = (Phys::new(0x1_2345_6000), Iova::new(0x1_2345_6000));
//! let mapped = context.map_phys(phys, iova, 5000, Access::ReadWrite)?;
//! assert_eq!(mapped, 8192);
//! // ... the device works on the buffer ...
//! context.unmap(iova, 5000)?;
//! # Ok(())
//! # }
//! ```
//!
//! All addresses and lengths are in bytes; ranges are inclusive. All calls may be
//! made from any thread. Every mapping in a space can be reached by whoever
//! programs a PF of that space, whichever context made it.
#![warn(missing_docs)]
#![deny(unsafe_code)]

mod access;
mod addr;
mod context;
mod error;
mod explain;
mod info;
mod pf;
mod size;
mod sys;

pub use access::Access;
pub use addr::{Iova, IovaRange, Phys};
pub use context::{Attach, Context, DEVICE};
pub use error::{Action, Error};
pub use info::{Info, Mode, Pf, Space};
pub use pf::{ParsePfAddressError, PfAddress};
pub use size::{page_size, round_up};
