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
//! A buffer of the program itself is used without a copy, through a [`Mapping`] or a
//! [`MappingMut`], which cannot outlive it:
//!
//! ```no_run
//! use qat_iommu::{Access, Context, MappingMut, Placement};
//!
//! # fn main() -> Result<(), qat_iommu::Error> {
//! let context = Context::open()?;
//! let mut buffer = vec![0; 1 << 20];
//! let mapping = MappingMut::new(&context, &mut buffer, Access::ReadWrite, Placement::Any)?;
//! let iova = mapping.iova();
//! // ... the device reads and writes the buffer at `iova` ...
//! let mut answer = [0; 16];
//! mapping.copy_out(0, &mut answer);
//! mapping.unmap()?;
//! # Ok(())
//! # }
//! ```
//!
//! All addresses and lengths are in bytes; ranges are inclusive. All calls may be
//! made from any thread. Every mapping in a space can be reached by whoever
//! programs a PF of that space, whichever context made it.
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod access;
mod addr;
mod buffer;
mod context;
mod error;
mod explain;
mod info;
mod mapping;
mod pf;
mod query;
mod size;
mod sys;
mod volatile;

pub use access::Access;
pub use addr::{Iova, IovaRange, Phys};
pub use buffer::{Placement, UserBuffer};
pub use context::{Attach, Context, ABI_VERSION, DEVICE};
pub use error::{Action, Error};
pub use info::{Info, Mode, Pf, Space};
pub use mapping::{Mapping, MappingMut};
pub use pf::{ParsePfAddressError, PfAddress};
pub use query::{Backing, Mapped, Mappings};
pub use size::{page_size, round_up};
