// SPDX-License-Identifier: GPL-2.0
//! The processor: whether it says that this is a virtual machine.

use super::Host;

impl Host {
    /// Whether the processor says that a hypervisor runs this kernel.
    pub fn in_vm(&self) -> bool {
        self.cpu_line("flags")
            .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
    }

    fn cpu_line(&self, name: &str) -> Option<String> {
        let text = self.read("/proc/cpuinfo").ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_flag_is_a_whole_word() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("proc")).unwrap();
        let host = Host::below(tree.path());
        for (flags, vm) in [("fpu hypervisor lm", true), ("fpu nohypervisor lm", false)] {
            let text = format!("vendor_id\t: GenuineIntel\nflags\t\t: {flags}\n");
            fs::write(tree.path().join("proc/cpuinfo"), text).unwrap();
            assert_eq!(host.in_vm(), vm);
        }
    }
}
