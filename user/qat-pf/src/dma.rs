// SPDX-License-Identifier: GPL-2.0
//! The DMA table: what QEMU has told the device it may reach (DMA_MAP less DMA_UNMAP), ordered by address, each
//! entry with the file that holds the memory. A memory file is held once however many entries lie in it, by its
//! device and inode number: a buffer of 64 MiB can be 16,384 entries, each sent with a descriptor of its own.
//! Memory is reached with pread and pwrite, which see the same pages as a mapping would and turn a file that was
//! cut short into an error instead of a SIGBUS.

use crate::ranges::{Access, Reach, Span};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::rc::{Rc, Weak};

/// 16 GiB in pages of 4 KiB: far above any test, and a bound on what a client can make the server hold.
const MAX_ENTRIES: usize = 1 << 22;

/// Device and inode number: what makes two descriptors the same file.
type FileId = (u64, u64);

/// Where an entry's first byte lies.
#[derive(Clone, Debug)]
struct Backing {
    file: Rc<File>,
    offset: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    last: u64,
    access: Access,
    /// None where QEMU has no file to share (its ROMs): reachable by messages only.
    backing: Option<Backing>,
}

/// A run of addresses that lies in one file without a gap.
pub struct Run<'a> {
    file: &'a File,
    offset: u64,
    length: u64,
}

impl Run<'_> {
    /// How many of `wanted` bytes the run holds.
    pub fn limit(&self, wanted: usize) -> usize {
        usize::try_from(self.length).map_or(wanted, |length| length.min(wanted))
    }

    pub fn read(&self, data: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(data, self.offset)
    }

    pub fn write(&self, data: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(data, self.offset)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

/// What a DMA_MAP did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapped {
    Added,
    /// The very same entry was there: QEMU replays a domain when a device joins it.
    Repeated,
}

#[derive(Default)]
pub struct Table {
    entries: BTreeMap<u64, Entry>,
    files: HashMap<FileId, Weak<File>>,
}

impl Table {
    /// Adds an entry. An overlap with another one is refused with EEXIST, as the protocol says.
    pub fn map(
        &mut self,
        span: Span,
        access: Access,
        fd: Option<OwnedFd>,
        offset: u64,
    ) -> Result<Mapped, Errno> {
        let backing = fd.map(|fd| self.backing(fd, offset, span)).transpose()?;
        if let Some((first, old)) = self.entries.range(..=span.last).next_back() {
            if old.last >= span.first {
                let same_place = match (&old.backing, &backing) {
                    (Some(a), Some(b)) => Rc::ptr_eq(&a.file, &b.file) && a.offset == b.offset,
                    (None, None) => true,
                    _ => false,
                };
                let same = same_place && (*first, old.last) == (span.first, span.last);
                return if same && old.access == access {
                    Ok(Mapped::Repeated)
                } else {
                    Err(Errno::EXIST)
                };
            }
        }
        if self.entries.len() >= MAX_ENTRIES {
            return Err(Errno::NOSPC);
        }
        let entry = Entry {
            last: span.last,
            access,
            backing,
        };
        self.entries.insert(span.first, entry);
        Ok(Mapped::Added)
    }

    fn backing(&mut self, fd: OwnedFd, offset: u64, span: Span) -> Result<Backing, Errno> {
        let stat = rustix::fs::fstat(&fd)?;
        // Reading anything but a regular file could block or have effects.
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let size = u64::try_from(stat.st_size).map_err(|_| Errno::INVAL)?;
        let fits = u128::from(offset) + span.size() <= u128::from(size);
        if !fits {
            return Err(Errno::INVAL);
        }
        let id = (stat.st_dev, stat.st_ino);
        let file = match self.files.get(&id).and_then(Weak::upgrade) {
            Some(file) => file,
            None => {
                self.files.retain(|_, file| file.strong_count() > 0);
                let file = Rc::new(File::from(fd));
                self.files.insert(id, Rc::downgrade(&file));
                file
            }
        };
        Ok(Backing { file, offset })
    }

