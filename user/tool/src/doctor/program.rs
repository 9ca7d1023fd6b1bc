// SPDX-License-Identifier: GPL-2.0
//! Whose `icp_sal_iommu_*` and `qae*` functions a program will really use: Intel's libraries have
//! functions of the same names, and the first in link order wins. The dynamic linker itself is
//! asked (as `ldd -r` does), under the environment of this program; the program is not run.

mod linker;
mod owner;

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSymbol as _};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Finding;
use linker::{Binding, Linked};
use owner::Owner;

const ID: &str = "program";

/// What this project's library offers, and Intel's have under the same names.
const OURS: [&str; 8] = [
    "icp_sal_iommu_get_remap_size",
    "icp_sal_iommu_map",
    "icp_sal_iommu_unmap",
    "qaeMemMapContiguousIova",
    "qaeMemUnmapContiguousIova",
    "qaeVirtToPhysNUMA",
    "qaeRegisterDevice",
    "qaeUnregisterDevice",
];

pub fn check(path: &Path) -> Result<Vec<Finding>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*bytes)
        .with_context(|| format!("{} is no ELF program", path.display()))?;
    let built_in = defined(&file);
    let linked = match linker::interpreter(&file)? {
        Some(interpreter) => linker::ask(&interpreter, path)?,
        None => Linked::default(),
    };
    let mut findings: Vec<Finding> = linked
        .missing
        .iter()
        .map(|name| missing(path, name))
        .collect();
    let uses = Uses::new(path, &linked, &built_in);
    findings.extend(uses.judge());
    Ok(findings
        .into_iter()
        .map(|finding| finding.about(path.display()))
        .collect())
}

/// Which of the names the file defines itself.
fn defined(file: &object::File) -> Vec<&'static str> {
    let has = |name: &&&str| {
        let symbols = file.symbols().chain(file.dynamic_symbols());
        let mut same = symbols.filter(|symbol| symbol.name() == Ok(name));
        same.any(|symbol| symbol.is_definition())
    };
    OURS.iter().filter(has).copied().collect()
}

fn missing(path: &Path, library: &str) -> Finding {
    Finding::failure(
        ID,
        format!("{} needs {library}, which is not found", path.display()),
        format!(
            "install the package that has {library}, or name its directory: \
             LD_LIBRARY_PATH=DIRECTORY {}",
            path.display()
        ),
    )
}

/// Which file each name is bound to, and whose that file is.
struct Uses<'a> {
    path: &'a Path,
    /// By name; a name that several files use may be bound once only.
    bound: BTreeMap<&'a str, (PathBuf, Owner)>,
    /// Whether this project's library is loaded at all.
    ours_loaded: bool,
}

impl<'a> Uses<'a> {
    fn new(path: &'a Path, linked: &'a Linked, built_in: &[&'static str]) -> Self {
        let mut bound = BTreeMap::new();
        for Binding { symbol, to, .. } in linked.bindings.iter() {
            if let Some(name) = OURS.iter().find(|name| *name == symbol) {
                bound
                    .entry(*name)
                    .or_insert_with(|| (to.clone(), Owner::of(to)));
            }
        }
        for name in built_in {
            bound.insert(name, (path.to_owned(), Owner::Itself));
        }
        Self {
            path,
            bound,
            ours_loaded: linked
                .libraries
                .iter()
                .any(|file| Owner::of(file) == Owner::Ours),
        }
    }

    fn judge(&self) -> Vec<Finding> {
        if self.bound.is_empty() {
            return vec![self.none()];
        }
        let mixed = self.is_mixed();
        self.bound
            .iter()
            .map(|(name, (file, owner))| self.one(name, file, *owner, mixed))
            .collect()
    }

    fn none(&self) -> Finding {
        Finding::ok(
            ID,
            format!(
                "{} is linked to none of the icp_sal_iommu_* and qae* functions (what it may \
                 load while it runs is not known)",
                self.path.display()
            ),
        )
    }

    /// Buffers mapped through one library are unknown to the other.
    fn is_mixed(&self) -> bool {
        let buffers = self
            .bound
            .iter()
            .filter(|(name, _)| name.starts_with("qae"));
        let mut ours: Vec<bool> = buffers
            .map(|(_, (_, owner))| *owner == Owner::Ours)
            .collect();
        ours.dedup();
        ours.sort_unstable();
        ours.dedup();
        ours.len() > 1
    }

    fn one(&self, name: &str, file: &Path, owner: Owner, mixed: bool) -> Finding {
        let text = format!("{name} is that of {} ({})", file.display(), owner.name());
        let classic = name.starts_with("icp_sal");
        match owner {
            Owner::Ours => Finding::ok(ID, text),
            Owner::Itself => Finding::warning(
                ID,
                format!("{text}: whatever is linked in, a library cannot replace it"),
                "link the program anew: -lqat_iommu before Intel's libraries",
            ),
            _ if classic => Finding::failure(
                ID,
                format!("{text}: it does nothing, or fails always"),
                self.remedy(),
            ),
            _ if mixed => Finding::failure(
                ID,
                format!("{text}, but others are libqat_iommu's: neither knows the other's buffers"),
                self.remedy(),
            ),
            _ => Finding::warning(ID, format!("{text}: it serves VFs only"), self.remedy()),
        }
    }

    fn remedy(&self) -> String {
        let now = format!("LD_PRELOAD=libqat_iommu.so.0 {}", self.path.display());
        let order = "-lqat_iommu before -lqat and -lusdm";
        if self.ours_loaded {
            format!("{now}\nOr link it again in another order: {order}")
        } else {
            format!("{now}\nOr link it with {order}")
        }
    }
}
