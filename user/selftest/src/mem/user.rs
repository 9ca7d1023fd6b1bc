// SPDX-License-Identifier: GPL-2.0
//! Memory of every kind that a program may have, as a buffer to be mapped for the
//! device: small pages, transparent and reserved huge pages, shared memory, files.

use anyhow::{ensure, Context as _, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};
use std::fs;
use std::ptr::NonNull;

use super::{reserve_huge_pages, Memory, HUGE, PAGE};
use crate::abi::address;
use crate::ktap::skip;

/// Bytes of a gigantic page.
pub const GIGANTIC: usize = 1 << 30;

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// An address range of this process, unmapped when it is dropped.
pub struct UserMemory {
    start: NonNull<u8>,
    len: usize,
    /// How much is there, of which `len` is the buffer.
    whole: usize,
}

// SAFETY: the memory belongs to the value alone and is reached through volatile accesses only.
unsafe impl Send for UserMemory {}
// SAFETY: as above; tests do not access the same bytes from two threads.
unsafe impl Sync for UserMemory {}

impl Memory for UserMemory {
    fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl UserMemory {
    /// Anonymous memory with nothing behind it yet.
    pub fn anonymous(len: usize, protection: ProtFlags, flags: MapFlags) -> Result<Self, Errno> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, protection, flags)? };
        Self::from_raw(start.cast(), len)
    }

    /// A mapping of a file.
    pub fn of_file(
        file: impl AsFd,
        len: usize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> Result<Self, Errno> {
        // SAFETY: as above.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, flags, file, 0)? };
        Self::from_raw(start.cast(), len)
    }

    fn from_raw(start: *mut u8, len: usize) -> Result<Self, Errno> {
        let start = NonNull::new(start).ok_or(Errno::FAULT)?;
        Ok(Self {
            start,
            len,
            whole: len,
        })
    }

    /// Small pages from here and there.
    pub fn scattered(len: usize) -> Result<Self> {
        let memory = Self::anonymous(len, READ_WRITE, MapFlags::PRIVATE)
            .with_context(|| format!("cannot allocate {len} bytes"))?;
        memory.advise(Advice::LinuxNoHugepage)?;
        Ok(memory)
    }

    /// Transparent huge pages; the last of them may be a part.
    pub fn transparent(len: usize) -> Result<Self> {
        let span = len.next_multiple_of(HUGE);
        let whole = Self::anonymous(span + HUGE, READ_WRITE, MapFlags::PRIVATE)
            .with_context(|| format!("cannot allocate {len} bytes"))?;
        let before = whole.start().addr().next_multiple_of(HUGE) - whole.start().addr();
        let (_, rest) = whole.split(before)?;
        let (mut memory, _) = rest.split(span)?;
        memory.advise(Advice::LinuxHugepage)?;
        memory.touch();
        for offset in (0..span).step_by(HUGE) {
            if !memory.is_one_huge_page(offset)? {
                return Err(skip("no transparent huge page to be had"));
            }
        }
        // What lies beyond stays: without it the last page would be split.
        memory.len = len;
        Ok(memory)
    }

    /// Reserved huge pages of 2 MiB.
    pub fn huge(len: usize) -> Result<Self> {
        reserve_huge_pages(len / HUGE)?;
        Self::anonymous(
            len,
            READ_WRITE,
            MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB,
        )
        .map_err(|_| skip("no huge pages to be had"))
    }

    /// A reserved huge page of 1 GiB; the machine has it from its start or not at all.
    pub fn gigantic() -> Result<Self> {
        let free =
            fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages");
        if !free.is_ok_and(|count| count.trim() != "0") {
            return Err(skip("this machine has no page of 1 GiB reserved"));
        }
        Self::anonymous(
            GIGANTIC,
            READ_WRITE,
            MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_1GB,
        )
        .context("cannot map a page of 1 GiB")
    }

    /// A file in memory, and a mapping of it.
    pub fn memfd(len: usize, flags: MemfdFlags) -> Result<(Self, OwnedFd)> {
        let file = rustix::fs::memfd_create("qat-iommu-selftest", flags)?;
        rustix::fs::ftruncate(&file, u64::try_from(len)?)?;
        let memory = Self::of_file(&file, len, READ_WRITE, MapFlags::SHARED)?;
        Ok((memory, file))
    }

    /// Puts the beginning of a file in the place of a part of the range.
    pub fn overlay(&self, at: usize, len: usize, file: impl AsFd, flags: MapFlags) -> Result<()> {
        ensure!(at + len <= self.len, "outside of the buffer");
        // SAFETY: the place is inside the range, which is this value's own.
        unsafe {
            let place = self.start().add(at).cast();
            rustix::mm::mmap(place, len, READ_WRITE, flags | MapFlags::FIXED, file, 0)
        }
        .context("cannot map the file")?;
        Ok(())
    }

    /// The first `unit` bytes of a file, a multiple of its page size, many times in a row.
    pub fn repeated(file: impl AsFd, unit: usize, times: usize) -> Result<Self> {
        let none = ProtFlags::empty();
        let room = Self::anonymous(
            (times + 1) * unit,
            none,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )?;
        let before = room.start().addr().next_multiple_of(unit) - room.start().addr();
        let (_, rest) = room.split(before)?;
        let (memory, _) = rest.split(times * unit)?;
        for time in 0..times {
            memory.overlay(time * unit, unit, &file, MapFlags::SHARED)?;
        }
        Ok(memory)
    }

    /// Where it begins, as the interface carries it.
    pub fn va(&self) -> u64 {
        address(self.start())
    }

    /// Its length, as the interface carries it.
    pub fn length(&self) -> u64 {
        u64::try_from(self.len).expect("a size")
    }

    /// Writes something to every page, so that each is there. Every second page comes first: of small
    /// pages, which the kernel gives one after the other, no two neighbours then follow each other in
    /// physical memory too.
    pub fn touch(&self) {
        for offset in [0, PAGE] {
            for offset in (offset..self.len).step_by(2 * PAGE) {
                self.write(offset, &[1; 8]);
            }
        }
    }

    /// Parts it in two at an offset.
    pub fn split(self, at: usize) -> Result<(Self, Self)> {
        ensure!(at <= self.len && at % PAGE == 0, "cannot part it there");
        let (start, len) = self.release();
        // SAFETY: the offset is inside the range, or just behind it.
        let second = unsafe { start.as_ptr().add(at) };
        Ok((
            Self::from_raw(start.as_ptr(), at)?,
            Self::from_raw(second, len - at)?,
        ))
    }

    /// Where it is and how much; it stays there.
    fn release(self) -> (NonNull<u8>, usize) {
        let kept = std::mem::ManuallyDrop::new(self);
        (kept.start, kept.whole)
    }

    pub fn advise(&self, advice: Advice) -> Result<()> {
        self.advise_part(0, self.len, advice)
    }

    pub fn advise_part(&self, at: usize, len: usize, advice: Advice) -> Result<()> {
        let start = self.part(at, len)?;
        // SAFETY: the part is this value's own, and nothing keeps a reference into it; what it
        // held may change, which tests expect.
        unsafe { rustix::mm::madvise(start, len, advice) }
            .with_context(|| format!("madvise {advice:?}"))
    }

    /// Makes large pages of what is there.
    pub fn collapse(&self) -> Result<(), Errno> {
        crate::libc_calls::collapse(self.start(), self.len)
    }

    pub fn protect(&self, protection: MprotectFlags) -> Result<()> {
        self.protect_part(0, self.len, protection)
    }

    pub fn protect_part(&self, at: usize, len: usize, protection: MprotectFlags) -> Result<()> {
        let start = self.part(at, len)?;
        // SAFETY: the part is this value's own, and nothing keeps a reference into it.
        Ok(unsafe { rustix::mm::mprotect(start, len, protection) }?)
    }

    /// Where a part begins, for the system calls.
    fn part(&self, at: usize, len: usize) -> Result<*mut std::ffi::c_void> {
        ensure!(
            at <= self.len && len <= self.len - at,
            "outside of the buffer"
        );
        // SAFETY: the offset is inside the range, or just behind it.
        Ok(unsafe { self.start().add(at) }.cast())
    }

    /// Moves the memory to another address of the process; the old one is free then.
    pub fn moved(self) -> Result<Self> {
        let target = Self::anonymous(self.whole, ProtFlags::empty(), MapFlags::PRIVATE)?;
        let ((old, len), (new, _)) = (self.release(), target.release());
        // SAFETY: both ranges are ours; the memory at the new one, which nothing uses, goes.
        let start = unsafe {
            let (old, new) = (old.as_ptr().cast(), new.as_ptr().cast());
            rustix::mm::mremap_fixed(old, len, len, MremapFlags::MAYMOVE, new)
        }?;
        Ok(Self::from_raw(start.cast(), len)?)
    }

    /// Moves the first page of this memory to the first of another, whose own goes; here a new one
    /// comes when it is touched.
    pub fn lend_first_page(&self, other: &Self) -> Result<()> {
        ensure!(self.len >= PAGE && other.len >= PAGE, "no page");
        // SAFETY: both pages are ours, and nothing keeps a reference into them.
        unsafe {
            let (from, to) = (self.start().cast(), other.start().cast());
            let flags = MremapFlags::MAYMOVE | MremapFlags::DONTUNMAP;
            rustix::mm::mremap_fixed(from, PAGE, PAGE, flags, to)
        }
        .context("cannot move the page")?;
        Ok(())
    }

    fn is_one_huge_page(&self, offset: usize) -> Result<bool> {
        let pages = super::physical_pages(self.start().addr() + offset, HUGE)?;
        Ok(super::contiguous(&pages) && pages[0] % u64::try_from(HUGE)? == 0)
    }
}

impl Drop for UserMemory {
    fn drop(&mut self) {
        if self.whole > 0 {
            // SAFETY: the range is this value's own and nothing refers to it any more.
            let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.whole) };
        }
    }
}
