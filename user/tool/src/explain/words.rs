// SPDX-License-Identifier: GPL-2.0
//! A verdict in words: what happened, and what to do about it.

use std::fmt::Write as _;

use super::line::{Access, Fault};
use super::verdict::{Cause, Verdict};
use crate::number::{count, size};
use crate::records::{Backing, Gone, Mapping};

pub fn people(fault: &Fault, times: usize, verdict: &Verdict) -> String {
    let mut text = String::new();
    if let Some(line) = &fault.line {
        let more = if times > 1 {
            format!("  ({times} times)")
        } else {
            String::new()
        };
        let _ = writeln!(text, "{line}{more}");
    }
    let _ = writeln!(
        text,
        "  {}: {}",
        headline(verdict.cause),
        what(fault, verdict)
    );
    for line in advice(fault, verdict).lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn headline(cause: Cause) -> &'static str {
    match cause {
        Cause::UsedAfterUnmap => "Used after unmap",
        Cause::ReleasedByClose => "Used after its program closed it",
        Cause::ReleasedByUnbind => "Used after its PF was unbound",
        Cause::ReleasedByForce => "Used after it was released by force",
        Cause::MapFailed => "Used although the map failed",
        Cause::PastEnd => "Past the end",
        Cause::BeforeStart => "Before the start",
        Cause::WriteToReadOnly => "Written, but mapped for reading only",
        Cause::ReadOfWriteOnly => "Read, but mapped for writing only",
        Cause::NeverMapped => "Never mapped",
        Cause::AnotherPf => "Mapped for another PF",
        Cause::PhysicalAddress => "A physical address, not an IOVA",
        Cause::ProgramAddress => "An address of the program, not an IOVA",
        Cause::Null => "Address 0",
        Cause::Reserved => "Reserved",
        Cause::BeyondAperture => "Beyond the last IOVA",
        Cause::NotBound => "Not a PF of the module's",
        Cause::MappedNow => "Mapped",
        Cause::Poisoned => "Out of use",
        Cause::NotAPf => "No QAT PF",
        Cause::NoAddress => "Which address, the IOMMU does not tell",
    }
}

/// What happened, in one sentence.
fn what(fault: &Fault, verdict: &Verdict) -> String {
    let who = match (&verdict.pf, &verdict.kind) {
        (Some(pf), Some(kind)) => format!("{pf} ({kind})"),
        (Some(pf), None) => pf.clone(),
        (None, _) => "a device".into(),
    };
    let did = match fault.access {
        Some(Access::Read) => "read",
        Some(Access::Write) => "wrote",
        None => "accessed",
    };
    let address = fault
        .address
        .map_or("an address".into(), |address| format!("{address:#x}"));
    let access = if fault.device.is_some() {
        format!("{who} {did} {address}")
    } else {
        address
    };
    match (verdict.cause, &verdict.mapping, &verdict.gone) {
        (Cause::NoAddress, ..) if verdict.pf.is_none() => format!(
            "a device (this host's PFs: {}) made an access that was refused; this IOMMU (QEMU's \
             AMD one, for instance) tells neither the address, nor the device, nor whether it was \
             a read",
            verdict.others.join(" ")
        ),
        (Cause::NoAddress, ..) => format!(
            "{who} made an access that was refused; this IOMMU (a virtual AMD one, for instance) \
             tells neither the address nor whether it was a read"
        ),
        (Cause::NotAPf, ..) => format!("{access}; what it may reach is not qat_iommu's affair"),
        (Cause::NotBound, ..) => format!(
            "{access} while it was held by {}: nothing that is mapped holds for it",
            verdict.driver.as_deref().unwrap_or("no driver")
        ),
        (Cause::Reserved, ..) if fault.interrupt => format!(
            "{who} wrote into the interrupt window (0xfee00000 to 0xfeefffff), where a write is \
             an interrupt, and this was none that it may send"
        ),
        (Cause::Reserved, ..) => format!(
            "{access}, in a range that is kept from all mappings (the interrupt window \
             0xfee00000 to 0xfeefffff, or the firmware's)"
        ),
        (Cause::BeyondAperture, ..) => match verdict.last {
            Some(last) => {
                format!("{access}; the last address that this IOMMU translates is {last:#x}")
            }
            None => access,
        },
        (Cause::PastEnd, mapping, gone) => {
            let beyond = verdict.distance.unwrap_or_default();
            let near = near(mapping, gone);
            format!("{access}, {} bytes past the end of {near}", beyond + 1)
        }
        (Cause::BeforeStart, mapping, gone) => {
            let before = verdict.distance.unwrap_or_default();
            format!(
                "{access}, {before} bytes before the start of {}",
                near(mapping, gone)
            )
        }
        (_, None, Some(gone)) => format!("{access}, {}", past(fault, gone)),
        (Cause::MappedNow, Some(mapping), _) if fault.device.is_some() => format!(
            "{access}, which is mapped now ({}): it was not yet at that time",
            describe(mapping)
        ),
        (Cause::MappedNow, Some(mapping), _) => format!(
            "{access} is in {}, for {}",
            describe(mapping),
            verdict.others.join(" ")
        ),
        (_, Some(mapping), Some(gone)) => format!(
            "{access}, {}; mapped anew since: {}",
            past(fault, gone),
            describe(mapping)
        ),
        (Cause::AnotherPf, Some(mapping), _) => format!(
            "{access}, which is mapped in space {} only, for {}: {}",
            mapping.space,
            verdict.others.join(" "),
            describe(mapping)
        ),
        (_, Some(mapping), None) => format!("{access}, in {}", describe(mapping)),
        (Cause::PhysicalAddress, None, None) => {
            format!("{access}; RAM has that address, and it is not mapped")
        }
        (_, None, None) => {
            format!("{access}; nothing is mapped there, and nothing of the last that went was")
        }
    }
}

