// SPDX-License-Identifier: GPL-2.0
//! The running kernel: its release, its command line, whether an IOMMU translates, and what it
//! refuses to load.

use super::Host;

/// What is known of the host's IOMMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iommu {
    /// Devices are in IOMMU groups.
    On,
    /// The firmware describes one, and the kernel does not use it.
    Off(Maker),
    /// The firmware describes none.
    Absent,
}

/// Whose IOMMU the firmware describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    Intel,
    Amd,
    Virtio,
}

impl Host {
    /// The release of the running kernel, as `uname -r` prints it.
    pub fn release(&self) -> String {
        self.read("/proc/sys/kernel/osrelease").unwrap_or_default()
    }

    /// Whether the kernel was booted with a word on its command line.
    pub fn booted_with(&self, word: &str) -> bool {
        let line = self.read("/proc/cmdline").unwrap_or_default();
        line.split_whitespace().any(|found| found == word)
    }

    pub fn iommu(&self) -> Iommu {
        const TABLES: [(&str, Maker); 3] = [
            ("DMAR", Maker::Intel),
            ("IVRS", Maker::Amd),
            ("VIOT", Maker::Virtio),
        ];
        if self.has_groups() {
            return Iommu::On;
        }
        let described =
            |(name, _): &&(&str, _)| self.exists(format!("/sys/firmware/acpi/tables/{name}"));
        TABLES
            .iter()
            .find(described)
            .map_or(Iommu::Absent, |(_, maker)| Iommu::Off(*maker))
    }

    /// How far the kernel is locked down: `integrity`, `confidentiality`, or not at all.
    pub fn lockdown(&self) -> Option<String> {
        let text = self.read("/sys/kernel/security/lockdown").ok()?;
        let (_, rest) = text.split_once('[')?;
        let (level, _) = rest.split_once(']')?;
        (level != "none").then(|| level.to_owned())
    }

    /// Whether the kernel refuses modules that are not signed.
    pub fn wants_signatures(&self) -> bool {
        let enforced = self.read("/sys/module/module/parameters/sig_enforce");
        enforced.is_ok_and(|value| value == "Y") || self.lockdown().is_some()
    }

    /// Whether the firmware checks what it boots.
    pub fn secure_boot(&self) -> bool {
        const VARIABLE: &str =
            "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        // Four bytes of attributes, then the value.
        std::fs::read(self.path(VARIABLE)).is_ok_and(|bytes| bytes.get(4) == Some(&1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_iommu_that_is_described_and_not_used_is_off() {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::below(tree.path());
        assert_eq!(host.iommu(), Iommu::Absent);
        fs::create_dir_all(tree.path().join("sys/firmware/acpi/tables")).unwrap();
        fs::write(tree.path().join("sys/firmware/acpi/tables/DMAR"), "").unwrap();
        assert_eq!(host.iommu(), Iommu::Off(Maker::Intel));
        fs::create_dir_all(tree.path().join("sys/kernel/iommu_groups/0")).unwrap();
        assert_eq!(host.iommu(), Iommu::On);
    }

    #[test]
    fn lockdown_is_what_stands_in_brackets() {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::below(tree.path());
        fs::create_dir_all(tree.path().join("sys/kernel/security")).unwrap();
        let file = tree.path().join("sys/kernel/security/lockdown");
        for (text, level) in [
            ("[none] integrity confidentiality\n", None),
            ("none [integrity] confidentiality\n", Some("integrity")),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(host.lockdown().as_deref(), level);
            assert_eq!(host.wants_signatures(), level.is_some());
        }
    }
}
