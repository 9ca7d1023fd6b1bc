// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The two library files: what they export, that C programs link and run with them,
//! and that a program may define a family's names itself.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

const CLASSIC: [&str; 3] = [
    "icp_sal_iommu_get_remap_size",
    "icp_sal_iommu_map",
    "icp_sal_iommu_unmap",
];

const USDM: [&str; 5] = [
    "qaeMemMapContiguousIova",
    "qaeMemUnmapContiguousIova",
    "qaeVirtToPhysNUMA",
    "qaeRegisterDevice",
    "qaeUnregisterDevice",
];

const NATIVE: [&str; 6] = [
    "qat_iommu_map_user",
    "qat_iommu_map_user_batch",
    "qat_iommu_unmap_user",
    "qat_iommu_unmap_iova",
    "qat_iommu_unmap_batch",
    "qat_iommu_virt_to_iova",
];

/// Every name that the library exports, by API family.
const FAMILIES: &[&[&str]] = &[&CLASSIC, &USDM, &NATIVE];

/// A directory with the library's files, as `link.sh` makes them.
struct Library {
    directory: PathBuf,
}

impl Library {
    /// Made once, of the archive as it is released: cargo builds no static library
    /// for tests by itself. Where `make` has built it, it is up to date.
    fn get() -> &'static Self {
        static LIBRARY: OnceLock<Library> = OnceLock::new();
        LIBRARY.get_or_init(|| {
            let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libqat-iommu");
            let target = directory.ancestors().nth(2).unwrap();
            run(Command::new(env!("CARGO"))
                .args(["build", "--offline", "--release"])
                .args(["--package", "libqat-iommu", "--target-dir"])
                .arg(target)
                .current_dir(env!("CARGO_MANIFEST_DIR")));
            let link = Path::new(env!("CARGO_MANIFEST_DIR")).join("link.sh");
            run(Command::new(link)
                .arg(target.join("release/libqat_iommu.a"))
                .arg(&directory));
            Self { directory }
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Compiles a program, with the arguments that choose how it is linked.
    fn compile(&self, name: &str, source: &str, arguments: &[&str]) -> PathBuf {
        let (c, program) = (self.file(&format!("{name}.c")), self.file(name));
        fs::write(&c, source).unwrap();
        run(Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-I"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../include/qat_iommu"))
            .arg("-o")
            .arg(&program)
            .arg(&c)
            .arg("-L")
            .arg(&self.directory)
            .args(arguments));
        program
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn the_shared_library_exports_our_names_and_no_others() {
    let library = Library::get();
    let file = library.file("libqat_iommu.so.0");
    let symbols = run(Command::new("nm").args(["-D", "--defined-only"]).arg(&file));
    let exported: BTreeSet<&str> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    let mut expected: BTreeSet<String> = FAMILIES
        .concat()
        .iter()
        .map(|name| format!("{name}@@QAT_IOMMU_0.1"))
        .collect();
    expected.insert("QAT_IOMMU_0.1".into());
    assert!(exported.into_iter().eq(&expected), "{symbols}");

    let dynamic = run(Command::new("readelf").arg("-dW").arg(&file));
    assert!(dynamic.contains("soname: [libqat_iommu.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    for line in dynamic.lines().filter(|line| line.contains("(NEEDED)")) {
        let ours = ["libc.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];
        assert!(ours.iter().any(|name| line.contains(name)), "{line}");
    }
    let link = fs::read_link(library.file("libqat_iommu.so")).unwrap();
    assert_eq!(link, Path::new("libqat_iommu.so.0"));
}

#[test]
fn each_family_is_one_member_that_nothing_inside_needs() {
    let symbols = run(Command::new("nm")
        .args(["-A", "-g"])
        .arg(Library::get().file("libqat_iommu.a")));
    // "archive:member:address kind name", without an address where undefined.
    let entries: Vec<(&str, &str, &str)> = symbols
        .lines()
        .filter_map(|line| {
            let (place, symbol) = line.rsplit_once(".o:")?;
            let mut words = symbol.split_whitespace().rev();
            let (name, kind) = (words.next()?, words.next()?);
            Some((place, kind, name))
        })
        .collect();
    for family in FAMILIES {
        let members: BTreeSet<&str> = entries
            .iter()
            .filter(|(_, kind, name)| *kind == "T" && family.contains(name))
            .map(|(member, ..)| *member)
            .collect();
        assert_eq!(members.len(), 1, "{family:?} is in {members:?}");
        let member = members.first().unwrap();
        // Rust's own names, with their hashes, are nobody else's.
        let exported: BTreeSet<&str> = entries
            .iter()
            .filter(|(place, kind, _)| place == member && *kind == "T")
            .map(|(.., name)| *name)
            .filter(|name| !name.starts_with("_ZN"))
            .collect();
        assert!(
            exported.iter().eq(BTreeSet::from_iter(*family)),
            "{exported:?}"
        );
        for (member, kind, name) in &entries {
            assert!(
                *kind != "U" || !family.contains(name),
                "{member} calls {name}"
            );
        }
    }
}

/// Without the module: it rounds, keeps errno on success, and says why it fails.
const PROGRAM: &str = r#"
#include <icp_sal_iommu.h>
#include <errno.h>

int main(void)
{
    int32_t status;

    errno = ESRCH;
    if (icp_sal_iommu_get_remap_size(1) != 4096 || errno != ESRCH)
        return 1;
    if (icp_sal_iommu_get_remap_size(8192) != 8192)
        return 2;
    if (icp_sal_iommu_get_remap_size(0) != 0 || errno != EINVAL)
        return 3;
    if (icp_sal_iommu_get_remap_size((size_t)-1) != 0 || errno != EOVERFLOW)
        return 4;
    errno = ESRCH;
    status = icp_sal_iommu_map(0x100000000, 0x100000000, 4096);
    if (status != icp_sal_iommu_unmap(0x100000000, 4096))
        return 5;
    if (status == 0)
        return errno != ESRCH ? 6 : 0;
    return status != -1 || errno != ENODEV ? 7 : 0;
}
"#;

#[test]
fn programs_run_with_the_shared_and_the_static_library() {
    let library = Library::get();
    for (name, arguments) in [
        ("shared", &["-lqat_iommu"][..]),
        ("archive", &["-l:libqat_iommu.a"]),
        ("static", &["-static", "-lqat_iommu"]),
    ] {
        let program = library.compile(name, PROGRAM, arguments);
        if Path::new("/dev/qat_iommu").exists() {
            continue;
        }
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", &library.directory);
        let status = command.status().unwrap();
        assert_eq!(status.code(), Some(0), "{name}: {status}");
    }
}

#[test]
fn a_failure_is_told_in_one_line_to_those_who_ask() {
    let library = Library::get();
    let source = "#include <icp_sal_iommu.h>
        int main(void) { return icp_sal_iommu_get_remap_size(0) != 0; }";
    let program = library.compile("debug", source, &["-lqat_iommu"]);
    for (value, text) in [
        (
            "1",
            "libqat_iommu: icp_sal_iommu_get_remap_size: the size is 0; give at least 1 byte\n",
        ),
        ("0", ""),
    ] {
        let mut command = Command::new(&program);
        command.env("LD_LIBRARY_PATH", &library.directory);
        let output = command.env("QAT_IOMMU_DEBUG", value).output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stderr), text);
    }
}

#[test]
fn a_program_may_define_a_family_itself() {
    let library = Library::get();
    for (number, family) in FAMILIES.iter().enumerate() {
        let mut source = String::new();
        for name in *family {
            source += &format!("int {name}(void);\nint {name}(void) {{ return 7; }}\n");
        }
        // The other families come from the library.
        let mut others = String::new();
        for name in FAMILIES
            .iter()
            .filter(|other| *other != family)
            .flat_map(|f| *f)
        {
            source += &format!("extern int {name}(void);\n");
            others += &format!("{name}, ");
        }
        source += &format!(
            "int (*volatile others[])(void) = {{ {others} }};
            int main(void)
            {{
                for (unsigned i = 0; i < sizeof(others) / sizeof(*others); i++)
                    if (!others[i])
                        return 1;
                return {}();
            }}
            ",
            family[0]
        );
        for (how, arguments) in [("archive", "-l:libqat_iommu.a"), ("shared", "-lqat_iommu")] {
            let program = library.compile(&format!("{how}{number}"), &source, &[arguments]);
            let mut command = Command::new(program);
            command.env("LD_LIBRARY_PATH", &library.directory);
            assert_eq!(
                command.status().unwrap().code(),
                Some(7),
                "{family:?} {how}"
            );
        }
    }
}

/// What the qae_mem_utils.c family does: a look-up of its own, and the classic calls.
#[test]
fn a_program_may_have_its_own_look_up() {
    let library = Library::get();
    let source = "
        #include <icp_sal_iommu.h>
        uint64_t qaeVirtToPhysNUMA(void *virt);
        uint64_t qaeVirtToPhysNUMA(void *virt) { return virt ? 5 : 0; }
        int main(void)
        {
            int page = icp_sal_iommu_get_remap_size(1) == 4096;
            return page + (int)qaeVirtToPhysNUMA(&page);
        }
    ";
    for (name, arguments) in [
        ("own-shared", &["-lqat_iommu"][..]),
        ("own-archive", &["-l:libqat_iommu.a"]),
        ("own-static", &["-static", "-lqat_iommu"]),
    ] {
        let program = library.compile(name, source, arguments);
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", &library.directory);
        assert_eq!(command.status().unwrap().code(), Some(6), "{name}");
    }
}

/// A library that comes after this one, as libusdm does.
const BEHIND: &str = r#"
#include <stdint.h>
uint64_t qaeVirtToPhysNUMA(void *virt);
int qaeRegisterDevice(int fd);
int qaeUnregisterDevice(int fd);
uint64_t qaeVirtToPhysNUMA(void *virt) { return (uintptr_t)virt + 1; }
int qaeRegisterDevice(int fd) { return fd == 77 ? 0 : 41; }
int qaeUnregisterDevice(int fd) { return fd == 77 ? 0 : 42; }
"#;

/// Asks the libraries in turn; says nothing, for the order is right.
const ASKING: &str = r#"
#include <qat_iommu.h>
#include <errno.h>

int main(void)
{
    static char page[8192] __attribute__((aligned(4096)));

    errno = ESRCH;
    if (qaeVirtToPhysNUMA(page) != EXPECTED(page) || errno != ESRCH)
        return 1;
    if (qaeRegisterDevice(78) != REGISTERED || qaeUnregisterDevice(78) != UNREGISTERED)
        return 2;
    if (qaeMemMapContiguousIova(page + 1, 4096) != 0 || errno != EINVAL)
        return 3;
    if (qaeMemMapContiguousIova(page, 0) != 0 || errno != EINVAL)
        return 4;
    if (qaeMemMapContiguousIova(page, ((size_t)2 << 30) + 1) != 0 || errno != E2BIG)
        return 5;
    if (qaeMemUnmapContiguousIova(page, 4096) != 1 || errno != ENOENT)
        return 6;
    return 0;
}
"#;

#[test]
fn what_is_not_mapped_here_is_asked_of_the_next_library() {
    let library = Library::get();
    let behind = library.file("behind.c");
    fs::write(&behind, BEHIND).unwrap();
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(library.file("libbehind.so"))
        .arg(&behind));
    let next = [
        "-DEXPECTED(p)=(uintptr_t)(p)+1",
        "-DREGISTERED=41",
        "-DUNREGISTERED=42",
    ];
    let none = ["-DEXPECTED(p)=0", "-DREGISTERED=1", "-DUNREGISTERED=1"];
    let last = "-Wl,--no-as-needed";
    for (name, first, then, preload) in [
        (
            "next-shared",
            &next,
            &["-lqat_iommu", last, "-lbehind"][..],
            "",
        ),
        (
            "next-archive",
            &next,
            &["-l:libqat_iommu.a", last, "-lbehind"],
            "",
        ),
        (
            "next-preloaded",
            &next,
            &["-lbehind", "-lqat_iommu"],
            "libqat_iommu.so",
        ),
        ("none-shared", &none, &["-lqat_iommu"], ""),
        ("none-archive", &none, &["-l:libqat_iommu.a"], ""),
        ("none-static", &none, &["-static", "-lqat_iommu"], ""),
    ] {
        let program = library.compile(name, ASKING, &[&first[..], then].concat());
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", &library.directory);
        if !preload.is_empty() {
            command.env("LD_PRELOAD", library.file(preload));
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
    }
}

#[test]
fn the_wrong_order_is_told_once() {
    let library = Library::get();
    let behind = library.file("before.c");
    fs::write(&behind, BEHIND).unwrap();
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(library.file("libbefore.so"))
        .arg(&behind));
    let source = "
        #include <qat_iommu.h>
        int main(void)
        {
            int i, mapped = 0;
            for (i = 0; i < 2; i++)
                mapped += qaeMemMapContiguousIova(&i, 0) != 0;
            return mapped + (qaeVirtToPhysNUMA(&i) == 0);
        }
    ";
    let order = ["-lbefore", "-lqat_iommu"];
    let program = library.compile("wrong-order", source, &order);
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", &library.directory);
    let output = command.output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    let warnings = text.lines().filter(|line| line.contains("warning: qae"));
    assert_eq!(warnings.count(), 3, "{text}");
    assert!(text.contains("qaeVirtToPhysNUMA is "), "{text}");
    assert!(text.contains("libbefore.so's"), "{text}");
    assert!(text.contains("LD_PRELOAD"), "{text}");
}
