// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The public headers compile alone, twice, and before and after Intel's types, as
//! C99 and as C++, without a warning; and they define none of Intel's types.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

const HEADERS: &[&str] = &["icp_sal_iommu.h", "qat_iommu.h"];

/// What of Intel's `cpa.h` matters here, as it defines it.
const CPA: &str = "
#include <stdint.h>
#include <stddef.h>
typedef uint64_t Cpa64U;
typedef int32_t Cpa32S;
typedef Cpa32S CpaStatus;
#define CPA_STATUS_SUCCESS (0)
#define CPA_STATUS_FAIL (-1)
";

/// The classic prototypes in Intel's words: a second declaration, which compiles
/// only if ours means the same.
const CLASSIC: &str = "
size_t icp_sal_iommu_get_remap_size(size_t size);
CpaStatus icp_sal_iommu_map(Cpa64U phaddr, Cpa64U iova, size_t size);
CpaStatus icp_sal_iommu_unmap(Cpa64U iova, size_t size);
";

/// What of Intel's `qae_mem.h` matters here, in the words of qatlib 26.08.
const QAE_MEM: &str = "
#include <stdint.h>
#include <stddef.h>
#ifdef __cplusplus
extern \"C\" {
#endif
uint64_t qaeVirtToPhysNUMA(void *pVirtAddr);
int qaeRegisterDevice(int fd);
int qaeUnregisterDevice(int fd);
uint64_t qaeMemMapContiguousIova(void *virt, size_t size);
int qaeMemUnmapContiguousIova(void *virt, size_t size);
#ifdef __cplusplus
}
#endif
";

fn include_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../include/qat_iommu")
}

/// The C++ compiler of this machine, whichever there is.
fn cxx() -> &'static str {
    ["g++", "clang++"]
        .into_iter()
        .find(|cxx| Command::new(cxx).arg("--version").output().is_ok())
        .expect("a C++ compiler: install g++ or clang")
}

fn compiles(compiler: &str, arguments: &[&str], source: &str) -> Result<(), String> {
    let mut child = Command::new(compiler)
        .args(arguments)
        .args(["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(include_dir())
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the compiler runs");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(source.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{compiler} {arguments:?} of\n{source}\n{}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

fn in_every_language(source: &str) -> Result<(), String> {
    for std in ["-std=c99", "-std=c11", "-std=c17"] {
        let strict = ["-xc", std, "-pedantic-errors", "-Wstrict-prototypes"];
        compiles("cc", &strict, source)?;
    }
    for std in ["-std=c++98", "-std=c++11", "-std=c++20"] {
        // C++98 has no <stdint.h> of its own: long long is pedantically new there.
        let pedantic = if std == "-std=c++98" {
            "-Wpedantic"
        } else {
            "-pedantic-errors"
        };
        compiles(cxx(), &["-xc++", std, pedantic, "-Wno-long-long"], source)?;
    }
    Ok(())
}

#[track_caller]
fn good(source: &str) {
    if let Err(message) = in_every_language(source) {
        panic!("{message}");
    }
}

fn include(header: &str) -> String {
    format!("#include <{header}>\n")
}

#[test]
fn alone_and_twice() {
    for header in HEADERS {
        good(&include(header));
        good(&include(header).repeat(2));
    }
}

#[test]
fn after_and_before_intels_types() {
    for header in HEADERS {
        good(&format!("{CPA}{QAE_MEM}{}{CLASSIC}", include(header)));
        good(&format!("{}{CPA}{QAE_MEM}{CLASSIC}", include(header)));
    }
}

#[test]
fn a_program_in_intels_words() {
    let program = "
int use(Cpa64U phys, size_t bytes);
int use(Cpa64U phys, size_t bytes)
{
    size_t size = icp_sal_iommu_get_remap_size(bytes);
    CpaStatus status = icp_sal_iommu_map(phys, phys, size);

    if (status != CPA_STATUS_SUCCESS)
        return 1;
    return icp_sal_iommu_unmap(phys, size) == CPA_STATUS_FAIL;
}
";
    good(&format!("{CPA}{}{program}", include("icp_sal_iommu.h")));
}

#[test]
fn beside_the_modules_interface() {
    let uapi = "#include \"../uapi/linux/qat_iommu.h\"\n";
    for (std, compiler) in [("-xc", "cc"), ("-xc++", cxx())] {
        for source in [
            format!("{uapi}{}", include("qat_iommu.h")),
            format!("{}{uapi}", include("qat_iommu.h")),
        ] {
            compiles(compiler, &[std], &source).unwrap();
        }
    }
}

#[test]
fn none_of_intels_types_is_defined() {
    for name in ["Cpa64U", "Cpa32S", "CpaStatus"] {
        let source = format!("{}extern {name} x;\n", include("icp_sal_iommu.h"));
        assert!(in_every_language(&source).is_err(), "{name} is defined");
    }
    for name in ["CPA_STATUS_SUCCESS", "CPA_STATUS_FAIL"] {
        good(&format!(
            "{}#ifdef {name}\n#error {name} is defined\n#endif\n",
            include("icp_sal_iommu.h")
        ));
    }
}

#[test]
fn intels_own_header_may_have_come_first() {
    let guarded = format!("#define ICP_SAL_IOMMU_H\n{CPA}{CLASSIC}");
    good(&format!("{guarded}{}", include("icp_sal_iommu.h")));
}
