// SPDX-License-Identifier: GPL-2.0
//! What the memory of a buffer may be: everything that the kernel can pin for long
//! is reached by the device, everything else is refused and leaves nothing behind.

use anyhow::{ensure, Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use std::path::Path;

use super::{nothing_mapped, Rig, NOWHERE, PAGE_U64};
use crate::abi::{self, address, Context};
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, skip, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::{fresh_bytes, Memory, HUGE, PAGE};

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        shared_anonymous,
        memfd,
        huge_page,
        huge_page_of_a_memfd,
        part_of_a_huge_page,
        gigantic_page,
        transparent_huge_pages,
        stack,
        heap,
        several_kinds_in_a_row,
        untouched,
        untouched_for_reading,
        file_in_memory,
        private_file,
        shared_file_for_reading,
        shared_file_for_writing,
        for_reading_only,
        for_writing_only,
        read_only_memory,
        no_access,
        never_mapped,
        half_unmapped,
        hole_far_in,
        device_memory,
        secret_memory,
        kernel_memory,
        wrapping_ranges,
    ]
}

/// The few that also run on devices that take long over each transfer.
pub fn essential_tests() -> Vec<Test<Host>> {
    list_tests![gigantic_page, transparent_huge_pages, for_reading_only]
}

fn maps(host: &Host, memory: &UserMemory) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let iova = rig.map(memory)?;
    rig.reaches(iova, memory)?;
    rig.unmap(memory)?;
    rig.refused(iova, memory)
}

fn shared_anonymous(host: &Host) -> Result<()> {
    let memory = UserMemory::anonymous(16 * PAGE, READ_WRITE, MapFlags::SHARED)?;
    maps(host, &memory)
}

fn memfd(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let (memory, file) = UserMemory::memfd(16 * PAGE, MemfdFlags::CLOEXEC)?;
    let iova = rig.map(&memory)?;
    rig.reaches(iova, &memory)?;
    same_as_in_file(&mut rig, iova, &file)?;
    rig.unmap(&memory)?;
    rig.refused(iova, &memory)
}

/// What the device writes is what the file has, and the reverse.
fn same_as_in_file(rig: &mut Rig, iova: u64, file: &OwnedFd) -> Result<()> {
    let stored = rig.poke(iova)?;
    let mut found = vec![0; stored.len()];
    rustix::io::pread(file, &mut found, 0)?;
    ensure!(found == stored, "the file has not what the device wrote");
    let written = fresh_bytes(64);
    rustix::io::pwrite(file, &written, 0)?;
    rig.sees(iova, &written)?;
    Ok(())
}

fn huge_page(host: &Host) -> Result<()> {
    maps(host, &UserMemory::huge(2 * HUGE)?)
}

fn huge_page_of_a_memfd(host: &Host) -> Result<()> {
    crate::mem::reserve_huge_pages(1)?;
    let flags = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let Ok((memory, _file)) = UserMemory::memfd(HUGE, flags) else {
        return Err(skip("no huge pages to be had"));
    };
    maps(host, &memory)
}

fn part_of_a_huge_page(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::huge(HUGE)?;
    let (offset, length) = (5 * PAGE, 3 * PAGE_U64);
    let va = memory.va() + u64::try_from(offset)?;
    let iova = expect::succeeds("map", rig.context().map_user(va, length))?;
    let start = iova - u64::try_from(offset)?;
    for page in [5, 6, 7] {
        rig.reaches_at(start, &memory, page * PAGE)?;
    }
    // Of the huge page nothing else.
    for page in [4, 8] {
        rig.refused_at(start, &memory, page * PAGE)?;
    }
    expect::succeeds("unmap", rig.context().unmap_user(va, length))?;
    rig.refused_at(start, &memory, 6 * PAGE)
}

fn gigantic_page(host: &Host) -> Result<()> {
    maps(host, &UserMemory::gigantic()?)
}

fn transparent_huge_pages(host: &Host) -> Result<()> {
    maps(host, &UserMemory::transparent(4 * HUGE)?)
}

/// Memory that something else keeps.
struct Borrowed<'a>(&'a mut [u64]);

impl Memory for Borrowed<'_> {
    fn start(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut().cast()
    }

    fn len(&self) -> usize {
        size_of_val(self.0)
    }
}

