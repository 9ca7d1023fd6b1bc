// SPDX-License-Identifier: GPL-2.0
//! From places in the code to lines. The module has a call at the beginning of each basic block;
//! what the kernel has noted is where those calls return to. Linked to fixed addresses it has a
//! line for each instruction. A line is reached if any of its instructions ran.

use anyhow::{bail, ensure, Context as _, Result};
use object::{Object as _, ObjectSection as _, SectionFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::blocks::Code;

/// Bytes of code of the module's init, and of the module, that qat_cover keeps bits for.
const INIT_BITS: usize = 64 << 10;
const TEXT_BITS: usize = 4 << 20;

/// Each line that has code, by file and number, and whether it was reached.
#[derive(Default)]
pub struct Lines(pub BTreeMap<(String, u32), bool>);

/// A section of code.
struct Part {
    name: String,
    init: bool,
    /// From the beginning of the module's (or its init's) code.
    offset: u64,
    size: u64,
}

/// The sections of code of a .ko, where the kernel's loader puts them.
fn parts(module: &object::File<'_>) -> Result<Vec<Part>> {
    let mut ends = [0u64; 2];
    let mut parts = Vec::new();
    for section in module.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else {
            continue;
        };
        let wanted = u64::from(object::elf::SHF_ALLOC | object::elf::SHF_EXECINSTR);
        if sh_flags & wanted != wanted {
            continue;
        }
        let name = section.name()?.to_owned();
        let init = name.starts_with(".init");
        let end = &mut ends[usize::from(init)];
        let offset = end.next_multiple_of(section.align().max(1));
        *end = offset + section.size();
        parts.push(Part {
            name,
            init,
            offset,
            size: section.size(),
        });
    }
    Ok(parts)
}

/// The places that one machine noted, as addresses of the linked module.
fn reached(bits: &[u8], parts: &[Part], starts: &BTreeMap<String, u64>) -> Result<BTreeSet<u64>> {
    ensure!(
        bits.len() * 8 == INIT_BITS + TEXT_BITS,
        "not what qat_cover writes"
    );
    let mut all = BTreeSet::new();
    for (index, byte) in bits.iter().enumerate().filter(|(_, byte)| **byte != 0) {
        for bit in (0..8).filter(|bit| (byte >> bit) & 1 != 0) {
            let place = index * 8 + bit;
            let (init, offset) = match place.checked_sub(INIT_BITS) {
                Some(offset) => (false, offset as u64),
                None => (true, place as u64),
            };
            let inside = |part: &&Part| {
                part.init == init && (part.offset..part.offset + part.size).contains(&offset)
            };
            let part = parts
                .iter()
                .find(inside)
                .context("a place outside of the code")?;
            let start = starts
                .get(&part.name)
                .context("a section that is not there")?;
            all.insert(start + (offset - part.offset));
        }
    }
    Ok(all)
}

/// The name of a file of the module, from the top of the tree.
fn own(file: &str, tree: &str) -> Option<String> {
    let file = file.strip_prefix(tree).unwrap_or(file);
    let file = file.trim_start_matches('/').trim_start_matches("./");
    let file = &file.replace("/./", "/");
    let ours = file.starts_with("iova/") || file.starts_with("remap/");
    (ours || file == "rust_qat_iommu.rs").then(|| file.to_owned())
}

