// SPDX-License-Identifier: GPL-2.0
//! The machines of scripts/lib/test-boots.sh, by name: their options, what the tests are told of
//! them, and what their PFs' record must show.

use anyhow::{ensure, Context as _, Result};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

pub struct Machine {
    /// For scripts/vm.
    pub options: Vec<String>,
    /// For the test program.
    pub told: Vec<String>,
    pub pfs: String,
    /// Claims about the record that hold whichever suites run.
    pub claims: Vec<String>,
}

const SCRIPT: &str = r#"
. scripts/lib/common.sh
. scripts/lib/test-boots.sh
boots | while IFS='|' read -r name options suites claims; do
	read -r -a words <<<"$options"
	echo "$(xargs <<<"$name")|$(xargs <<<"$options")|$(guest_options "${words[@]}" | xargs)|$(xargs <<<"$claims")"
done
"#;

pub fn read(project: &Path) -> Result<HashMap<String, Machine>> {
    let output = Command::new("bash")
        .args(["-c", SCRIPT, "scripts/mutants"])
        .current_dir(project)
        .output()
        .context("bash")?;
    ensure!(
        output.status.success(),
        "the table of machines cannot be read: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().filter_map(machine).collect())
}

fn machine(line: &str) -> Option<(String, Machine)> {
    let mut fields = line.split('|');
    let name = fields.next()?.to_owned();
    let mut words = || {
        let field = fields.next()?;
        Some(
            field
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    };
    let (options, told, claims) = (words()?, words()?, words()?);
    let pfs = options.iter().position(|word| word == "--pfs");
    let pfs = pfs.and_then(|at| options.get(at + 1)).cloned();
    Some((
        name,
        Machine {
            options: without(options, "--timeout"),
            told,
            pfs: pfs.unwrap_or_else(|| "1".to_owned()),
            claims: claims
                .into_iter()
                .filter(|claim| claim.starts_with("nothing-"))
                .collect(),
        },
    ))
}

/// The options but for one, and its value.
fn without(options: Vec<String>, gone: &str) -> Vec<String> {
    let at = options.iter().position(|word| word == gone);
    let mut options = options;
    if let Some(at) = at {
        options.drain(at..(at + 2).min(options.len()));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_machine() {
        let (name, machine) = machine(
            "a|--iommu amd --pfs 2 --timeout 480 --smp 2|--iommu amd|something-added nothing-left",
        )
        .expect("the line is whole");
        assert_eq!(name, "a");
        assert_eq!(
            machine.options,
            ["--iommu", "amd", "--pfs", "2", "--smp", "2"]
        );
        assert_eq!(machine.pfs, "2");
        assert_eq!(machine.claims, ["nothing-left"]);
    }
}
