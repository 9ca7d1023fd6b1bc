// SPDX-License-Identifier: GPL-2.0
//! The emulated PFs' own record of what the IOMMU let them reach, as `scripts/vm`
//! writes it: an account from outside the machine, held against what must be so.

use anyhow::{ensure, Context as _, Result};
use serde_json::Value;
use std::path::Path;

/// What must be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Claim {
    /// Nothing came within reach after boot
    NothingAdded,
    /// At the end nothing is within reach that was not at boot
    NothingLeft,
    /// Something did come within reach after boot, so that the record can be trusted
    SomethingAdded,
}

/// Checks a claim against a record of `pfs` PFs.
pub fn check(file: &Path, pfs: usize, claim: Claim) -> Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let record: Value = serde_json::from_str(&text).context("the record is no JSON")?;
    check_value(&record, pfs, claim)
}

fn check_value(record: &Value, pfs: usize, claim: Claim) -> Result<()> {
    let entries = record.as_array().context("the record is no list")?;
    ensure!(
        entries.len() == pfs,
        "{} PFs in the record, not {pfs}",
        entries.len()
    );
    for entry in entries {
        let name = entry["name"].as_str().context("a PF without a name")?;
        check_one(entry, claim).with_context(|| name.to_owned())?;
    }
    Ok(())
}

fn ranges<'a>(entry: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    entry[field]
        .as_array()
        .with_context(|| format!("no list {field:?}; was the end of boot marked?"))
}

fn without<'a>(ranges: &'a [Value], others: &[Value]) -> Vec<&'a Value> {
    let missing = |range: &&Value| !others.contains(range);
    ranges.iter().filter(missing).collect()
}

/// Whether the host driver, bound anew, can have as much as it had before at other addresses.
fn is_moved(before: &[&Value], now: &[&Value]) -> bool {
    let size = |range: &&Value| range["size"].as_u64();
    let bytes = |ranges: &[&Value]| ranges.iter().map(size).sum::<Option<u64>>();
    bytes(now).is_some() && bytes(now) == bytes(before)
}

fn check_one(entry: &Value, claim: Claim) -> Result<()> {
    let added = entry["added_after_boot"]
        .as_u64()
        .context("no count of what was added; was the end of boot marked?")?;
    match claim {
        Claim::NothingAdded => ensure!(
            added == 0,
            "{added} ranges came within reach after boot: {}",
            entry["added_after_boot_ranges"]
        ),
        Claim::SomethingAdded => ensure!(added > 0, "nothing came within reach after boot"),
        Claim::NothingLeft => {
            let (at_boot, now) = (ranges(entry, "at_mark")?, ranges(entry, "now")?);
            let left = without(now, at_boot);
            ensure!(
                left.is_empty() || is_moved(&without(at_boot, now), &left),
                "still within reach at the end: {left:?}"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(added: u64, at_mark: Value, now: Value) -> Value {
        json!([{
            "name": "pf0",
            "added_after_boot": added,
            "added_after_boot_ranges": [],
            "at_mark": at_mark,
            "now": now,
        }])
    }

    #[test]
    fn what_was_added_is_seen() {
        let quiet = record(0, json!([]), json!([]));
        let busy = record(3, json!([]), json!([]));
        assert!(check_value(&quiet, 1, Claim::NothingAdded).is_ok());
        assert!(check_value(&busy, 1, Claim::NothingAdded).is_err());
        assert!(check_value(&quiet, 1, Claim::SomethingAdded).is_err());
        assert!(check_value(&busy, 1, Claim::SomethingAdded).is_ok());
    }

    #[test]
    fn what_is_left_is_seen() {
        let range = json!({"first": "0x1000", "last": "0x1fff"});
        let left = record(1, json!([]), json!([range]));
        assert!(check_value(&left, 1, Claim::NothingLeft).is_err());
        let kept = record(1, json!([range]), json!([range]));
        assert!(check_value(&kept, 1, Claim::NothingLeft).is_ok());
    }

    #[test]
    fn what_a_driver_has_may_move() {
        let range = |iova: u64, size: u64| json!({"iova": iova, "size": size});
        let left = |now: Value| {
            let record = record(1, json!([range(0xffff_f000, 0x1000)]), now);
            check_value(&record, 1, Claim::NothingLeft)
        };
        assert!(left(json!([range(0xffff_e000, 0x1000)])).is_ok());
        assert!(left(json!([range(0xffff_e000, 0x2000)])).is_err());
        assert!(left(json!([])).is_ok());
    }

    #[test]
    fn a_record_without_a_mark_proves_nothing() {
        let unmarked = json!([{"name": "pf0", "added_after_boot": null, "now": []}]);
        for claim in [
            Claim::NothingAdded,
            Claim::NothingLeft,
            Claim::SomethingAdded,
        ] {
            assert!(check_value(&unmarked, 1, claim).is_err());
        }
    }

    #[test]
    fn every_pf_must_be_there() {
        let quiet = record(0, json!([]), json!([]));
        assert!(check_value(&quiet, 2, Claim::NothingAdded).is_err());
        assert!(check_value(&json!([]), 1, Claim::NothingAdded).is_err());
    }
}
