// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Runs the `bindgen` program over the C header, which is the one source of the
//! interface. The program rather than the library: it is what the module's build
//! needs as well, and it keeps some thirty crates out of the dependency tree.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let target = env::var("TARGET").expect("cargo sets it");
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("qat_iommu.rs");
    let include = manifest.join("../../include/uapi");
    let header = include.join("linux/qat_iommu.h");
    println!("cargo::rerun-if-changed={}", header.display());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=BINDGEN");

    let program = env::var("BINDGEN").unwrap_or_else(|_| "bindgen".into());
    let status = Command::new(&program)
        .arg(&header)
        .arg("--output")
        .arg(&output)
        .args(["--allowlist-item", "qat_iommu_.*|QAT_IOMMU_.*"])
        .args(["--use-core", "--ctypes-prefix", "core::ffi"])
        .args(["--no-prepend-enum-name", "--fit-macro-constant-types"])
        .args(["--with-derive-default", "--with-derive-eq"])
        // They are kernel-doc; rustdoc would take them for markdown.
        .arg("--no-doc-comments")
        .arg("--")
        .arg(format!("--target={target}"))
        .arg("-I")
        .arg(&include)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("`{program}` failed on {} ({status})", header.display()),
        Err(error) => panic!(
            "cannot run `{program}` ({error}): install Debian's package bindgen, \
             or name the program in the environment variable BINDGEN"
        ),
    }
}
