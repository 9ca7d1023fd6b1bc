// SPDX-License-Identifier: GPL-2.0
//! Who uses a PF at the moment, as far as can be seen from outside.

use crate::host::{Function, Host};

/// Algorithms of the kernel's QAT drivers that somebody holds: each has one reference of its own.
/// (Which PF serves them is not known: the drivers share the work among theirs.)
pub fn algorithms(host: &Host, function: &Function) -> Vec<String> {
    let driver = function.driver.as_deref().unwrap_or_default();
    if !driver.starts_with("qat_") && !driver.ends_with("xxx") && !driver.ends_with("62x") {
        return Vec::new();
    }
    host.read("/proc/crypto")
        .map(|text| held(&text))
        .unwrap_or_default()
}

fn held(crypto: &str) -> Vec<String> {
    let mut found = Vec::new();
    for block in crypto.split("\n\n") {
        let value = |name: &str| {
            let line = block
                .lines()
                .find(|line| line.split(':').next().map(str::trim) == Some(name))?;
            Some(line.split_once(':')?.1.trim())
        };
        let references: u64 = value("refcnt")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        if let Some(driver) = value("driver").filter(|name| name.contains("qat")) {
            if references > 1 {
                found.push(driver.to_owned());
            }
        }
    }
    found
}

/// Programs that have the PF's registers mapped, or its VFIO group open.
pub fn programs(host: &Host, function: &Function) -> Vec<String> {
    let registers = format!("/{}/resource", function.address);
    let vfio = function.group.map(|group| format!("/dev/vfio/{group}"));
    let pids = host
        .names("/proc")
        .into_iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let uses = |pid: &String| {
        let maps = host.read(format!("/proc/{pid}/maps")).unwrap_or_default();
        maps.contains(&registers) || vfio.as_ref().is_some_and(|path| has_open(host, pid, path))
    };
    let named = pids.filter(uses).map(|pid| {
        let name = host.read(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{name} (pid {pid})")
    });
    named.collect()
}

fn has_open(host: &Host, pid: &str, path: &str) -> bool {
    let directory = format!("/proc/{pid}/fd");
    host.names(&directory).iter().any(|number| {
        let link = std::fs::read_link(host.path(format!("{directory}/{number}")));
        link.is_ok_and(|target| target.as_os_str() == path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_with_more_than_its_own_reference_is_held() {
        let text = "name         : xts(aes)\ndriver       : qat_aes_xts\nrefcnt       : 3\n\n\
                    name         : cbc(aes)\ndriver       : qat_aes_cbc\nrefcnt       : 1\n\n\
                    name         : aes\ndriver       : aes-generic\nrefcnt       : 9\n";
        assert_eq!(held(text), ["qat_aes_xts"]);
    }
}
