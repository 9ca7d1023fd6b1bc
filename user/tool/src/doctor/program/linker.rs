// SPDX-License-Identifier: GPL-2.0
//! The dynamic linker's own answer: what a program would be linked to, symbol by symbol. It loads
//! and relocates, says what it did (`LD_DEBUG=bindings`), and ends where the program would begin
//! (`LD_TRACE_LOADED_OBJECTS`).

use anyhow::{ensure, Context as _, Result};
use object::elf::PT_INTERP;
use object::read::elf::{FileHeader, ProgramHeader as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the dynamic linker did.
#[derive(Debug, Default, PartialEq)]
pub struct Linked {
    /// In the order in which symbols are looked up.
    pub libraries: Vec<PathBuf>,
    /// Libraries that it did not find.
    pub missing: Vec<String>,
    pub bindings: Vec<Binding>,
}

/// One symbol that a file uses, and the file whose symbol it gets.
#[derive(Debug, PartialEq)]
pub struct Binding {
    pub symbol: String,
    pub to: PathBuf,
}

/// The dynamic linker that a program asks for; none for a static one.
pub fn interpreter(file: &object::File) -> Result<Option<PathBuf>> {
    let found = match file {
        object::File::Elf64(file) => named(
            file.elf_header(),
            file.endian(),
            file.data(),
            file.elf_program_headers(),
        ),
        object::File::Elf32(file) => named(
            file.elf_header(),
            file.endian(),
            file.data(),
            file.elf_program_headers(),
        ),
        _ => None,
    };
    let Some(path) = found else {
        return Ok(None);
    };
    // The linker runs, so it has to be the system's.
    let system = ["/lib", "/usr/lib"]
        .into_iter()
        .any(|start| path.to_string_lossy().starts_with(start));
    ensure!(
        system,
        "its dynamic linker is {}, which is not the system's; it is not run",
        path.display()
    );
    Ok(Some(path))
}

fn named<H: FileHeader>(
    _: &H,
    endian: H::Endian,
    data: &[u8],
    headers: &[H::ProgramHeader],
) -> Option<PathBuf> {
    let header = headers
        .iter()
        .find(|header| header.p_type(endian) == PT_INTERP)?;
    let bytes = header.data(endian, data).ok()?;
    let text = std::str::from_utf8(bytes).ok()?;
    Some(text.trim_end_matches('\0').into())
}

/// Has the dynamic linker link a program that it then does not run.
pub fn ask(interpreter: &Path, program: &Path) -> Result<Linked> {
    let program = program.canonicalize()?;
    let output = Command::new(interpreter)
        .arg(&program)
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .env("LD_WARN", "yes")
        .env("LD_BIND_NOW", "yes")
        .env("LD_DEBUG", "bindings")
        .env_remove("LD_DEBUG_OUTPUT")
        .output()
        .with_context(|| format!("cannot run {}", interpreter.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // A library that is not found ends with 1 and is told; another error is in its last words.
    let linked = read(&String::from_utf8_lossy(&output.stdout), &said);
    ensure!(
        output.status.success() || !linked.missing.is_empty(),
        "{} cannot link {}: {}",
        interpreter.display(),
        program.display(),
        said.lines().last().unwrap_or("it does not say why")
    );
    Ok(linked)
}

fn read(libraries: &str, debug: &str) -> Linked {
    let mut linked = Linked::default();
    for line in libraries.lines() {
        match line.trim().split_once(" => ") {
            Some((name, "not found")) => linked.missing.push(name.into()),
            Some((_, rest)) => linked.libraries.extend(file(rest)),
            None => linked.libraries.extend(file(line.trim())),
        }
    }
    linked.bindings.extend(debug.lines().filter_map(binding));
    linked
}

/// `/lib/libc.so.6 (0x00007f...)`
fn file(text: &str) -> Option<PathBuf> {
    let (path, _) = text.split_once(" (0x")?;
    path.starts_with('/').then(|| path.into())
}

/// ``123: binding file A [0] to B [0]: normal symbol `name' [VERSION]``
fn binding(line: &str) -> Option<Binding> {
    let (_, rest) = line.split_once("binding file ")?;
    let (files, rest) = rest.split_once(": normal symbol `")?;
    let (_, to) = files.split_once(" to ")?;
    let (to, _) = to.rsplit_once(" [")?;
    let (symbol, _) = rest.split_once('\'')?;
    Some(Binding {
        symbol: symbol.into(),
        to: to.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_linker_says_is_understood() {
        let libraries =
            "\tlinux-vdso.so.1 (0x00007f)\n\tlibq.so.0 => /usr/lib/libq.so.0 (0x00007f)\n\
                         \tlibgone.so.1 => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let debug = "      3:\tbinding file ./p [0] to /usr/lib/libq.so.0 [0]: normal symbol \
                     `icp_sal_iommu_map' [Q_1]\n      3:\tcalling init\n";
        let linked = read(libraries, debug);
        assert_eq!(linked.missing, ["libgone.so.1"]);
        assert_eq!(linked.libraries.len(), 2);
        assert_eq!(
            linked.bindings,
            [Binding {
                symbol: "icp_sal_iommu_map".into(),
                to: "/usr/lib/libq.so.0".into(),
            }]
        );
    }
}
