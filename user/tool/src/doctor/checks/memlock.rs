// SPDX-License-Identifier: GPL-2.0
//! May a program lock as much memory as it is to have mapped?

use rustix::process::{getrlimit, Resource};
use rustix::thread::CapabilitySet;

use crate::doctor::{Facts, Finding};
use crate::number::size;

const ID: &str = "memlock";

pub fn check(facts: &Facts) -> Vec<Finding> {
    let limit = getrlimit(Resource::Memlock);
    let exempt = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    let exempt = exempt.then(|| {
        Finding::ok(
            ID,
            "memory lock: this user has CAP_IPC_LOCK, no limit counts",
        )
    });
    vec![exempt.unwrap_or_else(|| judge(limit.current, limit.maximum, facts.memlock))]
}

fn judge(soft: Option<u64>, hard: Option<u64>, wanted: u64) -> Finding {
    let Some(soft) = soft else {
        return Finding::ok(ID, "memory lock: no limit");
    };
    if soft >= wanted {
        return Finding::ok(
            ID,
            format!("memory lock: {} of at least {}", size(soft), size(wanted)),
        );
    }
    let kib = wanted.div_ceil(1024);
    let text = format!(
        "memory lock: programs may lock {}, not {}: mapping buffers fails with ENOMEM",
        size(soft),
        size(wanted)
    );
    let remedy = match hard {
        Some(hard) if hard < wanted => format!(
            "echo '@qat-iommu - memlock {kib}' | sudo tee /etc/security/limits.d/qat-iommu.conf\n\
             Then log in again; of a systemd service: LimitMEMLOCK={wanted}; of a container: \
             --ulimit memlock={wanted}"
        ),
        _ => format!("ulimit -l {kib}"),
    };
    Finding::failure(ID, text, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn the_line_to_type_depends_on_the_hard_limit() {
        assert_eq!(judge(None, None, 1 << 40).status, Status::Ok);
        assert_eq!(
            judge(Some(8 << 20), Some(8 << 20), 8 << 20).status,
            Status::Ok
        );
        let soft = judge(Some(8 << 20), None, 64 << 20);
        assert_eq!(soft.status, Status::Failure);
        assert_eq!(soft.remedy.as_deref(), Some("ulimit -l 65536"));
        let hard = judge(Some(8 << 20), Some(8 << 20), 64 << 20);
        assert!(hard.remedy.unwrap().contains("memlock 65536"));
    }
}
