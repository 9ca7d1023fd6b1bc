// SPDX-License-Identifier: GPL-2.0
//! What an administrator and the hardware do to PFs, one part for each kind of it, while
//! four threads map, unmap, look up and have the PFs do DMA; see `traffic` for what they
//! check all the while, and what is compared at the quiet points.

mod binding;
mod growth;
mod hotplug;
mod kinds;
mod removal;
mod sriov;
mod vfio;

use crate::host::Host;
use crate::ktap::Test;

/// What needs nothing but PFs.
pub fn suite_parts() -> Vec<Vec<Test<Host>>> {
    vec![
        binding::tests(),
        removal::tests(),
        kinds::tests(),
        vfio::tests(),
    ]
}

/// What needs PFs that have virtual functions.
pub fn sriov_parts() -> Vec<Vec<Test<Host>>> {
    vec![sriov::tests()]
}

/// What needs two PFs in one group.
pub fn growth_parts() -> Vec<Vec<Test<Host>>> {
    vec![growth::tests()]
}

/// What needs a hand at the slots.
pub fn hotplug_parts() -> Vec<Vec<Test<Host>>> {
    vec![hotplug::tests()]
}

/// How many steps of each thread go by between two things that are done to PFs.
const STEPS: u64 = 30;
/// What the threads do is random, and the same each time.
const SEED: u64 = 0x71a7;
