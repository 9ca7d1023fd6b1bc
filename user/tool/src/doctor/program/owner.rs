// SPDX-License-Identifier: GPL-2.0
//! Whose library a file is, by what it exports: names of files can be anything.

use object::{Object as _, ObjectSymbol as _};
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Ours,
    IntelQat,
    IntelUsdm,
    /// The program defines it.
    Itself,
    Unknown,
}

impl Owner {
    pub fn of(path: &Path) -> Self {
        let Ok(bytes) = std::fs::read(path) else {
            return Self::Unknown;
        };
        let Ok(file) = object::File::parse(&*bytes) else {
            return Self::Unknown;
        };
        let exports = |wanted: &str| {
            let mut symbols = file.dynamic_symbols();
            symbols.any(|symbol| symbol.is_definition() && symbol.name() == Ok(wanted))
        };
        if exports("qat_iommu_map_user") {
            Self::Ours
        } else if exports("qaeMemAllocNUMA") {
            Self::IntelUsdm
        } else if exports("icp_sal_userStart") || exports("cpaGetInstances") {
            Self::IntelQat
        } else {
            Self::Unknown
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "this project's library",
            Self::IntelQat => "Intel's libqat",
            Self::IntelUsdm => "Intel's libusdm",
            Self::Itself => "built into the program",
            Self::Unknown => "an unknown library",
        }
    }
}
