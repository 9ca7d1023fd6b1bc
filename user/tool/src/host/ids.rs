// SPDX-License-Identifier: GPL-2.0
//! Which PCI ids are QAT's: PFs and VFs, and what the module's parameter `ids=` adds.

use super::Host;

const INTEL: u16 = 0x8086;

/// Name, PF, VF: all of Intel's.
const KNOWN: [(&str, u16, u16); 11] = [
    ("DH895xCC", 0x0435, 0x0443),
    ("C3xxx", 0x19e2, 0x19e3),
    ("C62x", 0x37c8, 0x37c9),
    ("4xxx", 0x4940, 0x4941),
    ("401xx", 0x4942, 0x4943),
    ("402xx", 0x4944, 0x4945),
    ("420xx", 0x4946, 0x4947),
    ("6xxx", 0x4948, 0x4949),
    ("D15xx", 0x6f54, 0x6f55),
    ("200xx", 0x18ee, 0x18ef),
    ("C4xxx", 0x18a0, 0x18a1),
];

/// The name of a PF's kind, `None` if it is none that is built in.
pub fn pf_name(vendor: u16, device: u16) -> Option<&'static str> {
    let found = KNOWN.iter().find(|(_, pf, _)| *pf == device)?;
    (vendor == INTEL).then_some(found.0)
}

/// The name of a VF's kind.
pub fn vf_name(vendor: u16, device: u16) -> Option<&'static str> {
    let found = KNOWN.iter().find(|(_, _, vf)| *vf == device)?;
    (vendor == INTEL).then_some(found.0)
}

impl Host {
    /// The ids that the loaded module accepts beside those that are built in.
    pub(super) fn added_ids(&self) -> Vec<(u16, u16)> {
        let text = self.read("/sys/module/qat_iommu/parameters/ids");
        text.map(|text| parse_ids(&text)).unwrap_or_default()
    }
}

/// `vvvv:dddd[/dma-bits][,...]`
fn parse_ids(text: &str) -> Vec<(u16, u16)> {
    let hex = |digits: &str| u16::from_str_radix(digits, 16).ok();
    let one = |entry: &str| {
        let (vendor, device) = entry.split('/').next()?.split_once(':')?;
        Some((hex(vendor)?, hex(device)?))
    };
    text.split(',').filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_knows_the_same_pfs() {
        let module = include_str!("../../../../remap/ids.rs");
        let table = module
            .split_once("const KNOWN: ")
            .and_then(|(_, rest)| rest.split_once("];"))
            .map(|(table, _)| table)
            .expect("the module has a table");
        let known: Vec<u16> = table
            .split("0x")
            .skip(1)
            .filter_map(|entry| u16::from_str_radix(entry.get(..4)?, 16).ok())
            .collect();
        assert_eq!(known, KNOWN.map(|(_, pf, _)| pf));
    }

    #[test]
    fn pfs_and_vfs_are_told_apart() {
        assert_eq!(pf_name(0x8086, 0x4940), Some("4xxx"));
        assert_eq!(pf_name(0x8086, 0x4941), None);
        assert_eq!(vf_name(0x8086, 0x4941), Some("4xxx"));
        assert_eq!(pf_name(0x1234, 0x4940), None);
    }

    #[test]
    fn the_parameter_is_read_as_the_module_does() {
        assert_eq!(
            parse_ids("1234:11e8,8086:abcd/40,"),
            [(0x1234, 0x11e8), (0x8086, 0xabcd)]
        );
    }
}
