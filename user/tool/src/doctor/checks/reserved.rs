// SPDX-License-Identifier: GPL-2.0
//! Does RAM lie where the PF's IOVAs are reserved? There 1:1 maps fail.

use crate::doctor::{Facts, Finding};
use crate::host::{Function, Reserved};
use crate::number::size;

const ID: &str = "reserved";

pub fn check(facts: &Facts) -> Vec<Finding> {
    if facts.nothing_is_done() {
        return Vec::new();
    }
    let ram = facts.host.ram();
    let one = |pf: &Function| {
        let group = facts.host.group(pf.group?)?;
        let last = facts
            .usable(pf)
            .and(facts.info.as_ref().ok())
            .and_then(|info| info.aperture);
        let last = last.map_or(u64::MAX, |range| range.last.get());
        Some(judge(&pf.address.to_string(), &group.reserved, last, &ram).about(pf.address))
    };
    facts.pfs.iter().filter_map(one).collect()
}

fn judge(
    pf: &str,
    reserved: &[Reserved],
    aperture_last: u64,
    ram: &[std::ops::RangeInclusive<u64>],
) -> Finding {
    // The kernel lets a relaxable range be used for something else.
    let kept = reserved
        .iter()
        .filter(|range| range.kind != "direct-relaxable");
    let kept: Vec<&Reserved> = kept.collect();
    let overlap = |range: &&Reserved| -> u64 {
        ram.iter()
            .map(|ram| common(range.first, range.last, ram))
            .sum()
    };
    let within: u64 = kept.iter().map(overlap).sum();
    let beyond: u64 = match aperture_last.checked_add(1) {
        Some(first) => ram.iter().map(|ram| common(first, u64::MAX, ram)).sum(),
        None => 0,
    };
    let names = |range: &&Reserved| format!("{:#x}-{:#x} {}", range.first, range.last, range.kind);
    let list = kept.iter().map(names).collect::<Vec<_>>().join(", ");
    if within > 0 {
        Finding::warning(
            ID,
            format!(
                "{pf}: {} of RAM lies in reserved ranges ({list}): there 1:1 maps fail",
                size(within)
            ),
            "map at another IOVA (iova need not be phaddr), or use qaeMemMapContiguousIova",
        )
    } else if beyond > 0 {
        Finding::warning(
            ID,
            format!(
                "{pf}: {} of RAM lies beyond {aperture_last:#x}, the last IOVA: there 1:1 maps fail",
                size(beyond)
            ),
            "map at another IOVA (iova need not be phaddr), or use qaeMemMapContiguousIova",
        )
    } else if list.is_empty() {
        Finding::ok(ID, format!("{pf}: no reserved range"))
    } else {
        Finding::ok(
            ID,
            format!("{pf}: reserved ranges are clear of RAM ({list})"),
        )
    }
}

/// Bytes that two ranges have in common.
fn common(first: u64, last: u64, ram: &std::ops::RangeInclusive<u64>) -> u64 {
    let (first, last) = (first.max(*ram.start()), last.min(*ram.end()));
    last.checked_sub(first)
        .map_or(0, |length| length.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn reserved(first: u64, last: u64, kind: &str) -> Reserved {
        Reserved {
            first,
            last,
            kind: kind.into(),
        }
    }

    #[test]
    fn ram_in_a_reserved_range_is_named() {
        let msi = reserved(0xfee0_0000, 0xfeef_ffff, "msi");
        let rmrr = reserved(0x7a00_0000, 0x7bff_ffff, "direct");
        let ram = [0..=0x7aff_ffffu64];
        let found = judge("pf", &[msi.clone(), rmrr], u64::MAX, &ram);
        assert_eq!(found.status, Status::Warning);
        assert!(found.text.contains("16M of RAM"), "{}", found.text);
        let relaxable = reserved(0x7a00_0000, 0x7bff_ffff, "direct-relaxable");
        assert_eq!(
            judge("pf", &[msi, relaxable], u64::MAX, &ram).status,
            Status::Ok
        );
    }

    #[test]
    fn ram_beyond_the_aperture_is_named() {
        let ram = [0..=(2u64 << 39) - 1];
        let found = judge("pf", &[], (1 << 39) - 1, &ram);
        assert_eq!(found.status, Status::Warning);
        assert!(found.text.contains("512G of RAM"), "{}", found.text);
        assert_eq!(judge("pf", &[], u64::MAX, &ram).status, Status::Ok);
    }
}
