// SPDX-License-Identifier: GPL-2.0
//! Does the file for the boot say what can be done?

use crate::bind::config::{self, CONFIG};
use crate::doctor::{Facts, Finding};

const ID: &str = "boot";

pub fn check(facts: &Facts) -> Vec<Finding> {
    let Ok(text) = facts.host.read(CONFIG) else {
        return Vec::new();
    };
    let entries = match config::parse(&text) {
        Ok(entries) => entries,
        Err(error) => {
            return vec![Finding::failure(
                ID,
                format!("{CONFIG}: {error:#}"),
                format!("sudo editor {CONFIG}"),
            )]
        }
    };
    let missing: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry.pf)
        .filter(|address| !facts.pfs.iter().any(|pf| pf.address == *address))
        .map(|address| address.to_string())
        .collect();
    vec![if missing.is_empty() {
        Finding::ok(ID, format!("{CONFIG} names PFs that are there"))
    } else {
        Finding::warning(
            ID,
            format!(
                "{CONFIG} names {}, which is no PF of this host",
                missing.join(", ")
            ),
            format!("sudo editor {CONFIG}"),
        )
    }]
}
