// SPDX-License-Identifier: GPL-2.0
//! The kernel module: loaded or not, its parameters, and its file for the running kernel.

use std::path::{Path, PathBuf};

use super::Host;

/// The module, and its PCI driver.
pub const OWN_DRIVER: &str = "qat_iommu";

/// The module's file for one kernel.
#[derive(Debug, Clone)]
pub struct ModuleFile {
    pub path: PathBuf,
    /// Whether a signature is appended; `None` where that cannot be told.
    pub signed: Option<bool>,
}

impl Host {
    pub fn module_loaded(&self) -> bool {
        self.exists(format!("/sys/module/{OWN_DRIVER}"))
    }

    /// A parameter that the module was loaded with.
    pub fn module_parameter(&self, name: &str) -> Option<String> {
        self.read(format!("/sys/module/{OWN_DRIVER}/parameters/{name}"))
            .ok()
    }

    /// The file that `modprobe` would load into the running kernel, or that it would if `depmod`
    /// had run.
    pub fn module_file(&self) -> Option<ModuleFile> {
        let modules = format!("/lib/modules/{}", self.release());
        let listed = self.listed_module(&modules);
        let path = listed.or_else(|| self.updates_module(&modules))?;
        let signed = signed(&path);
        Some(ModuleFile { path, signed })
    }

    /// The kernels that the module has been built for.
    pub fn module_releases(&self) -> Vec<String> {
        let mut releases = self.names("/lib/modules");
        releases.retain(|release| {
            let modules = format!("/lib/modules/{release}");
            self.listed_module(&modules)
                .or_else(|| self.updates_module(&modules))
                .is_some()
        });
        releases
    }

    /// As `modules.dep` has it.
    fn listed_module(&self, modules: &str) -> Option<PathBuf> {
        let text = self.read(format!("{modules}/modules.dep")).ok()?;
        let file = text.lines().find_map(|line| {
            let file = line.split(':').next()?;
            is_module(Path::new(file)).then_some(file)
        })?;
        let path = self.path(modules).join(file);
        path.exists().then_some(path)
    }

    /// Where it is installed.
    fn updates_module(&self, modules: &str) -> Option<PathBuf> {
        let directories = ["updates", "updates/dkms", "extra"];
        let found = directories.into_iter().find_map(|directory| {
            let directory = format!("{modules}/{directory}");
            let names = self.names(&directory);
            let name = names.into_iter().find(|name| is_module(Path::new(name)))?;
            Some(format!("{directory}/{name}"))
        })?;
        Some(self.path(found))
    }
}

fn is_module(file: &Path) -> bool {
    let name = file
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let stem = name.as_deref().and_then(|name| name.split_once(".ko"));
    stem.is_some_and(|(stem, _)| stem == "qat_iommu" || stem == "qat-iommu")
}

/// Whether a module file carries a signature: uncompressed ones end with a mark, of others
/// `modinfo` knows.
fn signed(path: &Path) -> Option<bool> {
    const MARK: &[u8] = b"~Module signature appended~\n";
    if path.extension().is_some_and(|extension| extension == "ko") {
        return Some(std::fs::read(path).ok()?.ends_with(MARK));
    }
    let modinfo = std::process::Command::new("modinfo")
        .args(["-F", "sig_id"])
        .arg(path)
        .output();
    let answer = modinfo.ok().filter(|output| output.status.success())?;
    Some(!answer.stdout.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree() -> (tempfile::TempDir, Host) {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("proc/sys/kernel")).unwrap();
        fs::write(tree.path().join("proc/sys/kernel/osrelease"), "7.2.12\n").unwrap();
        let host = Host::below(tree.path());
        (tree, host)
    }

    #[test]
    fn the_module_is_found_where_modprobe_finds_it() {
        let (tree, host) = tree();
        assert!(host.module_file().is_none());
        let updates = tree.path().join("lib/modules/7.2.12/updates/dkms");
        fs::create_dir_all(&updates).unwrap();
        fs::write(
            updates.join("qat_iommu.ko"),
            "code~Module signature appended~\n",
        )
        .unwrap();
        assert_eq!(host.module_file().unwrap().signed, Some(true));
        assert_eq!(host.module_releases(), ["7.2.12"]);

        let elsewhere = tree.path().join("lib/modules/7.2.12/kernel/qat_iommu.ko");
        fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
        fs::write(&elsewhere, "code").unwrap();
        let list = "kernel/other.ko: \nkernel/qat_iommu.ko: kernel/other.ko\n";
        fs::write(tree.path().join("lib/modules/7.2.12/modules.dep"), list).unwrap();
        let file = host.module_file().unwrap();
        assert_eq!((file.path, file.signed), (elsewhere, Some(false)));
    }

    #[test]
    fn another_kernel_s_module_is_not_this_one_s() {
        let (tree, host) = tree();
        let other = tree.path().join("lib/modules/6.1.0/updates");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("qat_iommu.ko"), "").unwrap();
        assert!(host.module_file().is_none());
        assert_eq!(host.module_releases(), ["6.1.0"]);
    }
}