/// Adds what one build has, and what its machines reached.
pub fn add(lines: &mut Lines, build: &Path, tree: &Path) -> Result<()> {
    let tree = tree.canonicalize()?;
    let tree = tree.to_str().context("a path of text")?;
    let (module, linked) = (
        std::fs::read(build.join("qat_iommu.ko"))?,
        std::fs::read(build.join("qat_iommu.elf"))?,
    );
    let parts = parts(&object::File::parse(&*module)?)?;
    let file = object::File::parse(&*linked)?;
    let mut starts = BTreeMap::new();
    for section in file.sections() {
        starts.insert(section.name()?.to_owned(), section.address());
    }
    let text = std::fs::read_to_string(build.join("qat_iommu.dis"))?;
    let code = Code::parse(&text)?;
    let sites = code.sites();

    let mut seen = BTreeSet::new();
    let mut machines = 0;
    for entry in std::fs::read_dir(build)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cov") {
            let found = reached(&std::fs::read(&path)?, &parts, &starts)
                .with_context(|| path.display().to_string())?;
            if let Some(strange) = found.iter().find(|place| !sites.contains(place)) {
                bail!(
                    "{}: {strange:#x} is not behind a call: another build's",
                    path.display()
                );
            }
            seen.extend(found);
            machines += 1;
        }
    }
    println!(
        "{}: {} of {} blocks reached, {machines} machines",
        build.display(),
        seen.len(),
        sites.len()
    );

    let load = |section: gimli::SectionId| -> Result<gimli::EndianRcSlice<gimli::LittleEndian>> {
        let data = match file.section_by_name(section.name()) {
            Some(section) => section.uncompressed_data()?,
            None => Default::default(),
        };
        Ok(gimli::EndianRcSlice::new(data.into(), gimli::LittleEndian))
    };
    let names = addr2line::Context::from_dwarf(gimli::Dwarf::load(load)?)?;
    let ran = code.ran(&seen);
    let (Some((first, _)), Some((last, _))) = (ran.first_key_value(), ran.last_key_value()) else {
        bail!("it has no code");
    };
    for (address, length, place) in names.find_location_range(*first, last + 1)? {
        let (Some(path), Some(line)) = (place.file, place.line) else {
            continue;
        };
        let Some(path) = own(path, tree).filter(|_| line != 0) else {
            continue;
        };
        let mut instructions = ran.range(address..address + length.max(1)).peekable();
        // Of what does not tell where it is nothing can be said.
        if instructions.peek().is_some() {
            let there = instructions.any(|(_, ran)| *ran);
            *lines.0.entry((path, line)).or_default() |= there;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_module_count() {
        let own = |file| own(file, "/tree");
        assert_eq!(
            own("/tree/remap/space.rs").as_deref(),
            Some("remap/space.rs")
        );
        assert_eq!(own("./iova/tree.rs").as_deref(), Some("iova/tree.rs"));
        assert_eq!(
            own("/tree/rust_qat_iommu.rs").as_deref(),
            Some("rust_qat_iommu.rs")
        );
        assert_eq!(
            own("/tree/remap/./trace.h").as_deref(),
            Some("remap/trace.h")
        );
        assert_eq!(own("/kernel/debug/src/rust/kernel/lib.rs"), None);
        assert_eq!(own("/tree/tests/coverage/collector.c"), None);
    }

    #[test]
    fn a_bit_is_a_place_in_its_section() {
        let part = |name: &str, init, offset, size| Part {
            name: name.to_owned(),
            init,
            offset,
            size,
        };
        let parts = [
            part(".text", false, 0, 0x100),
            part(".init.text", true, 0, 0x10),
            part(".exit.text", false, 0x110, 0x20),
        ];
        let starts: BTreeMap<String, u64> = [
            (".text", 0x1000),
            (".init.text", 0x5000),
            (".exit.text", 0x9000),
        ]
        .map(|(name, start)| (name.to_owned(), start))
        .into();
        let mut bits = vec![0; (INIT_BITS + TEXT_BITS) / 8];
        bits[0] = 1 << 5;
        bits[INIT_BITS / 8] = 1 << 1;
        bits[INIT_BITS / 8 + 0x114 / 8] = 1 << (0x114 % 8);
        let all = reached(&bits, &parts, &starts).unwrap();
        assert_eq!(all, BTreeSet::from([0x1001, 0x5005, 0x9004]));
        bits[INIT_BITS / 8 + 0x104 / 8] = 1;
        assert!(reached(&bits, &parts, &starts).is_err());
    }
}
