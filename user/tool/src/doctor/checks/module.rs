// SPDX-License-Identifier: GPL-2.0
//! Is the module there for this kernel, is it loaded, and may it be loaded as it is?

use crate::doctor::{Facts, Finding};

pub fn built(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "module-built";
    let (host, release) = (&facts.host, facts.host.release());
    vec![match host.module_file() {
        Some(file) => Finding::ok(
            ID,
            format!("the module for {release} is {}", file.path.display()),
        ),
        None if host.module_loaded() => Finding::ok(
            ID,
            "the module is loaded, from a file that modprobe does not know",
        ),
        None => {
            let others = host.module_releases();
            let others = match others.as_slice() {
                [] => String::new(),
                releases => format!("; it is for {}", releases.join(", ")),
            };
            Finding::failure(
                ID,
                format!("the module is not built for the running kernel, {release}{others}"),
                format!(
                    "sudo apt install qat-iommu-modules-{release}\n\
                     Or, if there is no such package: sudo apt install qat-iommu-dkms, or in the \
                     source: make module user && sudo make install"
                ),
            )
        }
    }]
}

pub fn loaded(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "module-loaded";
    vec![if facts.host.module_loaded() {
        Finding::ok(ID, "the module is loaded")
    } else if facts.host.module_file().is_none() {
        Finding::failure(
            ID,
            "the module is not loaded",
            "first it has to be there, see above",
        )
    } else {
        Finding::failure(
            ID,
            "the module is not loaded",
            "sudo modprobe qat_iommu\n\
             At every boot: echo qat_iommu | sudo tee /etc/modules-load.d/qat-iommu.conf",
        )
    }]
}

pub fn signed(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "module-signed";
    let host = &facts.host;
    if host.module_loaded() || !host.wants_signatures() {
        let why = if host.wants_signatures() {
            "and it is loaded"
        } else {
            "this kernel loads modules without one"
        };
        return vec![Finding::ok(
            ID,
            format!("the module's signature does not matter: {why}"),
        )];
    }
    let why = if host.secure_boot() {
        "Secure Boot is on"
    } else if host.lockdown().is_some() {
        "it is locked down"
    } else {
        "module.sig_enforce is on"
    };
    let Some(file) = host.module_file() else {
        return vec![Finding::warning(
            ID,
            format!("this kernel loads only signed modules ({why})"),
            "sign the module once it is built; see below the path when it is there",
        )];
    };
    let path = file.path.display();
    vec![match file.signed {
        Some(false) => Finding::failure(
            ID,
            format!("this kernel loads only signed modules ({why}), and {path} is not signed"),
            format!(
                "sudo /lib/modules/{}/build/scripts/sign-file sha256 /var/lib/dkms/mok.key \
                 /var/lib/dkms/mok.pub {path}\n\
                 The key has to be known to the firmware: sudo mokutil --import \
                 /var/lib/dkms/mok.pub, then boot again and confirm",
                host.release()
            ),
        ),
        Some(true) => Finding::ok(
            ID,
            format!(
                "{path} is signed, as this kernel wants ({why}); if its key is refused: \
                 sudo mokutil --test-key /var/lib/dkms/mok.pub"
            ),
        ),
        None => Finding::warning(
            ID,
            format!("this kernel loads only signed modules ({why}); whether {path} is one cannot be told"),
            format!("modinfo -F signer {path}"),
        ),
    }]
}
