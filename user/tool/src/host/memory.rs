// SPDX-License-Identifier: GPL-2.0
//! Memory: where RAM is, and what there is of huge pages.

use std::ops::RangeInclusive;

use super::Host;

/// The huge pages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugePages {
    /// Bytes of one.
    pub size: u64,
    pub total: u64,
    pub free: u64,
}

impl Host {
    /// The ranges of RAM, in order. Only root sees where they are; none for others.
    pub fn ram(&self) -> Vec<RangeInclusive<u64>> {
        self.read("/proc/iomem")
            .map(|text| parse_ram(&text))
            .unwrap_or_default()
    }

    /// Huge pages that are reserved, by size.
    pub fn huge_pages(&self) -> Vec<HugePages> {
        const DIRECTORY: &str = "/sys/kernel/mm/hugepages";
        let one = |name: String| {
            let kib: u64 = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            let count = |file| self.number(format!("{DIRECTORY}/{name}/{file}"));
            Some(HugePages {
                size: kib << 10,
                total: count("nr_hugepages")?,
                free: count("free_hugepages")?,
            })
        };
        self.names(DIRECTORY).into_iter().filter_map(one).collect()
    }

    /// Whether the kernel makes huge pages of ordinary memory, at least where it is asked to.
    pub fn transparent_huge_pages(&self) -> bool {
        self.read("/sys/kernel/mm/transparent_hugepage/enabled")
            .is_ok_and(|text| !text.contains("[never]"))
    }
}

fn parse_ram(text: &str) -> Vec<RangeInclusive<u64>> {
    let one = |line: &str| {
        let (range, what) = line.split_once(" : ")?;
        // Inner ranges are indented.
        if what != "System RAM" || range.starts_with(' ') {
            return None;
        }
        let (first, last) = range.split_once('-')?;
        let last = u64::from_str_radix(last, 16).ok()?;
        // Those who may not know see zeros.
        (last != 0).then_some(u64::from_str_radix(first, 16).ok()?..=last)
    };
    text.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_outer_ranges_that_can_be_seen_count() {
        let text = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n\
                    00100000-3ffdefff : System RAM\n  01000000-01ffffff : Kernel code\n\
                    00000000-00000000 : System RAM\n";
        assert_eq!(parse_ram(text), [0x1000..=0x9fbff, 0x10_0000..=0x3ffd_efff]);
    }
}
