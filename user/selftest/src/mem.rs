// SPDX-License-Identifier: GPL-2.0
//! Memory whose physical address is known: single pages and physically
//! contiguous runs, populated, locked, and looked up in `/proc/self/pagemap`.
//! The device writes behind the compiler's back, so every access is volatile.

pub mod user;

use anyhow::{ensure, Context as _, Result};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ktap::skip;

/// Bytes of the smallest page.
pub const PAGE: usize = 4096;
/// Bytes of a huge page.
pub const HUGE: usize = 2 << 20;

const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;
const HUGEPAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Anonymous memory of this process, unmapped when it is dropped.
struct Region {
    start: NonNull<u8>,
    len: usize,
}

impl Region {
    fn new(len: usize, flags: MapFlags) -> Result<Self, rustix::io::Errno> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing
        // that exists.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | flags,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(rustix::io::Errno::FAULT)?;
        Ok(Self { start, len })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The physical address behind one address of this process.
fn physical(pagemap: &File, address: usize) -> Result<u64> {
    let mut entry = [0u8; 8];
    let index = u64::try_from(address / PAGE)?;
    pagemap
        .read_exact_at(&mut entry, index * 8)
        .context("cannot read /proc/self/pagemap")?;
    let entry = u64::from_ne_bytes(entry);
    ensure!(
        entry & PRESENT != 0,
        "the page at {address:#x} is not present"
    );
    let frame = entry & FRAME;
    ensure!(
        frame != 0,
        "the pagemap hides physical addresses; run as root"
    );
    Ok(frame * u64::try_from(PAGE)? + u64::try_from(address % PAGE)?)
}

/// The physical addresses of every page of some memory.
pub fn physical_pages(start: usize, len: usize) -> Result<Vec<u64>> {
    let pagemap = File::open("/proc/self/pagemap").context("cannot open /proc/self/pagemap")?;
    (0..len.div_ceil(PAGE))
        .map(|page| physical(&pagemap, start + page * PAGE))
        .collect()
}

/// Physically contiguous memory of this process.
pub struct Buffer {
    region: Region,
    offset: usize,
    len: usize,
    phys: u64,
}

// SAFETY: the memory belongs to the value alone and is reached through volatile accesses only.
unsafe impl Send for Buffer {}

impl Buffer {
    /// One page.
    pub fn page() -> Result<Self> {
        let region = Region::new(PAGE, MapFlags::POPULATE | MapFlags::LOCKED)
            .context("cannot allocate a page")?;
        let phys = physical_pages(region.start.as_ptr() as usize, PAGE)?[0];
        Ok(Self {
            region,
            offset: 0,
            len: PAGE,
            phys,
        })
    }

    /// A fork leaves it alone. Else the child would share it, and what this process writes next
    /// would go to a copy, at another physical address than the device knows.
    pub fn keep_from_children(&self) -> Result<()> {
        // SAFETY: the region is this value's own; only children are concerned.
        Ok(unsafe {
            rustix::mm::madvise(
                self.region.start.as_ptr().cast(),
                self.region.len,
                Advice::LinuxDontFork,
            )
        }?)
    }

    /// `count` contiguous pages, at the start of a huge page.
    pub fn pages(count: usize) -> Result<Self> {
        ensure!(count * PAGE <= HUGE, "at most one huge page");
        let mut buffer = Self::huge(1)?;
        buffer.len = count * PAGE;
        Ok(buffer)
    }

    /// `count` contiguous pages of the ordinary allocator (a transparent huge page).
    pub fn transparent(count: usize) -> Result<Self> {
        ensure!(count * PAGE <= HUGE, "at most one huge page");
        let region = Region::new(2 * HUGE, MapFlags::empty()).context("cannot reserve memory")?;
        let start = region.start.as_ptr() as usize;
        let offset = start.next_multiple_of(HUGE) - start;
        // SAFETY: the advice concerns memory of this region that nothing uses yet.
        unsafe {
            let aligned = region.start.as_ptr().add(offset).cast();
            rustix::mm::madvise(aligned, HUGE, Advice::LinuxHugepage)?;
            rustix::mm::mlock(aligned, HUGE)?;
        }
        let pages = physical_pages(start + offset, HUGE)?;
        if !contiguous(&pages) {
            return Err(skip("no transparent huge page to be had"));
        }
        Ok(Self {
            region,
            offset,
            len: count * PAGE,
            phys: pages[0],
        })
    }

    /// `count` contiguous huge pages.
    pub fn huge(count: usize) -> Result<Self> {
        let (buffer, got) = Self::huge_run(count)?;
        if got < count {
            return Err(skip(format!(
                "only {got} of {count} huge pages are physically contiguous"
            )));
        }
        Ok(buffer)
    }

