// SPDX-License-Identifier: GPL-2.0
//! `doctor --program`: whose functions a program uses, beside libraries that have functions of the
//! same names, as Intel's have.

use anyhow::{ensure, Context as _, Result};
use std::fs;
use std::process::Command;

use super::setting::run;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::tool::Diagnosis;

const DIRECTORY: &str = "/tmp/tool-programs";

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        linked_to_ours,
        linked_to_intels_first,
        preloaded,
        linked_to_neither,
        mixed_buffers,
        library_not_found,
        built_into_the_program,
        not_a_program,
    ]
}

/// Compiles C; the arguments follow the source.
fn cc(host: &Host, name: &str, source: &str, arguments: &[&str]) -> Result<String> {
    fs::create_dir_all(DIRECTORY)?;
    let (file, made) = (
        format!("{DIRECTORY}/{name}.c"),
        format!("{DIRECTORY}/{name}"),
    );
    fs::write(&file, source)?;
    let lib = host.tree.join("build/lib");
    let lib = lib.to_str().context("a path")?;
    run(Command::new("cc")
        .args([
            "-O0",
            "-w",
            "-o",
            &made,
            &file,
            &format!("-L{lib}"),
            &format!("-L{DIRECTORY}"),
        ])
        .args(arguments))?;
    Ok(made)
}

/// A library with the names that libqat and libusdm have, which do what theirs do for PFs: fail.
fn intels(host: &Host) -> Result<()> {
    let libqat = "int icp_sal_iommu_map(long a, long b, long c) { return -1; } \
                  int icp_sal_iommu_unmap(long a, long b) { return -1; } \
                  long icp_sal_iommu_get_remap_size(long a) { return 0; } \
                  int icp_sal_userStart(void) { return 0; }";
    cc(host, "libqat.so", libqat, &["-shared", "-fPIC"])?;
    let libusdm = "long qaeVirtToPhysNUMA(void *a) { return 0; } \
                   long qaeMemMapContiguousIova(void *a, long b) { return 0; } \
                   void *qaeMemAllocNUMA(long a) { return 0; }";
    cc(host, "libusdm.so", libusdm, &["-shared", "-fPIC"])?;
    Ok(())
}

const CLASSIC: &str = "int icp_sal_iommu_map(long, long, long); \
                       int main(void) { return icp_sal_iommu_map(0, 0, 0) > 5; }";

fn doctor(program: &str) -> Command {
    let mut command = Command::new("qat-iommu");
    command.args(["doctor", "--json", "--program", program]);
    let ours = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    command.env("LD_LIBRARY_PATH", format!("{ours}:{DIRECTORY}"));
    command
}

fn linked_to_ours(host: &Host) -> Result<()> {
    intels(host)?;
    let program = cc(host, "ours", CLASSIC, &["-lqat_iommu", "-lqat"])?;
    let found = Diagnosis::by(&mut doctor(&program))?;
    found.names("program", "ok", "icp_sal_iommu_map is that of", "")?;
    found.fails_only_with(&[])
}

fn linked_to_intels_first(host: &Host) -> Result<()> {
    intels(host)?;
    let program = cc(
        host,
        "theirs",
        CLASSIC,
        &["-Wl,--no-as-needed", "-lqat", "-lqat_iommu"],
    )?;
    let found = Diagnosis::by(&mut doctor(&program))?;
    found.names(
        "program",
        "failure",
        "libqat.so (Intel's libqat)",
        "-lqat_iommu before -lqat",
    )?;
    found.fails_only_with(&["program"])?;
    // It is true: that program gets -1, whatever the module would say.
    ensure!(found.findings("program").count() == 1);
    Ok(())
}

fn preloaded(host: &Host) -> Result<()> {
    intels(host)?;
    let program = cc(
        host,
        "cured",
        CLASSIC,
        &["-Wl,--no-as-needed", "-lqat", "-lqat_iommu"],
    )?;
    let library = host.tree.join("build/lib/libqat_iommu.so.0");
    let mut command = doctor(&program);
    let found = Diagnosis::by(command.env("LD_PRELOAD", library))?;
    found.names("program", "ok", "this project's library", "")?;
    found.fails_only_with(&[])
}

fn linked_to_neither(host: &Host) -> Result<()> {
    let program = cc(host, "neither", "int main(void) { return 0; }", &[])?;
    let found = Diagnosis::by(&mut doctor(&program))?;
    found.names("program", "ok", "linked to none", "")?;
    found.fails_only_with(&[])
}

fn mixed_buffers(host: &Host) -> Result<()> {
    intels(host)?;
    // libusdm of before has no unmap by buffer, so that one comes from ours.
    let source = "long qaeMemMapContiguousIova(void *, long); int qaeMemUnmapContiguousIova(void *, long); \
                  int main(void) { return qaeMemMapContiguousIova(0, 0) + qaeMemUnmapContiguousIova(0, 0) > 5; }";
    let program = cc(
        host,
        "mixed",
        source,
        &["-Wl,--no-as-needed", "-lusdm", "-lqat_iommu"],
    )?;
    let found = Diagnosis::by(&mut doctor(&program))?;
    found.names(
        "program",
        "failure",
        "neither knows the other's buffers",
        "LD_PRELOAD=libqat_iommu.so.0",
    )?;
    found.fails_only_with(&["program"])?;
    let alone = "long qaeMemMapContiguousIova(void *, long); \
                 int main(void) { return qaeMemMapContiguousIova(0, 0) > 5; }";
    let program = cc(host, "usdm", alone, &["-lusdm"])?;
    let found = Diagnosis::by(&mut doctor(&program))?;
    found.names(
        "program",
        "warning",
        "serves VFs only",
        "LD_PRELOAD=libqat_iommu.so.0",
    )?;
    found.fails_only_with(&[])
}

fn library_not_found(host: &Host) -> Result<()> {
    intels(host)?;
    let program = cc(host, "lost", CLASSIC, &["-lqat"])?;
    let mut command = doctor(&program);
    let found = Diagnosis::by(command.env_remove("LD_LIBRARY_PATH"))?;
    found.names(
        "program",
        "failure",
        "needs libqat.so, which is not found",
        "LD_LIBRARY_PATH",
    )?;
    found.fails_only_with(&["program"])
}

fn built_into_the_program(host: &Host) -> Result<()> {
    let source =
        format!("{CLASSIC} int icp_sal_iommu_map(long a, long b, long c) {{ return -1; }}");
    for (name, options) in [("own", &[][..]), ("static", &["-static"])] {
        let program = cc(host, name, &source, options)?;
        let found = Diagnosis::by(&mut doctor(&program))?;
        found.names(
            "program",
            "warning",
            "built into the program",
            "link the program anew",
        )?;
        found.fails_only_with(&[])?;
    }
    Ok(())
}

fn not_a_program(_: &Host) -> Result<()> {
    crate::tool::refuses(&["doctor", "--program", "/etc/passwd"], "is no ELF program")?;
    crate::tool::refuses(
        &["doctor", "--program", "/nonexistent"],
        "cannot read /nonexistent",
    )
}
