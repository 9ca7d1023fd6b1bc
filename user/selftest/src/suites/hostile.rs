// SPDX-License-Identifier: GPL-2.0
//! Hostile use that no other suite is about: callers without rights, memory that is changed or
//! never comes while a call looks at it, and more mappings than anyone needs. The table in
//! docs/security.md says where the rest is.

mod access;
mod changing;
mod limits;
mod pinning;
mod unanswered;

use crate::host::Host;
use crate::ktap::Test;

pub fn suite_parts() -> Vec<Vec<Test<Host>>> {
    vec![
        access::tests(),
        changing::tests(),
        limits::tests(),
        pinning::tests(),
        unanswered::tests(),
    ]
}