    /// The longest run of contiguous huge pages that can be had, up to `count`, and how many.
    pub fn huge_run(count: usize) -> Result<(Self, usize)> {
        // Huge pages come one by one; of some more than needed, enough stand together.
        let spare = if count == 1 { 0 } else { count / 2 };
        reserve_huge_pages(count + spare)?;
        let free = read_count("free_hugepages")?;
        let take = free.min(count + spare);
        if take == 0 {
            return Err(skip("no huge pages to be had"));
        }
        let region = Region::new(
            take * HUGE,
            MapFlags::HUGETLB | MapFlags::HUGE_2MB | MapFlags::POPULATE,
        )
        .context("cannot map huge pages")?;
        let start = region.start.as_ptr() as usize;
        let pagemap = File::open("/proc/self/pagemap")?;
        let pages = (0..take)
            .map(|page| physical(&pagemap, start + page * HUGE))
            .collect::<Result<Vec<_>>>()?;
        let (first, length) = longest_run(&pages, u64::try_from(HUGE)?);
        let length = length.min(count);
        let buffer = Self {
            region,
            offset: first * HUGE,
            len: length * HUGE,
            phys: pages[first],
        };
        Ok((buffer, length))
    }

    /// A page at no physical address, for the unit tests of what uses buffers.
    #[cfg(test)]
    pub fn for_unit_tests() -> Self {
        Self {
            region: Region::new(PAGE, MapFlags::POPULATE).expect("a page"),
            offset: 0,
            len: PAGE,
            phys: 0,
        }
    }

    pub fn phys(&self) -> u64 {
        self.phys
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Stores bytes; offset and length are multiples of 8.
    pub fn write(&self, offset: usize, data: &[u8]) {
        Memory::write(self, offset, data);
    }

    /// Loads bytes; offset and length are multiples of 8.
    pub fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        Memory::read(self, offset, len)
    }
}

impl Memory for Buffer {
    fn start(&self) -> *mut u8 {
        // SAFETY: the offset is inside the region.
        unsafe { self.region.start.as_ptr().add(self.offset) }
    }

    fn len(&self) -> usize {
        self.len
    }
}

/// Memory of this process that the device writes behind the compiler's back.
pub trait Memory {
    /// Where it begins, a multiple of 8.
    fn start(&self) -> *mut u8;

    /// How many bytes can be accessed from there on, as long as the value lives.
    fn len(&self) -> usize;

    /// The aligned word at an offset.
    fn word(&self, offset: usize) -> *mut u64 {
        assert!(
            offset % 8 == 0 && offset + 8 <= self.len(),
            "outside of the buffer"
        );
        // SAFETY: the offset is inside the memory.
        unsafe { self.start().add(offset).cast() }
    }

    /// Stores bytes; offset and length are multiples of 8.
    fn write(&self, offset: usize, data: &[u8]) {
        for (index, chunk) in data.chunks_exact(8).enumerate() {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(chunk);
            // SAFETY: `word` checks the bounds; the memory is this value's own.
            unsafe {
                self.word(offset + 8 * index)
                    .write_volatile(u64::from_ne_bytes(bytes))
            }
        }
    }

    /// Loads bytes; offset and length are multiples of 8.
    fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        (0..len / 8)
            // SAFETY: `word` checks the bounds; the memory is this value's own.
            .flat_map(|index| {
                unsafe { self.word(offset + 8 * index).read_volatile() }.to_ne_bytes()
            })
            .collect()
    }
}

fn contiguous(pages: &[u64]) -> bool {
    longest_run(pages, 4096).1 == pages.len()
}

/// Where the longest run of addresses that follow each other at `step` begins, and its length.
fn longest_run(pages: &[u64], step: u64) -> (usize, usize) {
    let mut best = (0, 0);
    let mut first = 0;
    for index in 0..pages.len() {
        if index > 0 && Some(pages[index]) != pages[index - 1].checked_add(step) {
            first = index;
        }
        if index - first + 1 > best.1 {
            best = (first, index - first + 1);
        }
    }
    best
}

fn read_count(name: &str) -> Result<usize> {
    let path = format!("{HUGEPAGES}/{name}");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim().parse()?)
}

/// Huge pages that no one uses at the moment.
pub fn free_huge_pages() -> Result<usize> {
    read_count("free_hugepages")
}

/// Sees to it that `count` huge pages are free, as far as memory allows.
pub fn reserve_huge_pages(count: usize) -> Result<()> {
    let free = read_count("free_hugepages")?;
    if free < count {
        let total = read_count("nr_hugepages")? + count - free;
        fs::write(format!("{HUGEPAGES}/nr_hugepages"), total.to_string())
            .context("cannot reserve huge pages")?;
    }
    Ok(())
}

