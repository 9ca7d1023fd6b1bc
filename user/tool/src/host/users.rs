// SPDX-License-Identifier: GPL-2.0
//! Users and groups by name, as the local files have them.

use super::Host;

impl Host {
    /// The name of a group.
    pub fn group_name(&self, gid: u32) -> String {
        let name = self.field("/etc/group", |fields| {
            (fields.get(2)?.parse() == Ok(gid)).then(|| fields[0].to_owned())
        });
        name.unwrap_or_else(|| gid.to_string())
    }

    /// The name of a user.
    pub fn user_name(&self, uid: u32) -> String {
        let name = self.field("/etc/passwd", |fields| {
            (fields.get(2)?.parse() == Ok(uid)).then(|| fields[0].to_owned())
        });
        name.unwrap_or_else(|| uid.to_string())
    }

    /// Whether there is a group of this name.
    pub fn has_group(&self, name: &str) -> bool {
        self.field("/etc/group", |fields| (fields[0] == name).then(String::new))
            .is_some()
    }

    fn field(&self, file: &str, pick: impl Fn(&[&str]) -> Option<String>) -> Option<String> {
        let text = self.read(file).ok()?;
        text.lines()
            .find_map(|line| pick(&line.split(':').collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn groups_are_found_by_name_and_number() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("etc")).unwrap();
        fs::write(
            tree.path().join("etc/group"),
            "root:x:0:\nqat-iommu:x:990:ann\n",
        )
        .unwrap();
        let host = Host::below(tree.path());
        assert_eq!(host.group_name(990), "qat-iommu");
        assert_eq!(host.group_name(7), "7");
        assert!(host.has_group("qat-iommu") && !host.has_group("qat"));
    }
}
