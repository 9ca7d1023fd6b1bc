// SPDX-License-Identifier: GPL-2.0
//! What held a PF before it was bound, kept until the next boot.

use qat_iommu::PfAddress;
use serde::{Deserialize, Serialize};
use std::{fs, io, path::PathBuf};

use crate::host::{Function, Host};

const DIRECTORY: &str = "/run/qat-iommu";

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Previous {
    pub driver: Option<String>,
    pub driver_override: Option<String>,
}

impl Previous {
    pub fn of(function: &Function) -> Self {
        Self {
            driver: function.driver.clone(),
            driver_override: function
                .kept_for
                .clone()
                .filter(|name| name != crate::host::OWN_DRIVER),
        }
    }

    pub fn save(&self, host: &Host, pf: PfAddress) -> io::Result<()> {
        fs::create_dir_all(host.path(DIRECTORY))?;
        fs::write(file(host, pf), serde_json::to_string(self)?)
    }

    /// Nothing, if nothing is known: then the kernel chooses.
    pub fn load(host: &Host, pf: PfAddress) -> Self {
        let text = fs::read_to_string(file(host, pf)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }
}

pub fn forget(host: &Host, pf: PfAddress) {
    // A record that stays is overwritten by the next bind.
    let _ = fs::remove_file(file(host, pf));
}

fn file(host: &Host, pf: PfAddress) -> PathBuf {
    host.path(DIRECTORY).join(pf.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_found_until_it_is_forgotten() {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::below(tree.path());
        let pf = "0000:6b:00.0".parse().unwrap();
        assert_eq!(Previous::load(&host, pf), Previous::default());
        let previous = Previous {
            driver: Some("qat_4xxx".into()),
            driver_override: None,
        };
        previous.save(&host, pf).unwrap();
        assert_eq!(Previous::load(&host, pf), previous);
        forget(&host, pf);
        assert_eq!(Previous::load(&host, pf), Previous::default());
    }
}