fn near(mapping: &Option<Mapping>, gone: &Option<Gone>) -> String {
    match (mapping, gone) {
        (Some(mapping), _) => describe(mapping),
        (None, Some(gone)) => format!("{} (gone since)", describe(&gone.mapping)),
        (None, None) => "a mapping".into(),
    }
}

/// What, how large, whose.
fn describe(mapping: &Mapping) -> String {
    let what = match mapping.kind {
        Backing::User => format!("the buffer at {:#x}", mapping.backing),
        Backing::Phys => format!("physical {:#x}", mapping.backing),
        Backing::Poisoned => "a range that the IOMMU did not give back".into(),
    };
    format!(
        "{:#x}-{:#x} ({}, {}, {}) of {}",
        mapping.first,
        mapping.last,
        size(mapping.length()),
        mapping.access(),
        what,
        mapping.maker()
    )
}

/// How and when it went.
fn past(fault: &Fault, gone: &Gone) -> String {
    let how = match gone.why.as_str() {
        "close" => "went when its file was closed or its program ended",
        "unbind" => "went when its PF was unbound",
        "force" => "was released by force",
        "failed" => "was undone, as the map failed",
        _ => "was unmapped",
    };
    let then = fault
        .when
        .map_or(String::new(), |when| apart(when, gone.when));
    format!("in {}, which {how}{then}", describe(&gone.mapping))
}

/// How long before the fault something went, or after it.
fn apart(fault: u64, gone: u64) -> String {
    let nanoseconds = fault.abs_diff(gone);
    format!(
        " {}.{:06} s {}",
        nanoseconds / 1_000_000_000,
        nanoseconds / 1000 % 1_000_000,
        if gone <= fault { "before" } else { "after it" }
    )
}

/// What to do.
fn advice(fault: &Fault, verdict: &Verdict) -> String {
    let pf = verdict.pf.as_deref().unwrap_or("PF");
    match verdict.cause {
        Cause::UsedAfterUnmap => "Wait for the device to finish (or stop it) before unmapping; \
             look for a request that was still in flight."
            .into(),
        Cause::ReleasedByClose => "The program ended, or closed its context, with requests in \
             flight: stop the device first. Of a program that was killed, this is how the memory \
             is kept safe."
            .into(),
        Cause::ReleasedByUnbind => "Map again once the PF is bound; INFO's generation tells when \
             PFs come and go."
            .into(),
        Cause::ReleasedByForce => "A kernel client left it mapped, and somebody ran `qat-iommu \
             unmap --force`: something still used it."
            .into(),
        Cause::MapFailed => "Check the result of the map before using the address.".into(),
        Cause::PastEnd => "Check the lengths that were given to the device against the length \
             that was mapped; some descriptors read ahead."
            .into(),
        Cause::BeforeStart => "Check the offsets that were given to the device; a subtraction \
             went wrong."
            .into(),
        Cause::WriteToReadOnly => "Map it for writing as well, or give the device another \
             destination."
            .into(),
        Cause::ReadOfWriteOnly => "Map it for reading as well.".into(),
        Cause::NeverMapped => "Look where the device got that address from: was it overwritten, \
             truncated to 32 bits, or of an earlier run? Only the last 4096 that went are \
             remembered."
            .into(),
        Cause::AnotherPf => format!(
            "A buffer is mapped for the PFs of one space only: attach to {pf} before mapping \
             (QAT_IOMMU_PF={pf}), or give the work to {}.",
            verdict.others.join(" or ")
        ),
        Cause::PhysicalAddress => match verdict.right {
            Some(right) => format!("The memory is mapped at {right:#x}: give the device that."),
            None => "Map the memory (icp_sal_iommu_map, 1:1 if the address is to be the same), \
                     or give the device the IOVA that the map returned."
                .into(),
        },
        Cause::ProgramAddress => match verdict.right {
            Some(right) => format!("The buffer is mapped at {right:#x}: give the device that."),
            None => String::new(),
        },
        Cause::Null => "A descriptor was not filled in, or a translation failed and gave 0.".into(),
        Cause::Reserved => "Nothing can be mapped there; where RAM is there, map it at another \
             IOVA."
            .into(),
        Cause::BeyondAperture => "Was an address sign-extended, or taken from a program's \
             pointer?"
            .into(),
        Cause::NotBound => format!("sudo qat-iommu bind {pf}"),
        Cause::MappedNow if fault.device.is_some() => "Map before the device is told the \
             address."
            .into(),
        Cause::MappedNow => String::new(),
        Cause::Poisoned => "sudo dmesg | grep qat_iommu".into(),
        Cause::NotAPf => format!(
            "Its driver is {}.",
            verdict.driver.as_deref().unwrap_or("none")
        ),
        Cause::NoAddress => recent(&verdict.recent),
    }
}

/// The best that can be said without an address.
fn recent(history: &[Gone]) -> String {
    if history.is_empty() {
        return "Nothing has been unmapped: look for an address that was never mapped.".into();
    }
    let mut text = format!("The last {} that went:", count(history.len(), "mapping"));
    for gone in history {
        let _ = write!(
            text,
            "\n  at {}.{:06}: {} ({})",
            gone.when / 1_000_000_000,
            gone.when / 1000 % 1_000_000,
            describe(&gone.mapping),
            gone.why
        );
    }
    text
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
