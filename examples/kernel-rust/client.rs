// SPDX-License-Identifier: GPL-2.0

//! A Rust kernel client of `qat_iommu`, whole: while it is loaded the QAT PFs of this host reach a
//! page of its own. A driver hands the IOVA to its device where this one writes it to the log.

mod remap;

use kernel::{page::Page, prelude::*};
use remap::{Mapping, Refused};

module! {
    type: Client,
    name: "qat_client_rust",
    authors: ["The qat-iommu developers"],
    description: "Example of a Rust kernel client of qat_iommu",
    license: "GPL",
}

const TEXT: &[u8] = b"memory of a Rust kernel client";

/// What lives as long as the module is loaded. Dropping it unmaps the page, then frees it.
struct Client {
    _mapping: Mapping,
}

impl kernel::Module for Client {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // The IOMMU's smallest page could be larger than the kernel's.
        if remap::remap_size(TEXT.len()) != Some(Mapping::SIZE) {
            pr_err!("a mapping of the text does not cover exactly a page\n");
            return Err(EOPNOTSUPP);
        }
        let page = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: The text is shorter than a page, and nobody else knows the page.
        unsafe { page.write_raw(TEXT.as_ptr(), 0, TEXT.len()) }?;
        let mapping = Mapping::new(page).map_err(|Refused| {
            pr_err!("the page was refused; qat_iommu's debug messages say why\n");
            EIO
        })?;
        pr_info!(
            "the PFs reach {} bytes at IOVA {:#x}\n",
            Mapping::SIZE,
            mapping.iova()
        );
        Ok(Self { _mapping: mapping })
    }
}
