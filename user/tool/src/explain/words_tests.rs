// SPDX-License-Identifier: GPL-2.0
//! What people read of a verdict: each cause has words of its own, and what was found is in them.

use super::*;
use crate::records::Fields;

const AT: u64 = 0x10_0000_0000;

fn line(access: &str) -> Fault {
    let line = format!(
        "[   10.500000] DMAR: [DMA {access} NO_PASID] Request device [6b:00.0] fault addr {AT:#x} \
         [fault reason 0x05] PTE access is not set"
    );
    Fault::parse(&line).unwrap()
}

fn mapping(kind: &str) -> Mapping {
    let text = format!(
        "space=2 first={AT:#x} last={:#x} kind={kind} access=r backing=0x7f0000001000 \
         page=0x1000..0x1000 context=1 pid=9 caller=- comm=my prog",
        AT + 0x1fff
    );
    Mapping::from_fields(&Fields::new(&text)).unwrap()
}

fn gone(why: &str) -> Gone {
    Gone {
        when: 9_000_000_000,
        why: why.into(),
        mapping: mapping("user"),
    }
}

fn verdict(cause: Cause) -> Verdict {
    Verdict {
        pf: Some("0000:6b:00.0".into()),
        kind: Some("QAT 4xxx".into()),
        ..Verdict::new(cause)
    }
}

/// The words of a verdict have each of these in them.
fn says(verdict: &Verdict, parts: &[&str]) {
    let text = people(&line("Write"), 1, verdict);
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn who_did_what_to_whose() {
    let live = Verdict {
        mapping: Some(mapping("user")),
        ..verdict(Cause::WriteToReadOnly)
    };
    says(
        &live,
        &[
            "Written, but mapped for reading only: 0000:6b:00.0 (QAT 4xxx) wrote 0x1000000000, in",
            "0x1000000000-0x1000001fff (8K, r, the buffer at 0x7f0000001000) of my prog (pid 9)",
            "\n  Map it for writing as well",
        ],
    );
    let read = people(&line("Read"), 3, &verdict(Cause::NeverMapped));
    assert!(read.contains(" read 0x1000000000; nothing is mapped there"));
    assert!(read.contains("  (3 times)\n"), "{read}");
}

/// What is there to say where the mapping went after the fault: it explains it all the same.
#[test]
fn a_mapping_that_went_after_the_fault() {
    let mut gone = gone("unmap");
    gone.when = 12_250_000_000;
    let late = Verdict {
        gone: Some(gone),
        ..verdict(Cause::WriteToReadOnly)
    };
    says(&late, &["was unmapped 1.750000 s after it"]);
}

#[test]
fn how_a_mapping_went_and_when() {
    for (cause, why, headline, how, advice) in [
        (
            Cause::UsedAfterUnmap,
            "unmap",
            "Used after unmap",
            "was unmapped 1.500000 s before",
            "Wait for the device",
        ),
        (
            Cause::ReleasedByClose,
            "close",
            "Used after its program closed it",
            "went when its file was closed or its program ended 1.500000 s before",
            "stop the device first",
        ),
        (
            Cause::ReleasedByUnbind,
            "unbind",
            "Used after its PF was unbound",
            "went when its PF was unbound 1.5",
            "Map again once the PF is bound",
        ),
        (
            Cause::ReleasedByForce,
            "force",
            "Used after it was released by force",
            "was released by force 1.5",
            "unmap --force",
        ),
        (
            Cause::MapFailed,
            "failed",
            "Used although the map failed",
            "was undone, as the map failed 1.5",
            "Check the result of the map",
        ),
    ] {
        let went = Verdict {
            gone: Some(gone(why)),
            ..verdict(cause)
        };
        says(&went, &[headline, how, advice]);
        let anew = Verdict {
            mapping: Some(mapping("user")),
            ..went
        };
        says(&anew, &[how, "mapped anew since: 0x1000000000-"]);
    }
}

#[test]
fn beside_a_mapping() {
    let past = Verdict {
        mapping: Some(mapping("phys")),
        distance: Some(0),
        ..verdict(Cause::PastEnd)
    };
    says(
        &past,
        &[
            "Past the end: ",
            "1 bytes past the end of 0x1000000000-",
            "physical 0x7f0000001000",
            "Check the lengths",
        ],
    );
    let before = Verdict {
        gone: Some(gone("unmap")),
        distance: Some(4096),
        ..verdict(Cause::BeforeStart)
    };
    says(
        &before,
        &[
            "Before the start: ",
            "4096 bytes before the start of",
            "(gone since)",
            "Check the offsets",
        ],
    );
}

#[test]
fn an_address_of_another_kind() {
    let right = |cause| Verdict {
        mapping: Some(mapping("user")),
        right: Some(0x2000),
        ..verdict(cause)
    };
    says(
        &right(Cause::PhysicalAddress),
        &["A physical address, not an IOVA", "mapped at 0x2000: give"],
    );
    says(
        &right(Cause::ProgramAddress),
        &["An address of the program", "mapped at 0x2000: give"],
    );
    says(
        &verdict(Cause::PhysicalAddress),
        &["RAM has that address", "icp_sal_iommu_map"],
    );
    let other = Verdict {
        mapping: Some(mapping("user")),
        others: vec!["0000:70:00.0".into()],
        ..verdict(Cause::AnotherPf)
    };
    says(
        &other,
        &[
            "in space 2 only, for 0000:70:00.0",
            "QAT_IOMMU_PF=0000:6b:00.0",
            "give the work to 0000:70:00.0",
        ],
    );
    let last = Verdict {
        last: Some(0xffff_ffff),
        ..verdict(Cause::BeyondAperture)
    };
    says(&last, &["Beyond the last IOVA", "translates is 0xffffffff"]);
    says(&verdict(Cause::Null), &["Address 0", "not filled in"]);
    says(
        &verdict(Cause::Reserved),
        &["Reserved", "kept from all mappings"],
    );
}

#[test]
fn a_pf_that_is_not_the_modules() {
    says(
        &verdict(Cause::NotBound),
        &["held by no driver", "\n  sudo qat-iommu bind 0000:6b:00.0"],
    );
    let held = Verdict {
        driver: Some("vfio-pci".into()),
        ..verdict(Cause::NotBound)
    };
    says(&held, &["held by vfio-pci"]);
    let stranger = Verdict {
        driver: Some("nvme".into()),
        ..verdict(Cause::NotAPf)
    };
    says(
        &stranger,
        &["No QAT PF", "not qat_iommu's affair", "Its driver is nvme"],
    );
}

#[test]
fn a_write_that_was_taken_for_an_interrupt() {
    let line = "DMAR: [INTR-REMAP] Request device [6b:00.0] fault index 0x0 [fault reason 0x25] \
                Blocked a compatibility format interrupt request";
    let text = people(&Fault::parse(line).unwrap(), 1, &verdict(Cause::Reserved));
    assert!(text.contains("wrote into the interrupt window"), "{text}");
}
