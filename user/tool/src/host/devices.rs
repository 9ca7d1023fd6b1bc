// SPDX-License-Identifier: GPL-2.0
//! PCI functions: which are PFs, who holds them, their VFs.

use qat_iommu::PfAddress;

use super::{ids, Host};

const DEVICES: &str = "/sys/bus/pci/devices";

/// One PCI function.
#[derive(Debug, Clone)]
pub struct Function {
    pub address: PfAddress,
    pub vendor: u16,
    pub device: u16,
    /// The driver that holds it.
    pub driver: Option<String>,
    /// The only driver that may take it, by `driver_override`.
    pub kept_for: Option<String>,
    /// The number of its IOMMU group; none where no IOMMU translates.
    pub group: Option<u32>,
    /// Of a VF: its PF.
    pub physfn: Option<String>,
    /// VFs that are on.
    pub vfs: u64,
    /// VFs that there can be; `None` without SR-IOV.
    pub vfs_possible: Option<u64>,
}

impl Function {
    /// Where sysfs has it.
    pub fn directory(&self) -> String {
        format!("{DEVICES}/{}", self.address)
    }

    /// What kind of PF it is, for people.
    pub fn kind(&self) -> String {
        let name = ids::pf_name(self.vendor, self.device);
        match name.or_else(|| ids::vf_name(self.vendor, self.device)) {
            Some(name) => format!("QAT {name}"),
            None => self.ids(),
        }
    }

    /// Vendor and device id.
    pub fn ids(&self) -> String {
        format!("{:04x}:{:04x}", self.vendor, self.device)
    }

    pub fn is_vf(&self) -> bool {
        self.physfn.is_some()
    }
}

impl Host {
    /// One function; `None` if there is none, or its directory cannot be read.
    pub fn function(&self, address: PfAddress) -> Option<Function> {
        let directory = format!("{DEVICES}/{address}");
        let file = |name: &str| format!("{directory}/{name}");
        let id = |name| u16::try_from(self.number(file(name))?).ok();
        let kept_for = self.read(file("driver_override")).ok();
        Some(Function {
            address,
            vendor: id("vendor")?,
            device: id("device")?,
            driver: self.link(file("driver")),
            kept_for: kept_for.filter(|name| !name.is_empty() && name != "(null)"),
            group: self
                .link(file("iommu_group"))
                .and_then(|name| name.parse().ok()),
            physfn: self.link(file("physfn")),
            vfs: self.number(file("sriov_numvfs")).unwrap_or(0),
            vfs_possible: self.number(file("sriov_totalvfs")),
        })
    }

    /// Every function of every PCI bus.
    pub fn functions(&self) -> Vec<Function> {
        let addresses = self
            .names(DEVICES)
            .into_iter()
            .flat_map(|name| name.parse());
        addresses
            .filter_map(|address| self.function(address))
            .collect()
    }

    /// Every PF that the module would accept.
    pub fn pfs(&self) -> Vec<Function> {
        let mut functions = self.functions();
        functions.retain(|function| self.is_pf(function));
        functions
    }

    /// Every VF of a kind that Intel made.
    pub fn qat_vfs(&self) -> Vec<Function> {
        let mut functions = self.functions();
        functions.retain(|function| ids::vf_name(function.vendor, function.device).is_some());
        functions
    }

    /// Whether the module accepts a function as a PF.
    pub fn is_pf(&self, function: &Function) -> bool {
        let known = ids::pf_name(function.vendor, function.device).is_some();
        let added = || {
            self.added_ids()
                .contains(&(function.vendor, function.device))
        };
        !function.is_vf() && (known || added())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink, path::Path};

    /// A function in a prepared tree.
    pub fn place(root: &Path, address: &str, ids: (u16, u16), driver: Option<&str>, group: u32) {
        let directory = root.join("sys/bus/pci/devices").join(address);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("vendor"), format!("{:#06x}\n", ids.0)).unwrap();
        fs::write(directory.join("device"), format!("{:#06x}\n", ids.1)).unwrap();
        fs::write(directory.join("driver_override"), "(null)\n").unwrap();
        symlink(
            format!("../../groups/{group}"),
            directory.join("iommu_group"),
        )
        .unwrap();
        if let Some(driver) = driver {
            symlink(format!("../../drivers/{driver}"), directory.join("driver")).unwrap();
        }
    }

    #[test]
    fn pfs_are_found_with_what_holds_them() {
        let tree = tempfile::tempdir().unwrap();
        place(
            tree.path(),
            "0000:6b:00.0",
            (0x8086, 0x4940),
            Some("qat_4xxx"),
            7,
        );
        place(tree.path(), "0000:6b:00.1", (0x8086, 0x4941), None, 8);
        place(tree.path(), "0000:00:1f.0", (0x8086, 0x1234), None, 9);
        let host = Host::below(tree.path());
        let pfs = host.pfs();
        assert_eq!(pfs.len(), 1);
        assert_eq!(pfs[0].address.to_string(), "0000:6b:00.0");
        assert_eq!(pfs[0].driver.as_deref(), Some("qat_4xxx"));
        assert_eq!((pfs[0].group, pfs[0].kept_for.as_deref()), (Some(7), None));
        assert_eq!(pfs[0].kind(), "QAT 4xxx");
        assert_eq!(host.qat_vfs().len(), 1);
    }

    #[test]
    fn a_vf_is_no_pf_whatever_its_id() {
        let tree = tempfile::tempdir().unwrap();
        place(tree.path(), "0000:6b:00.1", (0x8086, 0x4940), None, 8);
        let directory = tree.path().join("sys/bus/pci/devices/0000:6b:00.1");
        symlink("../0000:6b:00.0", directory.join("physfn")).unwrap();
        assert!(Host::below(tree.path()).pfs().is_empty());
    }
}
