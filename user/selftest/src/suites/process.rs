// SPDX-License-Identifier: GPL-2.0
//! Processes in every way that they hand a context on or lose it, and the module that
//! comes and goes beneath them.

mod cgroup;
mod handing;
mod loads;

use crate::host::Host;
use crate::ktap::Test;

/// Everything, with an owned PF.
pub fn suite_parts() -> Vec<Vec<Test<Host>>> {
    vec![handing::tests(), cgroup::tests(), loads::tests()]
}

/// What matters where PFs belong to their own driver.
pub fn shared_parts() -> Vec<Vec<Test<Host>>> {
    vec![loads::tests()]
}
