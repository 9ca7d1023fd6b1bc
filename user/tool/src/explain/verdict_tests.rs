// SPDX-License-Identifier: GPL-2.0
//! Verdicts on made-up scenes; with real faults they are tried in the test machines.

use super::*;
use crate::explain::line::Fault;
use crate::records::Fields;

const PF: &str = "0000:01:00.0";
const OTHER: &str = "0000:02:00.0";

fn function(address: &str) -> Function {
    Function {
        address: address.parse().unwrap(),
        vendor: 0x8086,
        device: 0x4940,
        driver: Some(OWN_DRIVER.into()),
        kept_for: None,
        group: Some(1),
        physfn: None,
        vfs: 0,
        vfs_possible: None,
    }
}

fn space(number: u64, pf: &str) -> Space {
    let line = format!(
        "space={number} kind=owned translated=1 pfs={pf} aperture=0x0-0xffffffffffff \
         pages=0x1000 mappings=0 bytes=0x0 pinned=0x0 reserved=0xfee00000-0xfeefffff"
    );
    Space::from_fields(&Fields::new(&line)).unwrap()
}

fn mapping(space: u64, first: u64, kind: &str, access: &str) -> Mapping {
    let line = format!(
        "space={space} first={first:#x} last={:#x} kind={kind} access={access} backing=0x70000000 \
         page=0x1000..0x1000 context=1 pid=9 caller=- comm=prog",
        first + 0x1fff
    );
    Mapping::from_fields(&Fields::new(&line)).unwrap()
}

fn gone(when: u64, why: &str, mapping: Mapping) -> Gone {
    Gone {
        when,
        why: why.into(),
        mapping,
    }
}

/// A write of the first PF, at 10 s.
fn write_to(address: u64) -> Fault {
    let line = format!(
        "[   10.000000] DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr \
         {address:#x} [fault reason 0x05] PTE Write access is not set"
    );
    Fault::parse(&line).unwrap()
}

fn judge(records: &Records, fault: &Fault) -> Verdict {
    let functions = vec![function(PF), function(OTHER)];
    let scene = Scene {
        pfs: functions.clone(),
        functions,
        records,
        ram: vec![0x10_0000..=0x3fff_ffff],
    };
    scene.judge(fault)
}

fn records(mappings: Vec<Mapping>, history: Vec<Gone>) -> Records {
    Records {
        spaces: vec![space(1, PF), space(2, OTHER)],
        contexts: Vec::new(),
        mappings,
        history,
    }
}

const AT: u64 = 0x10_0000_0000;

#[test]
fn what_went_before_the_fault_is_told_by_how_it_went() {
    for (why, cause) in [
        ("unmap", Cause::UsedAfterUnmap),
        ("close", Cause::ReleasedByClose),
        ("unbind", Cause::ReleasedByUnbind),
        ("force", Cause::ReleasedByForce),
        ("failed", Cause::MapFailed),
    ] {
        let history = vec![gone(9_000_000_000, why, mapping(1, AT, "user", "rw"))];
        assert_eq!(
            judge(&records(vec![], history), &write_to(AT + 0x1000)).cause,
            cause
        );
    }
}

#[test]
fn what_went_after_the_fault_was_there() {
    let history = vec![gone(11_000_000_000, "unmap", mapping(1, AT, "user", "r"))];
    let verdict = judge(&records(vec![], history), &write_to(AT));
    assert_eq!(verdict.cause, Cause::WriteToReadOnly);
    let history = vec![gone(11_000_000_000, "unmap", mapping(1, AT, "user", "rw"))];
    let verdict = judge(&records(vec![], history), &write_to(AT));
    assert_ne!(verdict.cause, Cause::UsedAfterUnmap);
}

#[test]
fn the_latest_before_the_fault_counts() {
    let history = vec![
        gone(1_000_000_000, "close", mapping(1, AT, "user", "rw")),
        gone(9_000_000_000, "unmap", mapping(1, AT, "user", "rw")),
        gone(12_000_000_000, "close", mapping(1, AT, "user", "rw")),
    ];
    let verdict = judge(&records(vec![], history), &write_to(AT));
    assert_eq!(verdict.cause, Cause::UsedAfterUnmap);
    assert_eq!(verdict.gone.unwrap().when, 9_000_000_000);
}

#[test]
fn beside_and_within_a_live_mapping() {
    let live = records(vec![mapping(1, AT, "user", "r")], vec![]);
    assert_eq!(judge(&live, &write_to(AT)).cause, Cause::WriteToReadOnly);
    let verdict = judge(&live, &write_to(AT + 0x2000));
    assert_eq!((verdict.cause, verdict.distance), (Cause::PastEnd, Some(0)));
    let verdict = judge(&live, &write_to(AT - 0x1000));
    assert_eq!(
        (verdict.cause, verdict.distance),
        (Cause::BeforeStart, Some(0x1000))
    );
    assert_eq!(
        judge(&live, &write_to(AT + 0x100_0000)).cause,
        Cause::NeverMapped
    );
    let writable = records(vec![mapping(1, AT, "user", "rw")], vec![]);
    assert_eq!(judge(&writable, &write_to(AT)).cause, Cause::MappedNow);
}

