// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The USDM-compatible calls, as C sees them. Their documentation is
//! `include/qat_iommu/qat_iommu.h`. Nothing in the library calls them: a program may put
//! its own in their place.
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod backend;
mod calls;
mod container;
mod exports;
mod next;
mod order;
mod pool;
mod registry;
mod signals;
mod vfio;
