// SPDX-License-Identifier: GPL-2.0
//! The checks, in their order.

mod boot;
mod driver;
mod fixed;
mod group;
mod hugepages;
mod iommu;
mod leftovers;
mod lockdown;
mod memlock;
mod module;
mod node;
mod pf;
mod reserved;
mod sriov;
mod virt;

use super::{Facts, Finding};

type Check = fn(&Facts) -> Vec<Finding>;

const ALL: [Check; 16] = [
    pf::check,
    iommu::check,
    module::built,
    module::loaded,
    module::signed,
    lockdown::check,
    driver::check,
    fixed::check,
    sriov::check,
    group::check,
    reserved::check,
    node::check,
    memlock::check,
    hugepages::check,
    leftovers::check,
    boot::check,
];

pub fn all(facts: &Facts) -> Vec<Finding> {
    let checks = ALL.iter().flat_map(|check| check(facts));
    checks.chain(virt::check(facts)).collect()
}
