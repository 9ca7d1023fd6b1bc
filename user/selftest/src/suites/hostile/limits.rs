// SPDX-License-Identifier: GPL-2.0
//! A million attempts to map one page again: each mapping has pins of its own, so that
//! RLIMIT_MEMLOCK bounds their number, and with it what the kernel keeps of them.

use anyhow::Result;

use crate::helper::{user::Task, Helper};
use crate::host::Host;
use crate::ktap::{list_tests, Test};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![a_million_mappings_of_a_page]
}

fn a_million_mappings_of_a_page(_: &Host) -> Result<()> {
    Helper::succeeds(&Task::Million, None)
}
