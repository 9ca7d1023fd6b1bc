// SPDX-License-Identifier: GPL-2.0
//! The machines of scripts/lib/test-boots.sh, by name: their options, and what the tests are told of
//! them. Those of test-boots-debug.sh are there too, as `debug-` and their name.

use anyhow::{ensure, Context as _, Result};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

pub struct Machine {
    pub kernel: Kernel,
    /// For scripts/vm.
    pub options: Vec<String>,
    /// For the test program.
    pub told: Vec<String>,
}

const SCRIPT: &str = r#"
. scripts/lib/common.sh
. scripts/lib/test-boots.sh
machines() {
	boots | while IFS='|' read -r name options _; do
		read -r -a words <<<"$options"
		echo "$1$(xargs <<<"$name")|$2 $(xargs <<<"$options")|$(guest_options "${words[@]}" | xargs)"
	done
}
machines '' '--kernel stock'
. scripts/lib/test-boots-debug.sh
machines debug- '--kernel debug'
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
    let (options, told) = (words()?, words()?);
    Some((
        name,
        Machine {
            kernel: match options.get(1).map(String::as_str) {
                Some("debug") => Kernel::Debug,
                _ => Kernel::Stock,
            },
            options: without(options, "--timeout"),
            told,
        },
    ))
}

/// Which of the project's kernels it boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    Stock,
    Debug,
}

impl Kernel {
    /// As scripts/build-module calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Debug => "debug",
        }
    }
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
        let (name, machine) =
            machine("debug-a|--kernel debug --iommu amd --pfs 2 --timeout 480 --smp 2|--iommu amd")
                .expect("the line is whole");
        assert_eq!(name, "debug-a");
        assert_eq!(machine.kernel, Kernel::Debug);
        assert_eq!(
            machine.options,
            ["--kernel", "debug", "--iommu", "amd", "--pfs", "2", "--smp", "2"]
        );
        assert_eq!(machine.told, ["--iommu", "amd"]);
    }
}
