// SPDX-License-Identifier: GPL-2.0

//! Which addresses the QuickAssist PFs of this host may reach by DMA.
//!
//! `iova` is the arithmetic and bookkeeping of one IOVA space, pure and free of the kernel;
//! `remap` is the kernel side. This file only brings the module up and takes it down, in an order
//! that keeps every callback between the two.

use kernel::prelude::*;

mod boxed {
    //! The box that `iova` links its nodes with.
    pub(crate) use kernel::alloc::KBox as Box;
}
mod iova;
mod remap;

use remap::{
    clock,
    config,
    device,
    exports,
    ffi,
    host,
    owner, //
};

module! {
    type: QatIommu,
    name: "qat_iommu",
    authors: ["The qat-iommu developers"],
    description: "IOMMU entries for the DMA of Intel QuickAssist Physical Functions",
    license: "GPL v2",
}

/// The loaded module. Its fields go in the order in which they stand: first the node, so that no
/// context opens, then what brings PFs; the spaces last.
#[pin_data]
struct QatIommu {
    #[pin]
    node: device::Node,
    _listings: ffi::Listings,
    host: HostLinks,
}

/// Where PFs come from; nothing in a VM.
struct HostLinks {
    _shared: SharedSpaces,
    _watch: Option<ffi::PfWatch>,
    _driver: Option<ffi::PfDriver>,
    _spaces: Spaces,
}

/// Ends the shared spaces while the watch, which goes next, would still tell of drivers that go:
/// afterwards their domains could.
struct SharedSpaces;

impl Drop for SharedSpaces {
    fn drop(&mut self) {
        host::close();
    }
}

/// Ends what is left of the spaces, and of what was kept.
struct Spaces;

impl Drop for Spaces {
    fn drop(&mut self) {
        host::shutdown();
        exports::shutdown();
        owner::shutdown();
    }
}

impl HostLinks {
    fn new(vm: bool) -> Result<Self> {
        let spaces = Spaces;
        clock::init();
        if vm {
            host::init_vm()?;
            pr_info!("running in a VM: every map succeeds and nothing is done\n");
            return Ok(Self {
                _shared: SharedSpaces,
                _watch: None,
                _driver: None,
                _spaces: spaces,
            });
        }
        let driver = ffi::PfDriver::register()?;
        let watch = ffi::PfWatch::start()?;
        Ok(Self {
            _shared: SharedSpaces,
            _watch: Some(watch),
            _driver: Some(driver),
            _spaces: spaces,
        })
    }
}

impl kernel::InPlaceModule for QatIommu {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        host::init();
        owner::init();
        try_pin_init!(Self {
            host: HostLinks::new(config::load()?.vm)?,
            _listings: ffi::Listings::create(),
            node <- device::Node::register(module),
        })
    }
}