/// Bytes of memory that could be allocated now.
pub fn available() -> Result<u64> {
    meminfo("MemAvailable")
}

/// Bytes of memory that could be allocated now, with what each processor has put aside for itself, and
/// what the kernel's own small objects are in: KASAN and kmemleak keep those for a while after they
/// were freed.
pub fn available_or_slab() -> Result<u64> {
    Ok(available()? + put_aside()? + meminfo("SUnreclaim")?)
}

/// Bytes of free memory in the processors' own lists, which may be many megabytes.
fn put_aside() -> Result<u64> {
    let text = fs::read_to_string("/proc/zoneinfo")?;
    let counts = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "count:").then(|| words.next())?
    });
    let mut pages = 0;
    for count in counts {
        pages += count.parse::<u64>().context("a number of pages")?;
    }
    Ok(pages * u64::try_from(PAGE)?)
}

/// A value of /proc/meminfo, in bytes.
fn meminfo(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let value = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| (key == name).then_some(value))
        .with_context(|| format!("/proc/meminfo has no {name}"))?;
    let kib: u64 = value.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Many single pages of this process, with the physical address of each.
pub struct Pages {
    region: Region,
    pub phys: Vec<u64>,
}

impl Pages {
    /// `count` populated pages, each filled with `fill`.
    pub fn new(count: usize, fill: u8) -> Result<Self> {
        let region =
            Region::new(count * PAGE, MapFlags::empty()).context("cannot allocate memory")?;
        // SAFETY: the region is this value's own and as long as this; small pages make it look
        // like many separate allocations.
        unsafe {
            rustix::mm::madvise(
                region.start.as_ptr().cast(),
                count * PAGE,
                Advice::LinuxNoHugepage,
            )?;
            region.start.as_ptr().write_bytes(fill, count * PAGE);
        }
        let phys = physical_pages(region.start.as_ptr() as usize, count * PAGE)?;
        Ok(Self { region, phys })
    }

    /// The pages that follow each other in physical memory, in runs of so many or more.
    pub fn runs(&self, least: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.phys.len()).collect();
        order.sort_unstable_by_key(|index| self.phys[*index]);
        let runs = order.chunk_by(|one, next| self.phys[*one] + PAGE as u64 == self.phys[*next]);
        runs.filter(|run| run.len() >= least)
            .map(<[usize]>::to_vec)
            .collect()
    }

    /// Gives one of them back to the kernel.
    pub fn free(&self, index: usize) -> Result<()> {
        // SAFETY: one page of the region, which is this value's own; it reads as zero afterwards.
        unsafe {
            let page = self.region.start.as_ptr().add(index * PAGE);
            rustix::mm::madvise(page.cast(), PAGE, Advice::LinuxDontNeed)?;
        }
        Ok(())
    }

    /// The number of bytes that are not `value`.
    pub fn others_than(&self, value: u8) -> usize {
        let words = self.region.len / 8;
        let want = u64::from_ne_bytes([value; 8]);
        (0..words)
            .filter(|index| {
                // SAFETY: inside the region; volatile, as the device may have written.
                let word = unsafe {
                    self.region
                        .start
                        .as_ptr()
                        .cast::<u64>()
                        .add(*index)
                        .read_volatile()
                };
                word != want
            })
            .count()
    }
}

static SEED: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);

/// Bytes that were not seen before, none of them zero.
pub fn fresh_bytes(len: usize) -> Vec<u8> {
    let mut state = SEED.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        bytes.extend(word.to_le_bytes().map(|byte| byte | 1));
    }
    bytes.truncate(len);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_run_is_found_wherever_it_stands() {
        assert_eq!(longest_run(&[], 1), (0, 0));
        assert_eq!(longest_run(&[7], 1), (0, 1));
        assert_eq!(longest_run(&[1, 2, 3, 9, 10], 1), (0, 3));
        assert_eq!(longest_run(&[1, 5, 6, 7, 8, 2], 1), (1, 4));
        assert_eq!(longest_run(&[3, 2, 1], 1), (0, 1));
        assert_eq!(longest_run(&[u64::MAX, 0], 1), (0, 1));
    }

    #[test]
    fn fresh_bytes_differ_each_time_and_are_never_zero() {
        let first = fresh_bytes(100);
        let second = fresh_bytes(100);
        assert_eq!(first.len(), 100);
        assert_ne!(first, second);
        assert!(first.iter().chain(&second).all(|byte| *byte != 0));
    }

    #[test]
    fn memory_keeps_what_is_written() {
        let buffer = Buffer::for_unit_tests();
        let data = fresh_bytes(64);
        buffer.write(128, &data);
        assert_eq!(buffer.read(128, 64), data);
        assert_eq!(buffer.read(120, 8), [0; 8]);
    }
}
