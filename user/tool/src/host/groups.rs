// SPDX-License-Identifier: GPL-2.0
//! IOMMU groups: which devices are in one, what its default domain is, what it may not map.

use super::Host;

const GROUPS: &str = "/sys/kernel/iommu_groups";

/// One IOMMU group.
#[derive(Debug, Clone)]
pub struct Group {
    /// Of its default domain: `DMA`, `DMA-FQ`, `identity`, ...
    pub kind: String,
    /// The addresses of its devices.
    pub devices: Vec<String>,
    pub reserved: Vec<Reserved>,
}

/// A range of IOVAs that no mapping can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    pub first: u64,
    pub last: u64,
    /// `msi`, `direct`, `direct-relaxable`, `reserved`.
    pub kind: String,
}

impl Group {
    /// Whether devices that use the DMA API go untranslated.
    pub fn is_identity(&self) -> bool {
        self.kind == "identity"
    }
}

impl Host {
    /// A group by its number.
    pub fn group(&self, number: u32) -> Option<Group> {
        let directory = format!("{GROUPS}/{number}");
        let reserved = self.read(format!("{directory}/reserved_regions"));
        Some(Group {
            kind: self.read(format!("{directory}/type")).ok()?,
            devices: self.names(format!("{directory}/devices")),
            reserved: reserved.map(|text| parse(&text)).unwrap_or_default(),
        })
    }

    /// Whether any device is behind an IOMMU that is on.
    pub fn has_groups(&self) -> bool {
        !self.names(GROUPS).is_empty()
    }
}

/// Lines `0x00000000fee00000 0x00000000feefffff msi`.
fn parse(text: &str) -> Vec<Reserved> {
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let mut number = || crate::number::parse(words.next()?).ok();
        let (first, last) = (number()?, number()?);
        Some(Reserved {
            first,
            last,
            kind: words.next()?.to_owned(),
        })
    };
    text.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_regions_are_read_as_the_kernel_writes_them() {
        let text = "0x00000000fee00000 0x00000000feefffff msi\n\
                    0x000000007a000000 0x000000007bffffff direct-relaxable\nnonsense\n";
        let ranges = parse(text);
        assert_eq!(ranges.len(), 2);
        assert_eq!(
            (ranges[0].first, ranges[0].last),
            (0xfee0_0000, 0xfeef_ffff)
        );
        assert_eq!(ranges[1].kind, "direct-relaxable");
    }
}
