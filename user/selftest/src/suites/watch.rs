// SPDX-License-Identifier: GPL-2.0
//! Watching the module: who holds what, what is mapped where, and what was.

mod events;
mod forced;
mod history;
mod listings;
mod permissions;

use crate::host::Host;
use crate::ktap::Test;

const PAGE_U64: u64 = 4096;

/// Everything, with an owned PF.
pub fn suite_parts() -> Vec<Vec<Test<Host>>> {
    vec![
        permissions::tests(),
        listings::tests(),
        history::tests(),
        events::tests(),
        forced::tests(),
    ]
}

/// What a shared PF shows otherwise.
pub fn shared_parts() -> Vec<Vec<Test<Host>>> {
    vec![listings::shared_tests(), history::shared_tests()]
}