#[test]
fn mapped_again_since() {
    let history = vec![gone(9_000_000_000, "unmap", mapping(1, AT, "user", "rw"))];
    let verdict = judge(
        &records(vec![mapping(1, AT, "user", "rw")], history),
        &write_to(AT),
    );
    assert_eq!(verdict.cause, Cause::UsedAfterUnmap);
    assert!(verdict.mapping.is_some() && verdict.gone.is_some());
}

#[test]
fn another_pf_and_other_kinds_of_address() {
    let other = records(vec![mapping(2, AT, "user", "rw")], vec![]);
    let verdict = judge(&other, &write_to(AT));
    assert_eq!(verdict.cause, Cause::AnotherPf);
    assert_eq!(verdict.others, [OTHER]);

    let physical = records(vec![mapping(1, AT, "phys", "rw")], vec![]);
    let verdict = judge(&physical, &write_to(0x7000_1000));
    assert_eq!(
        (verdict.cause, verdict.right),
        (Cause::PhysicalAddress, Some(AT + 0x1000))
    );
    let user = records(vec![mapping(1, AT, "user", "rw")], vec![]);
    let verdict = judge(&user, &write_to(0x7000_1000));
    assert_eq!(
        (verdict.cause, verdict.right),
        (Cause::ProgramAddress, Some(AT + 0x1000))
    );

    let nothing = records(vec![], vec![]);
    assert_eq!(
        judge(&nothing, &write_to(0x20_0000)).cause,
        Cause::PhysicalAddress
    );
    assert_eq!(judge(&nothing, &write_to(0x20_0000)).right, None);
    assert_eq!(judge(&nothing, &write_to(0)).cause, Cause::Null);
    assert_eq!(
        judge(&nothing, &write_to(0xfee0_0000)).cause,
        Cause::Reserved
    );
    assert_eq!(
        judge(&nothing, &write_to(1 << 48)).cause,
        Cause::BeyondAperture
    );
}

#[test]
fn a_pf_without_a_space() {
    let mut records = records(vec![], vec![]);
    records.spaces.clear();
    assert_eq!(judge(&records, &write_to(AT)).cause, Cause::NotBound);
    records.history = vec![gone(9_000_000_000, "unbind", mapping(1, AT, "user", "rw"))];
    assert_eq!(
        judge(&records, &write_to(AT)).cause,
        Cause::ReleasedByUnbind
    );
}

#[test]
fn what_cannot_be_known_is_said() {
    let line = "AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:01:00.0 domain=0x0000 address=0x0 \
                flags=0x0000]";
    let history = vec![gone(9_000_000_000, "unmap", mapping(1, AT, "user", "rw"))];
    let verdict = judge(&records(vec![], history), &Fault::parse(line).unwrap());
    assert_eq!(verdict.cause, Cause::NoAddress);
    assert_eq!(verdict.recent.len(), 1);
    let nobody = "AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:00:00.0 domain=0x0000 \
                  address=0x0 flags=0x0000]";
    let verdict = judge(&records(vec![], vec![]), &Fault::parse(nobody).unwrap());
    assert_eq!(verdict.cause, Cause::NoAddress);
    assert_eq!(verdict.others, [PF, OTHER]);
    let stranger = "DMAR: [DMA Read NO_PASID] Request device [00:1f.0] fault addr 0x1000 [fault \
                    reason 0x06] PTE Read access is not set";
    let verdict = judge(&records(vec![], vec![]), &Fault::parse(stranger).unwrap());
    assert_eq!(verdict.cause, Cause::NotAPf);
}

#[test]
fn an_address_alone() {
    let live = records(vec![mapping(2, AT, "user", "rw")], vec![]);
    let verdict = judge(&live, &Fault::at(AT));
    assert_eq!((verdict.cause, verdict.space), (Cause::MappedNow, Some(2)));
    assert_eq!(judge(&live, &Fault::at(AT + 0x2000)).cause, Cause::PastEnd);
    assert_eq!(judge(&live, &Fault::at(AT * 7)).cause, Cause::NeverMapped);
}

#[test]
fn a_refused_interrupt_is_a_write_into_the_window() {
    let line = "DMAR: [INTR-REMAP] Request device [01:00.0] fault index 0x0 [fault reason 0x25] \
                Blocked a compatibility format interrupt request";
    let verdict = judge(&records(vec![], vec![]), &Fault::parse(line).unwrap());
    assert_eq!(verdict.cause, Cause::Reserved);
    assert_eq!(verdict.pf.as_deref(), Some(PF));
}