fn maps_borrowed(host: &Host, words: &mut [u64]) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = Borrowed(words);
    let (va, length) = (address(memory.start()), u64::try_from(memory.len())?);
    let iova = expect::succeeds("map", rig.context().map_user(va, length))?;
    expect::equal("offset", iova % PAGE_U64, va % PAGE_U64)?;
    for offset in (0..memory.len() - 64).step_by(1024) {
        rig.reaches_at(iova, &memory, offset)?;
    }
    expect::succeeds("unmap", rig.context().unmap_user(va, length))?;
    rig.refused_at(iova, &memory, 0)
}

fn stack(host: &Host) -> Result<()> {
    let mut words = [0u64; 1500];
    maps_borrowed(host, &mut words)
}

fn heap(host: &Host) -> Result<()> {
    maps_borrowed(host, &mut vec![0u64; 100])
}

/// Anonymous memory, a file, a huge page and a file that is not written to, as one buffer.
fn several_kinds_in_a_row(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(6 * PAGE)?;
    let (_, file) = UserMemory::memfd(4 * PAGE, MemfdFlags::CLOEXEC)?;
    memory.overlay(PAGE, 2 * PAGE, &file, MapFlags::SHARED)?;
    memory.overlay(4 * PAGE, PAGE, &file, MapFlags::PRIVATE)?;
    let iova = rig.map(&memory)?;
    for page in 0..6 {
        rig.reaches_at(iova, &memory, page * PAGE)?;
    }
    rig.unmap(&memory)?;
    rig.refused(iova, &memory)
}

/// Mapping makes the pages that were never touched.
fn untouched(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(8 * PAGE)?;
    let iova = rig.map(&memory)?;
    let stored = rig.poke(iova + 7 * PAGE_U64)?;
    expect::equal("what the device wrote", memory.read(7 * PAGE, 64), stored)?;
    rig.reaches(iova, &memory)?;
    rig.unmap(&memory)
}

/// So does mapping for reading only: what the processor writes later is what the device reads.
fn untouched_for_reading(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(2 * PAGE)?;
    // Reading puts the page of zeros there, which is everyone's.
    expect::equal("what is there", memory.read(0, 8), vec![0; 8])?;
    let iova = for_reading(&rig, &memory)?;
    for offset in [0, PAGE] {
        let written = fresh_bytes(64);
        memory.write(offset, &written);
        rig.sees(iova + u64::try_from(offset)?, &written)?;
    }
    rig.unmap(&memory)
}

/// Maps for reading only.
fn for_reading(rig: &Rig, memory: &UserMemory) -> Result<u64> {
    match rig
        .context()
        .map_user_with(memory.va(), memory.length(), abi::READ)
    {
        Err(Errno::OPNOTSUPP) => Err(skip("this IOMMU has no such pages")),
        other => expect::succeeds("map for reading", other),
    }
}

fn new_file(path: &Path, data: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))
        .with_context(|| format!("cannot make {}", path.display()))?;
    rustix::io::pwrite(&file, data, 0)?;
    Ok(file)
}

/// A file with some pages of data, whose name is gone when this returns.
fn nameless_file(folder: &Path) -> Result<(OwnedFd, Vec<u8>)> {
    // Other machines of the same run share the project's folder.
    let unique = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let path = folder.join(format!(".qat-iommu-selftest.{}", unique.trim()));
    let data = fresh_bytes(4 * PAGE);
    let file = new_file(&path, &data)?;
    std::fs::remove_file(&path)?;
    Ok((file, data))
}

fn file_in_memory(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let (file, _) = nameless_file(Path::new("/dev/shm"))?;
    let memory = UserMemory::of_file(&file, 4 * PAGE, READ_WRITE, MapFlags::SHARED)?;
    let iova = rig.map(&memory)?;
    rig.reaches(iova, &memory)?;
    same_as_in_file(&mut rig, iova, &file)?;
    rig.unmap(&memory)?;
    rig.refused(iova, &memory)
}

