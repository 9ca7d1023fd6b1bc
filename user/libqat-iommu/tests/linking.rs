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

/// Every name that the library exports, by API family.
const FAMILIES: &[&[&str]] = &[&CLASSIC];

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
        let exported: BTreeSet<&str> = entries
            .iter()
            .filter(|(place, kind, _)| place == member && *kind == "T")
            .map(|(.., name)| *name)
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
        let mut sum = String::from("0");
        for name in FAMILIES
            .iter()
            .filter(|other| *other != family)
            .flat_map(|f| *f)
        {
            source += &format!("extern int {name}(void);\n");
            sum += &format!(" + !{name}");
        }
        source += &format!("int main(void) {{ return {}() + {sum}; }}\n", family[0]);
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
