// SPDX-License-Identifier: GPL-2.0
//! Can this user open the device node, and nobody who should not?

use qat_iommu::DEVICE;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use crate::doctor::{Facts, Finding};
use crate::host::Host;

const ID: &str = "node";
const GROUP: &str = "qat-iommu";

pub fn check(facts: &Facts) -> Vec<Finding> {
    if !facts.host.module_loaded() {
        return Vec::new();
    }
    vec![match std::fs::metadata(facts.host.path(DEVICE)) {
        Ok(metadata) if !metadata.file_type().is_char_device() => Finding::failure(
            ID,
            format!("{DEVICE} is no device node"),
            format!("sudo rm {DEVICE} && sudo udevadm trigger --name-match=qat_iommu"),
        ),
        Ok(metadata) => judge(facts, &metadata),
        Err(_) => Finding::failure(
            ID,
            format!("{DEVICE} is missing, although the module is loaded"),
            "sudo udevadm trigger --action=add --subsystem-match=misc\n\
             In a container, hand the node in: --device /dev/qat_iommu",
        ),
    }]
}

fn judge(facts: &Facts, metadata: &Metadata) -> Finding {
    let mode = metadata.mode() & 0o777;
    let group = facts.host.group_name(metadata.gid());
    let whose = format!(
        "{DEVICE} is {}:{group} {mode:04o}",
        facts.host.user_name(metadata.uid())
    );
    if mode & 0o006 != 0 {
        return Finding::warning(
            ID,
            format!("{whose}: every user may have a PF reach memory"),
            format!("sudo chgrp {GROUP} {DEVICE} && sudo chmod 0660 {DEVICE}"),
        );
    }
    let may_open = rustix::fs::access(
        DEVICE,
        rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK,
    );
    if may_open.is_err() {
        return Finding::failure(
            ID,
            format!("{whose}: {} may not open it", me(&facts.host)),
            admit(facts, mode, &group),
        );
    }
    match &facts.info {
        Err(error) => Finding::failure(ID, error.to_string(), "sudo dmesg | grep qat_iommu"),
        Ok(info) if info.abi_version != ABI => Finding::failure(
            ID,
            format!(
                "the module speaks version {} of the interface, this program {ABI}",
                info.abi_version
            ),
            "install module and tool of the same release",
        ),
        Ok(_) => Finding::ok(ID, format!("{whose}; this user may open it")),
    }
}

/// The version of the interface that this program was made for.
const ABI: u32 = qat_iommu::ABI_VERSION;

fn me(host: &Host) -> String {
    host.user_name(rustix::process::getuid().as_raw())
}

/// What lets this user in.
fn admit(facts: &Facts, mode: u32, group: &str) -> String {
    let user = me(&facts.host);
    let join = format!("sudo usermod -a -G {GROUP} {user}\nThen log in again");
    if mode & 0o060 == 0o060 && group == GROUP {
        return join;
    }
    let make = if facts.host.has_group(GROUP) {
        String::new()
    } else {
        format!("sudo groupadd --system {GROUP} && ")
    };
    format!(
        "{make}sudo chgrp {GROUP} {DEVICE} && sudo chmod 0660 {DEVICE} && {join}. The udev rule \
         60-qat-iommu.rules does this at every boot"
    )
}