/// The process's own copy of a file is memory like any other; the file stays as it is.
fn private_file(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let (file, data) = nameless_file(&build_folder(host)?)?;
    let memory = UserMemory::of_file(&file, 4 * PAGE, READ_WRITE, MapFlags::PRIVATE)?;
    let iova = rig.map(&memory)?;
    rig.sees(iova, &data[..64])?;
    rig.reaches(iova, &memory)?;
    let mut now = vec![0; data.len()];
    rustix::io::pread(&file, &mut now, 0)?;
    ensure!(now == data, "the device changed the file");
    rig.unmap(&memory)?;
    rig.refused(iova, &memory)
}

/// A folder on the file system that the project is on.
fn build_folder(host: &Host) -> Result<std::path::PathBuf> {
    let folder = host.tree.join("build/test");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn shared_file_for_reading(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let (file, data) = nameless_file(Path::new("/dev/shm"))?;
    let memory = UserMemory::of_file(&file, 4 * PAGE, ProtFlags::READ, MapFlags::SHARED)?;
    let iova = for_reading(&rig, &memory)?;
    for page in 0..4 {
        rig.sees(iova + page as u64 * PAGE_U64, &data[page * PAGE..][..64])?;
    }
    rig.unmap(&memory)
}

/// The kernel must write such pages back at a time of its choice, so it lets nobody pin them.
fn shared_file_for_writing(host: &Host) -> Result<()> {
    let (file, data) = nameless_file(&build_folder(host)?)?;
    let memory = match UserMemory::of_file(&file, 4 * PAGE, READ_WRITE, MapFlags::SHARED) {
        Err(Errno::INVAL | Errno::NODEV) => return Err(skip("this file system shares no memory")),
        other => other?,
    };
    refused_with(host, memory.va(), memory.length(), abi::BOTH, Errno::FAULT)?;
    ensure!(memory.read(0, 64) == data[..64], "the file has changed");
    Ok(())
}

/// Mapping fails in this way, and nothing of it is left.
fn refused_with(host: &Host, va: u64, length: u64, flags: u32, want: Errno) -> Result<()> {
    let rig = Rig::new(host)?;
    let (pins, locked) = (ledger::pins()?, ledger::locked()?);
    let answer = rig.context().map_user_with(va, length, flags);
    expect::fails("map", answer, want)?;
    nothing_mapped(rig.context())?;
    expect::equal("pins", ledger::pins()?, pins)?;
    expect::equal("locked memory", ledger::locked()?, locked)
}

fn for_reading_only(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(PAGE)?;
    let iova = for_reading(&rig, &memory)?;
    let written = fresh_bytes(64);
    memory.write(0, &written);
    rig.sees(iova, &written)?;
    crate::dma::cannot_write(rig.bench.dev.as_mut(), iova, &memory, 0)?;
    rig.unmap(&memory)?;
    rig.refused(iova, &memory)
}

fn for_writing_only(host: &Host) -> Result<()> {
    let mut rig = Rig::new(host)?;
    let memory = UserMemory::scattered(PAGE)?;
    let answer = rig
        .context()
        .map_user_with(memory.va(), PAGE_U64, abi::WRITE);
    if answer == Err(Errno::OPNOTSUPP) {
        return Err(skip("this IOMMU has no such pages"));
    }
    let iova = expect::succeeds("map for writing", answer)?;
    let stored = rig.poke(iova)?;
    expect::equal("what the device wrote", memory.read(0, 64), stored)?;
    rig.unmap(&memory)?;
    rig.refused(iova, &memory)
}

/// The device may do no more than the process: read, where the IOMMU has such pages.
fn read_only_memory(host: &Host) -> Result<()> {
    let memory = UserMemory::scattered(3 * PAGE)?;
    let written = fresh_bytes(64);
    memory.write(0, &written);
    memory.protect(MprotectFlags::READ)?;
    let (va, length) = (memory.va(), memory.length());
    refused_with(host, va, length, abi::BOTH, Errno::FAULT)?;
    refused_with(host, va, length, abi::WRITE, Errno::FAULT)?;
    let mut rig = Rig::new(host)?;
    let iova = for_reading(&rig, &memory)?;
    rig.sees(iova, &written)?;
    rig.unmap(&memory)
}

fn no_access(host: &Host) -> Result<()> {
    let memory = UserMemory::scattered(2 * PAGE)?;
    memory.touch();
    memory.protect(MprotectFlags::empty())?;
    for flags in [abi::BOTH, abi::READ] {
        refused_unless_unsupported(host, memory.va(), memory.length(), flags)?;
    }
    Ok(())
}

/// EFAULT, or EOPNOTSUPP where the IOMMU has no read-only pages anyway.
fn refused_unless_unsupported(host: &Host, va: u64, length: u64, flags: u32) -> Result<()> {
    let probe = UserMemory::scattered(PAGE)?;
    let supported =
        Context::open()?.map_user_with(probe.va(), PAGE_U64, flags) != Err(Errno::OPNOTSUPP);
    if supported {
        refused_with(host, va, length, flags, Errno::FAULT)?;
    }
    Ok(())
}

fn never_mapped(host: &Host) -> Result<()> {
    for va in [NOWHERE, 0, PAGE_U64, 0x7fff_ffff_0000] {
        refused_with(host, va, 2 * PAGE_U64, abi::BOTH, Errno::FAULT)?;
    }
    Ok(())
}

fn half_unmapped(host: &Host) -> Result<()> {
    let memory = UserMemory::scattered(8 * PAGE)?;
    memory.touch();
    let (first, second) = memory.split(4 * PAGE)?;
    drop(second);
    let va = first.va();
    refused_with(host, va, 8 * PAGE_U64, abi::BOTH, Errno::FAULT)?;
    refused_with(host, va, 4 * PAGE_U64 + 1, abi::BOTH, Errno::FAULT)?;
    // What is there can be mapped.
    maps(host, &first)
}

/// Thousands of pages are pinned by the time the hole is found.
fn hole_far_in(host: &Host) -> Result<()> {
    let memory = UserMemory::scattered(4 * HUGE)?;
    let (va, length) = (memory.va(), memory.length());
    let (first, rest) = memory.split(4 * HUGE - 2 * PAGE)?;
    let (hole, _last) = rest.split(PAGE)?;
    drop(hole);
    refused_with(host, va, length, abi::BOTH, Errno::FAULT)?;
    first.advise(Advice::LinuxDontNeed)
}

fn device_memory(host: &Host) -> Result<()> {
    let path = host.pf()?.path().join("resource0");
    let file = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let memory = UserMemory::of_file(&file, PAGE, READ_WRITE, MapFlags::SHARED)?;
    refused_with(host, memory.va(), PAGE_U64, abi::BOTH, Errno::FAULT)
}

/// Memory that not even the kernel keeps mapped.
fn secret_memory(host: &Host) -> Result<()> {
    let Some(file) = crate::libc_calls::memfd_secret() else {
        return Err(skip("this kernel has no secret memory"));
    };
    rustix::fs::ftruncate(&file, PAGE_U64)?;
    let memory = UserMemory::of_file(&file, PAGE, READ_WRITE, MapFlags::SHARED)?;
    memory.touch();
    refused_with(host, memory.va(), PAGE_U64, abi::BOTH, Errno::FAULT)
}

fn kernel_memory(host: &Host) -> Result<()> {
    for va in [
        0xffff_8880_0000_0000,
        0xffff_ffff_8100_0000,
        0x8000_0000_0000,
        0x7fff_ffff_f000,
    ] {
        refused_with(host, va, PAGE_U64, abi::BOTH, Errno::FAULT)?;
    }
    Ok(())
}

fn wrapping_ranges(host: &Host) -> Result<()> {
    let memory = UserMemory::scattered(PAGE)?;
    let (va, both) = (memory.va(), abi::BOTH);
    refused_with(host, va, 0, both, Errno::INVAL)?;
    refused_with(host, va, u64::MAX, both, Errno::OVERFLOW)?;
    refused_with(host, va, u64::MAX - va + 2, both, Errno::OVERFLOW)?;
    refused_with(host, u64::MAX, 2, both, Errno::OVERFLOW)?;
    // More than a process can have, though it does not wrap.
    for length in [1 << 47, 1 << 50, 1 << 62] {
        let rig = Rig::new(host)?;
        let mut request = abi::user::map_request(va, length);
        request.flags = uapi::QAT_IOMMU_MAP_READ | uapi::QAT_IOMMU_MAP_WRITE;
        expect::holds(
            &format!("{length:#x} bytes are refused"),
            rig.context().map_user_as(request).is_err(),
        )?;
        nothing_mapped(rig.context())?;
    }
    Ok(())
}