    /// Removes whatever lies in `span`: whole entries, and the parts of those that it cuts.
    pub fn unmap(&mut self, span: Span) {
        if let Some((&first, entry)) = self.entries.range_mut(..span.first).next_back() {
            if entry.last >= span.first {
                let tail = entry.clone();
                entry.last = span.first - 1;
                self.keep_after(span, first, &tail);
            }
        }
        while let Some((&first, _)) = self.entries.range(span.first..=span.last).next() {
            if let Some(entry) = self.entries.remove(&first) {
                self.keep_after(span, first, &entry);
            }
        }
    }

    /// Puts back the part of `entry` that lies above `span`.
    fn keep_after(&mut self, span: Span, first: u64, entry: &Entry) {
        if entry.last <= span.last {
            return;
        }
        let start = span.last + 1;
        let mut rest = entry.clone();
        if let Some(backing) = &mut rest.backing {
            backing.offset += start - first;
        }
        self.entries.insert(start, rest);
    }

    /// The memory at `at`, as far as it goes, if the table lets the device do this there.
    pub fn run(&self, at: u64, direction: Direction) -> Option<Run<'_>> {
        let (&first, entry) = self.entry(at)?;
        let allowed = match direction {
            Direction::Read => entry.access.read,
            Direction::Write => entry.access.write,
        };
        let backing = entry.backing.as_ref().filter(|_| allowed)?;
        Some(Run {
            file: &backing.file,
            offset: backing.offset + (at - first),
            length: (entry.last - at).saturating_add(1),
        })
    }

    pub fn access(&self, at: u64) -> Access {
        self.entry(at).map_or(
            Access {
                read: false,
                write: false,
            },
            |(_, entry)| entry.access,
        )
    }

    fn entry(&self, at: u64) -> Option<(&u64, &Entry)> {
        self.entries
            .range(..=at)
            .next_back()
            .filter(|(_, entry)| at <= entry.last)
    }

    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Bytes in all entries; they never overlap.
    pub fn bytes(&self) -> u128 {
        self.entries
            .iter()
            .map(|(&first, entry)| {
                Span {
                    first,
                    last: entry.last,
                }
                .size()
            })
            .sum()
    }

    pub fn reach(&self) -> Reach {
        let mut reach = Reach::default();
        for (&first, entry) in &self.entries {
            let span = Span {
                first,
                last: entry.last,
            };
            reach.add(span, entry.access);
        }
        reach
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::os::fd::AsFd;

    pub const RW: Access = Access {
        read: true,
        write: true,
    };
    pub const RO: Access = Access {
        read: true,
        write: false,
    };

    pub fn memory(size: u64) -> OwnedFd {
        let fd = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        rustix::fs::ftruncate(&fd, size).expect("size");
        fd
    }

    pub fn span(first: u64, size: u64) -> Span {
        Span::new(first, size).expect("a valid span")
    }

    fn dup(fd: &OwnedFd) -> Option<OwnedFd> {
        Some(fd.as_fd().try_clone_to_owned().expect("dup"))
    }

    #[test]
    fn sixteen_thousand_maps_hold_one_file() {
        let ram = memory(64 << 20);
        let mut table = Table::default();
        for page in 0..16_384u64 {
            // In reverse file order, so that no two entries are one run.
            let offset = (16_383 - page) * 4096;
            let mapped = table.map(
                span(0x1_0000_0000 + page * 4096, 4096),
                RW,
                dup(&ram),
                offset,
            );
            assert_eq!(mapped, Ok(Mapped::Added));
        }
        assert_eq!(table.files.len(), 1);
        assert_eq!((table.entries(), table.bytes()), (16_384, 64 << 20));
        assert_eq!(table.reach().list().len(), 1);

        let run = table.run(0x1_0000_0000, Direction::Write).expect("mapped");
        run.write(b"first page").expect("write");
        let mut seen = [0; 10];
        File::from(ram)
            .read_exact_at(&mut seen, 16_383 * 4096)
            .expect("read");
        assert_eq!(&seen, b"first page");

        table.unmap(span(0x1_0000_0000, 64 << 20));
        assert_eq!((table.entries(), table.bytes()), (0, 0));
        assert!(table.files.values().all(|file| file.strong_count() == 0));
    }

    #[test]
    fn an_overlap_is_refused_and_changes_nothing() {
        let ram = memory(0x10000);
        let mut table = Table::default();
        let place = span(0x2000, 0x2000);
        assert_eq!(table.map(place, RW, dup(&ram), 0), Ok(Mapped::Added));
        assert_eq!(table.map(place, RW, dup(&ram), 0), Ok(Mapped::Repeated));
        assert_eq!(table.map(place, RO, dup(&ram), 0), Err(Errno::EXIST));
        assert_eq!(table.map(place, RW, dup(&ram), 0x1000), Err(Errno::EXIST));
        assert_eq!(
            table.map(span(0x1000, 0x1001), RW, dup(&ram), 0),
            Err(Errno::EXIST)
        );
        assert_eq!(
            table.map(span(0x3fff, 1), RW, dup(&ram), 0),
            Err(Errno::EXIST)
        );
        assert_eq!(
            table.map(span(0x1000, 0x1000), RW, dup(&ram), 0),
            Ok(Mapped::Added)
        );
        assert_eq!((table.entries(), table.bytes()), (2, 0x3000));
    }

    #[test]
    fn an_entry_must_lie_within_a_regular_file() {
        let ram = memory(0x2000);
        let mut table = Table::default();
        assert_eq!(
            table.map(span(0, 0x2001), RW, dup(&ram), 0),
            Err(Errno::INVAL)
        );
        assert_eq!(
            table.map(span(0, 1), RW, dup(&ram), u64::MAX),
            Err(Errno::INVAL)
        );
        assert_eq!(table.map(Span::ALL, RW, dup(&ram), 0), Err(Errno::INVAL));
        let (writer, _other) = std::os::unix::net::UnixStream::pair().expect("sockets");
        assert_eq!(
            table.map(span(0, 1), RW, Some(writer.into()), 0),
            Err(Errno::INVAL)
        );
        assert_eq!(table.entries(), 0);
    }

    #[test]
    fn unmap_may_end_at_the_end_of_the_address_space() {
        let ram = memory(0x4000);
        let mut table = Table::default();
        let top = u64::MAX - 0xfff;
        table.map(span(top, 0x1000), RW, dup(&ram), 0).expect("map");
        table
            .map(span(0x1000, 0x1000), RW, dup(&ram), 0x1000)
            .expect("map");
        assert!(table.run(u64::MAX, Direction::Read).is_some());
        table.unmap(span(1 << 63, 1 << 63));
        assert!(table.run(u64::MAX, Direction::Read).is_none());
        assert_eq!(table.entries(), 1);
        table.unmap(Span::ALL);
        assert_eq!(table.entries(), 0);
    }

    #[test]
    fn an_unmap_inside_an_entry_leaves_both_sides_in_place() {
        let ram = memory(0x4000);
        File::from(dup(&ram).expect("fd"))
            .write_all_at(b"tail", 0x3000)
            .expect("write");
        let mut table = Table::default();
        table
            .map(span(0x10000, 0x4000), RW, dup(&ram), 0)
            .expect("map");
        table.unmap(span(0x11000, 0x2000));
        assert!(table.run(0x10fff, Direction::Read).is_some());
        assert!(table.run(0x11000, Direction::Read).is_none());
        assert!(table.run(0x12fff, Direction::Read).is_none());
        let mut seen = [0; 4];
        let tail = table.run(0x13000, Direction::Read).expect("still mapped");
        tail.read(&mut seen).expect("read");
        assert_eq!(&seen, b"tail");
        assert_eq!(tail.limit(usize::MAX), 0x1000);
    }

    #[test]
    fn permissions_hold() {
        let ram = memory(0x1000);
        let mut table = Table::default();
        table.map(span(0, 0x1000), RO, dup(&ram), 0).expect("map");
        assert!(table.run(0, Direction::Read).is_some());
        assert!(table.run(0, Direction::Write).is_none());
        assert_eq!(table.access(0xfff), RO);
        assert!(!table.access(0x1000).read);
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let ram = memory(0x2000);
        let mut table = Table::default();
        table.map(span(0, 0x2000), RW, dup(&ram), 0).expect("map");
        rustix::fs::ftruncate(&ram, 0x1000).expect("cut");
        let run = table.run(0x1000, Direction::Read).expect("mapped");
        assert!(run.read(&mut [0; 16]).is_err());
    }
}
