// SPDX-License-Identifier: GPL-2.0

//! A Rust kernel client of `qat_iommu`: loading it makes the calls on pages of its own, and
//! succeeds if each of them answered as this host's state demands.

/// The module that the example offers to be copied.
#[path = "../../examples/kernel-rust/remap.rs"]
mod remap;

use core::borrow::Borrow;
use kernel::{page::Page, prelude::*};
use remap::Mapping;

module! {
    type: Client,
    name: "qat_kclient_rust",
    authors: ["The qat-iommu developers"],
    description: "Example and test of a Rust kernel client of qat_iommu",
    license: "GPL",
    params: {
        expect: u8 {
            default: 0,
            description: "What the host is: 0 a host with a usable PF, 1 a virtual machine, 2 a host without a usable PF",
        },
    },
}

/// The states of a host that answer differently.
enum Expect {
    /// Maps and unmaps hold, and the calls check them.
    Tracked,
    /// Every call succeeds and does nothing.
    Vm,
    /// Maps and unmaps are refused.
    NoPf,
}

impl Expect {
    fn from_parameter() -> Result<Self> {
        match number(module_parameters::expect.value()) {
            0 => Ok(Self::Tracked),
            1 => Ok(Self::Vm),
            2 => Ok(Self::NoPf),
            other => {
                pr_err!("expect={other} is none of 0, 1, 2\n");
                Err(EINVAL)
            }
        }
    }
}

/// A parameter's value, which Linux 7.2 lends and 7.3 gives.
fn number(value: impl Borrow<u8>) -> u8 {
    *value.borrow()
}

fn check(what: &str, holds: bool) -> Result {
    if holds {
        return Ok(());
    }
    pr_err!("not so: {what}\n");
    Err(EIO)
}

fn check_sizes() -> Result {
    check("0 bytes have no remap size", remap::remap_size(0).is_none())?;
    check(
        "the last byte of all cannot be rounded up",
        remap::remap_size(usize::MAX).is_none(),
    )?;
    check(
        "one byte takes a page",
        remap::remap_size(1) == Some(Mapping::SIZE),
    )?;
    check(
        "a page takes a page",
        remap::remap_size(Mapping::SIZE) == Some(Mapping::SIZE),
    )
}

/// Maps, overlaps and unmaps one page; `checked` is whether the calls keep track.
fn check_mapping(checked: bool) -> Result {
    let Ok(mapping) = Mapping::new(Page::alloc_page(GFP_KERNEL)?) else {
        return check("a page of ours can be mapped", false);
    };
    let iova = mapping.iova();

    // SAFETY: The page is `mapping`'s, which is made for being reached.
    let again = unsafe { remap::map(iova, iova, Mapping::SIZE) };
    check(
        "a second map of it is refused, except in a virtual machine",
        again.is_err() == checked,
    )?;

    drop(mapping);
    check(
        "it is unmapped, so that another unmap is refused, except in a virtual machine",
        remap::unmap(iova, Mapping::SIZE).is_err() == checked,
    )
}

fn check_no_pf() -> Result {
    let mapping = Mapping::new(Page::alloc_page(GFP_KERNEL)?);
    check("without a PF a map is refused", mapping.is_err())?;
    check(
        "without a PF an unmap is refused",
        remap::unmap(0, Mapping::SIZE).is_err(),
    )
}

struct Client;

impl kernel::Module for Client {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let expect = Expect::from_parameter()?;
        check_sizes()?;
        match expect {
            Expect::Tracked => check_mapping(true)?,
            Expect::Vm => check_mapping(false)?,
            Expect::NoPf => check_no_pf()?,
        }
        pr_info!("ok\n");
        Ok(Client)
    }
}
