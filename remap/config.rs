// SPDX-License-Identifier: GPL-2.0

//! The module parameters, checked: where the kernel runs, what may be mapped, which further PFs
//! are accepted. Written once before anything can call in, read without a lock afterwards.

use super::{
    ffi,
    ids::Ids, //
};
use kernel::{
    prelude::*,
    sync::SetOnce, //
};

/// `shared_fixed=`: which fixed IOVAs a PF may have that its own driver holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SharedFixed {
    /// From 4 GiB up: the DMA API fills the 32-bit space first.
    High,
    /// All of them.
    Any,
    /// None.
    Off,
}

/// `phys=`: which physical ranges user space may map.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PhysPolicy {
    /// System RAM only.
    Ram,
    /// MMIO as well.
    Any,
    /// None.
    Off,
}

/// What the parameters say.
pub(crate) struct Config {
    /// The kernel runs in a virtual machine: nothing is done.
    pub(crate) vm: bool,
    pub(crate) shared_fixed: SharedFixed,
    pub(crate) phys: PhysPolicy,
    pub(crate) ids: Ids,
}

static CONFIG: SetOnce<Config> = SetOnce::new();

/// Looks `given` up among the values that the parameter `name` can have.
fn choose<T: Copy>(name: &str, given: &CStr, values: &[(&str, T)]) -> Result<T> {
    let text = given.to_str().map_err(|_| EINVAL)?;
    for (word, value) in values {
        if *word == text {
            return Ok(*value);
        }
    }
    pr_err!("the parameter {name}= does not know '{text}'; `modinfo qat_iommu` lists its values\n");
    Err(EINVAL)
}

impl Config {
    fn read() -> Result<Self> {
        let params = ffi::params();
        Ok(Self {
            vm: choose(
                "virt",
                params.virt,
                &[("auto", ffi::hypervisor()), ("host", false), ("vm", true)],
            )?,
            shared_fixed: choose(
                "shared_fixed",
                params.shared_fixed,
                &[
                    ("high", SharedFixed::High),
                    ("any", SharedFixed::Any),
                    ("off", SharedFixed::Off),
                ],
            )?,
            phys: choose(
                "phys",
                params.phys,
                &[
                    ("ram", PhysPolicy::Ram),
                    ("any", PhysPolicy::Any),
                    ("off", PhysPolicy::Off),
                ],
            )?,
            ids: Ids::parse(params.ids)?,
        })
    }
}

/// Reads and checks the parameters. For the module's init, before anything else.
pub(crate) fn load() -> Result<&'static Config> {
    CONFIG.populate(Config::read()?);
    config()
}

/// The configuration.
pub(crate) fn config() -> Result<&'static Config> {
    CONFIG.as_ref().ok_or(ENODEV)
}
