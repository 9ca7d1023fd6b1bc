// SPDX-License-Identifier: GPL-2.0
//! Malformed and forbidden requests of every kind. Each is refused with the
//! error that the interface names, and changes nothing.

use anyhow::{ensure, Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::fd::AsFd;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::CapabilitySet;
use std::ffi::c_void;
use std::fs;

use crate::abi::{self, Context, EdgePage, NODE};
use crate::credentials::{apart, become_nobody, drop_capability};
use crate::dma::{fresh_iova, Bench};
use crate::expect;
use crate::helper::Helper;
use crate::host::{self, Host};
use crate::ktap::{list_tests, Test};
use crate::mem::Buffer;

const PAGE_U64: u64 = 4096;
const LAST_PAGE: u64 = 0xffff_ffff_ffff_f000;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        unaligned_addresses,
        zero_length,
        wrapping_ranges,
        beyond_the_aperture,
        beyond_the_physical_width,
        msi_window,
        page_at_zero,
        flags,
        short_structures,
        long_structures,
        reserved_fields,
        bad_pointers,
        structure_across_a_page_end,
        result_that_cannot_be_written,
        unaligned_structure,
        unknown_commands,
        other_operations_of_the_file,
        without_the_capability,
        as_another_user,
        as_root_of_a_user_namespace,
        device_memory,
        holes_of_physical_memory,
        refusals_are_told_to_who_asks,
    ]
}

fn map(context: &Context, mut request: uapi::qat_iommu_map_phys) -> Result<u64, Errno> {
    context.ioctl(uapi::QAT_IOMMU_MAP_PHYS, &mut request)?;
    Ok(request.mapped)
}

fn refuses(
    context: &Context,
    what: &str,
    request: uapi::qat_iommu_map_phys,
    want: Errno,
) -> Result<()> {
    expect::fails(&format!("map: {what}"), map(context, request), want)
}

/// A page, a place for it, and a context to try it in.
struct Target {
    context: Context,
    page: Buffer,
    iova: u64,
}

impl Target {
    fn new() -> Result<Self> {
        Ok(Self {
            context: Context::open()?,
            page: Buffer::page()?,
            iova: fresh_iova(4),
        })
    }

    fn request(&self) -> uapi::qat_iommu_map_phys {
        abi::map_request(self.page.phys(), self.iova, PAGE_U64)
    }

    fn map(&self, request: uapi::qat_iommu_map_phys) -> Result<u64, Errno> {
        map(&self.context, request)
    }

    fn refuses(&self, what: &str, request: uapi::qat_iommu_map_phys, want: Errno) -> Result<()> {
        refuses(&self.context, what, request, want)
    }

    fn refuses_unmap(&self, what: &str, iova: u64, length: u64, want: Errno) -> Result<()> {
        expect::fails(
            &format!("unmap: {what}"),
            self.context.unmap(iova, length),
            want,
        )
    }

    /// The place is free, so nothing was left there, and a good request works.
    fn works(&self) -> Result<()> {
        expect::succeeds("a good map afterwards", self.map(self.request()))?;
        expect::succeeds("its unmap", self.context.unmap(self.iova, PAGE_U64))
    }
}

fn unaligned_addresses(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let good = target.request();
    for off in [1, 8, 2048, 4095] {
        let phys = uapi::qat_iommu_map_phys {
            phys: good.phys + off,
            ..good
        };
        target.refuses("physical address off by a little", phys, Errno::INVAL)?;
        let iova = uapi::qat_iommu_map_phys {
            iova: good.iova + off,
            ..good
        };
        target.refuses("IOVA off by a little", iova, Errno::INVAL)?;
        let both = uapi::qat_iommu_map_phys {
            phys: good.phys + off,
            iova: good.iova + off,
            ..good
        };
        target.refuses("both off by the same", both, Errno::INVAL)?;
        target.refuses_unmap(
            "IOVA off by a little",
            good.iova + off,
            PAGE_U64,
            Errno::INVAL,
        )?;
    }
    target.works()
}

fn zero_length(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let request = uapi::qat_iommu_map_phys {
        length: 0,
        ..target.request()
    };
    target.refuses("0 bytes", request, Errno::INVAL)?;
    target.refuses_unmap("0 bytes", target.iova, 0, Errno::INVAL)?;
    target.works()
}

fn wrapping_ranges(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let good = target.request();
    for length in [u64::MAX, u64::MAX - 1, LAST_PAGE + 1] {
        let request = uapi::qat_iommu_map_phys { length, ..good };
        target.refuses(&format!("{length:#x} bytes"), request, Errno::OVERFLOW)?;
        target.refuses_unmap(
            &format!("{length:#x} bytes"),
            good.iova,
            length,
            Errno::OVERFLOW,
        )?;
    }
    for length in [2 * PAGE_U64, PAGE_U64 + 1, 1 << 63, LAST_PAGE] {
        let iova = uapi::qat_iommu_map_phys {
            iova: LAST_PAGE,
            length,
            ..good
        };
        target.refuses("IOVA range past 2^64", iova, Errno::OVERFLOW)?;
        let phys = uapi::qat_iommu_map_phys {
            phys: LAST_PAGE,
            length,
            ..good
        };
        target.refuses("physical range past 2^64", phys, Errno::OVERFLOW)?;
        target.refuses_unmap("range past 2^64", LAST_PAGE, length, Errno::OVERFLOW)?;
    }
    target.works()
}

fn beyond_the_aperture(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let last = target.context.info()?.fixed.aperture_last;
    let good = target.request();
    let two = Buffer::pages(2)?;
    let outside = last.checked_add(1).context("the aperture is everything")?;
    for iova in [outside, outside + PAGE_U64, 1 << 63, LAST_PAGE] {
        let request = uapi::qat_iommu_map_phys { iova, ..good };
        target.refuses(&format!("IOVA {iova:#x}"), request, Errno::RANGE)?;
        target.refuses_unmap(&format!("IOVA {iova:#x}"), iova, PAGE_U64, Errno::NOENT)?;
    }
    let across = abi::map_request(two.phys(), outside - PAGE_U64, 2 * PAGE_U64);
    target.refuses("across the end of the aperture", across, Errno::RANGE)?;
    let odd = abi::map_request(two.phys(), outside - PAGE_U64, PAGE_U64 + 1);
    target.refuses("a byte across the end of the aperture", odd, Errno::RANGE)?;
    let inside = abi::map_request(two.phys(), outside - PAGE_U64, PAGE_U64);
    expect::succeeds("map of the last page", target.map(inside))?;
    expect::succeeds("its unmap", target.context.unmap(inside.iova, PAGE_U64))?;
    target.works()
}

fn beyond_the_physical_width(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let good = target.request();
    let end = 1u64 << host::physical_bits()?;
    for phys in [end, end + PAGE_U64, 1 << 52, 1 << 63, LAST_PAGE] {
        let request = uapi::qat_iommu_map_phys { phys, ..good };
        target.refuses(
            &format!("physical address {phys:#x}"),
            request,
            Errno::RANGE,
        )?;
    }
    for (phys, length) in [
        (end - PAGE_U64, 2 * PAGE_U64),
        (end - PAGE_U64, PAGE_U64 + 1),
        (good.phys, end),
    ] {
        let request = uapi::qat_iommu_map_phys {
            phys,
            iova: PAGE_U64 << 20,
            length,
            ..good
        };
        target.refuses("across the end of physical memory", request, Errno::RANGE)?;
    }
    target.works()
}

fn msi_window(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let good = target.request();
    for iova in [0xfee0_0000, 0xfee0_1000, 0xfeef_f000] {
        let request = uapi::qat_iommu_map_phys { iova, ..good };
        target.refuses(&format!("IOVA {iova:#x}"), request, Errno::ADDRNOTAVAIL)?;
    }
    let two = Buffer::pages(2)?;
    for iova in [0xfedf_f000, 0xfeef_f000] {
        let request = abi::map_request(two.phys(), iova, 2 * PAGE_U64);
        target.refuses(
            &format!("two pages at {iova:#x}"),
            request,
            Errno::ADDRNOTAVAIL,
        )?;
    }
    let huge = Buffer::huge(1)?;
    let around = abi::map_request(huge.phys(), 0xfee0_0000 - PAGE_U64, 0x10_2000);
    target.refuses("around the window", around, Errno::ADDRNOTAVAIL)?;
    target.works()
}

fn page_at_zero(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let request = uapi::qat_iommu_map_phys {
        iova: 0,
        ..target.request()
    };
    target.refuses("IOVA 0", request, Errno::ADDRNOTAVAIL)?;
    let two = Buffer::pages(2)?;
    let request = abi::map_request(two.phys(), 0, 2 * PAGE_U64);
    target.refuses("two pages from IOVA 0", request, Errno::ADDRNOTAVAIL)?;
    target.refuses_unmap("IOVA 0", 0, PAGE_U64, Errno::NOENT)?;
    target.works()
}

fn flags(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let good = target.request();
    let none = uapi::qat_iommu_map_phys { flags: 0, ..good };
    target.refuses("neither read nor write", none, Errno::INVAL)?;
    for bit in 2..32 {
        for flags in [1 << bit, abi::BOTH | (1 << bit)] {
            let request = uapi::qat_iommu_map_phys { flags, ..good };
            target.refuses(&format!("flags {flags:#x}"), request, Errno::OPNOTSUPP)?;
        }
    }
    for bit in 0..32 {
        if 1 << bit != uapi::QAT_IOMMU_UNMAP_FORCE {
            let mut request = abi::unmap_request(target.iova, PAGE_U64);
            request.flags = 1 << bit;
            let result = target.context.ioctl(uapi::QAT_IOMMU_UNMAP, &mut request);
            expect::fails(&format!("unmap: flag {bit}"), result, Errno::OPNOTSUPP)?;
        }
        let mut request = abi::info_request();
        request.flags = 1 << bit;
        let result = target.context.ioctl(uapi::QAT_IOMMU_INFO, &mut request);
        expect::fails(&format!("INFO: flag {bit}"), result, Errno::OPNOTSUPP)?;
    }
    for bit in 1..32 {
        let mut request = abi::attach_request();
        request.flags |= 1 << bit;
        let result = target.context.ioctl(uapi::QAT_IOMMU_ATTACH, &mut request);
        expect::fails(&format!("ATTACH: flag {bit}"), result, Errno::OPNOTSUPP)?;
    }
    target.works()
}

/// A request as whole words, with any size in its first field.
fn sized<T: Copy>(request: T, size: u32, bytes: usize) -> Vec<u64> {
    let mut words = abi::padded(request, bytes);
    words[0] = words[0] & !0xffff_ffff | u64::from(size);
    words
}

fn issue(context: &Context, command: u32, words: &mut [u64]) -> Result<(), Errno> {
    abi::raw(context.as_fd(), command, words.as_mut_ptr().cast())
}

/// Every command, with a request that succeeds and can be repeated, in room of `bytes`.
fn commands(target: &Target, bytes: usize) -> Vec<(&'static str, u32, u32, Vec<u64>)> {
    fn entry<T: Copy>(
        name: &'static str,
        command: u32,
        request: T,
        bytes: usize,
    ) -> (&'static str, u32, u32, Vec<u64>) {
        (
            name,
            command,
            abi::size_of::<T>(),
            abi::padded(request, bytes),
        )
    }
    vec![
        entry("INFO", uapi::QAT_IOMMU_INFO, abi::info_request(), bytes),
        entry(
            "ATTACH",
            uapi::QAT_IOMMU_ATTACH,
            abi::attach_request(),
            bytes,
        ),
        entry(
            "MAP_PHYS",
            uapi::QAT_IOMMU_MAP_PHYS,
            target.request(),
            bytes,
        ),
        entry(
            "UNMAP",
            uapi::QAT_IOMMU_UNMAP,
            abi::unmap_request(target.iova, PAGE_U64),
            bytes,
        ),
    ]
}

fn short_structures(_: &Host) -> Result<()> {
    let target = Target::new()?;
    for (name, command, size, words) in commands(&target, 0) {
        for short in [0, 1, 4, 8, size - 8, size - 1] {
            let mut spoiled = words.clone();
            spoiled[0] = spoiled[0] & !0xffff_ffff | u64::from(short);
            expect::fails(
                &format!("{name} of {short} bytes"),
                issue(&target.context, command, &mut spoiled),
                Errno::INVAL,
            )?;
        }
    }
    target.works()
}

fn long_structures(_: &Host) -> Result<()> {
    let target = Target::new()?;
    // In order: MAP_PHYS makes what UNMAP removes.
    for longer in [1, 4, 8, 64] {
        for (name, command, size, mut words) in commands(&target, 256) {
            let total = size + longer;
            words[0] = words[0] & !0xffff_ffff | u64::from(total);
            let mut spoiled = words.clone();
            let last = usize::try_from(total - 1)?;
            spoiled[last / 8] |= 1 << (last % 8 * 8);
            expect::fails(
                &format!("{name} of {total} bytes with a last byte of 1"),
                issue(&target.context, command, &mut spoiled),
                Errno::TOOBIG,
            )?;
            expect::succeeds(
                &format!("{name} of {total} bytes, the last ones 0"),
                issue(&target.context, command, &mut words),
            )?;
            let known = usize::try_from(size / 8)?;
            expect::holds(
                "the tail is left alone",
                words[known..].iter().all(|word| *word == 0),
            )?;
        }
    }
    for (name, command, _, mut words) in commands(&target, 8192) {
        words[0] = words[0] & !0xffff_ffff | PAGE_U64;
        expect::succeeds(
            &format!("{name} of a page"),
            issue(&target.context, command, &mut words),
        )?;
    }
    for size in [4097, 8192, 1 << 31, u32::MAX] {
        for (name, command, _, words) in commands(&target, 16384) {
            let mut words = words;
            words[0] = words[0] & !0xffff_ffff | u64::from(size);
            expect::fails(
                &format!("{name} of {size} bytes"),
                issue(&target.context, command, &mut words),
                Errno::TOOBIG,
            )?;
        }
    }
    target.works()
}

fn reserved_fields(_: &Host) -> Result<()> {
    let context = Context::open()?;
    for reserved in [1, 0x80, 0xff] {
        let mut request = uapi::qat_iommu_attach {
            reserved,
            ..abi::attach_request()
        };
        expect::fails(
            "ATTACH with a reserved field",
            context.ioctl(uapi::QAT_IOMMU_ATTACH, &mut request),
            Errno::INVAL,
        )?;
    }
    Ok(())
}

fn bad_pointers(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let pointers: [usize; 5] = [0, 1, 0x1000, 0x8000_0000_0000, 0xffff_ffff_ffff_fff0];
    for (name, command, _, _) in commands(&target, 0) {
        for pointer in pointers {
            let result = abi::raw(
                target.context.as_fd(),
                command,
                std::ptr::without_provenance_mut::<c_void>(pointer),
            );
            expect::fails(&format!("{name} at {pointer:#x}"), result, Errno::FAULT)?;
        }
    }
    let kernel: u64 = 0xffff_8880_0000_0000;
    for pointer in [0, 0x1000, kernel] {
        let mut request = abi::info_request();
        request.pfs = pointer;
        request.num_pfs = 1;
        let result = target.context.ioctl(uapi::QAT_IOMMU_INFO, &mut request);
        expect::fails(
            &format!("INFO: list of PFs at {pointer:#x}"),
            result,
            Errno::FAULT,
        )?;
        let mut request = abi::info_request();
        request.reserved_ranges = pointer;
        request.num_reserved_ranges = 1;
        let result = target.context.ioctl(uapi::QAT_IOMMU_INFO, &mut request);
        expect::fails(
            &format!("INFO: list of ranges at {pointer:#x}"),
            result,
            Errno::FAULT,
        )?;
    }
    // More room than memory has, and a wrapping end: only what is written counts.
    let mut list = [uapi::qat_iommu_pf::default(); 16];
    let mut request = abi::info_request();
    request.pfs = abi::address(list.as_mut_ptr());
    request.num_pfs = u32::MAX;
    expect::succeeds(
        "INFO with endless room",
        target.context.ioctl(uapi::QAT_IOMMU_INFO, &mut request),
    )?;
    target.works()
}

fn structure_across_a_page_end(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let edge = EdgePage::new()?;
    for (name, command, size, words) in commands(&target, 64) {
        let mut whole = [0u64; 16];
        whole[..words.len()].copy_from_slice(&words);
        for readable in [2, 4, 8, 16, usize::try_from(size)? - 1] {
            let pointer = edge.put_before_edge(whole, readable);
            expect::fails(
                &format!("{name} with {readable} of {size} bytes readable"),
                abi::raw(target.context.as_fd(), command, pointer),
                Errno::FAULT,
            )?;
        }
        let pointer = edge.put_before_edge(whole, usize::try_from(size)?);
        expect::succeeds(
            &format!("{name} that ends at the edge"),
            abi::raw(target.context.as_fd(), command, pointer),
        )?;
    }
    target.works()
}

fn result_that_cannot_be_written(host: &Host) -> Result<()> {
    let mut bench = Bench::new(host)?;
    let target = Target::new()?;
    let edge = EdgePage::new()?;
    let pointer = edge.put_before_edge(target.request(), 64);
    edge.make_read_only()?;
    expect::fails(
        "MAP_PHYS whose answer has no place",
        abi::raw(target.context.as_fd(), uapi::QAT_IOMMU_MAP_PHYS, pointer),
        Errno::FAULT,
    )?;
    // A command that fails has changed nothing.
    bench.refused(target.iova, &target.page)?;
    target.refuses_unmap("what was not mapped", target.iova, PAGE_U64, Errno::NOENT)?;
    target.works()?;

    let edge = EdgePage::new()?;
    let pointer = edge.put_before_edge(abi::info_request(), 128);
    edge.make_read_only()?;
    expect::fails(
        "INFO whose answer has no place",
        abi::raw(target.context.as_fd(), uapi::QAT_IOMMU_INFO, pointer),
        Errno::FAULT,
    )
}

fn unaligned_structure(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let edge = EdgePage::new()?;
    for (name, command, size, words) in commands(&target, 64) {
        let mut whole = [0u64; 16];
        whole[..words.len()].copy_from_slice(&words);
        let pointer = edge.put_before_edge(whole, usize::try_from(size)? + 3);
        expect::succeeds(
            &format!("{name} at an odd address"),
            abi::raw(target.context.as_fd(), command, pointer),
        )?;
    }
    target.works()
}

fn unknown_commands(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let mut words = sized(
        target.request(),
        abi::size_of::<uapi::qat_iommu_map_phys>(),
        4096,
    );
    let map = uapi::QAT_IOMMU_MAP_PHYS;
    // Numbers around the known ones, other types, direction and size bits.
    let mut unknown = vec![
        0,
        1,
        0x7100,
        0x717f,
        0x71ff,
        u32::MAX,
        map ^ 0x100,
        map ^ 0x8000,
    ];
    unknown.extend([1 << 30, 2 << 30, 3 << 30].map(|direction| map | direction));
    unknown.extend([8 << 16, 40 << 16].map(|size| map | size));
    unknown.push(map | (3 << 30) | (40 << 16));
    for command in unknown {
        expect::fails(
            &format!("command {command:#x}"),
            issue(&target.context, command, &mut words),
            Errno::NOTTY,
        )?;
    }
    target.works()
}

fn other_operations_of_the_file(_: &Host) -> Result<()> {
    let context = Context::open()?;
    expect::fails(
        "read",
        rustix::io::read(&context, &mut [0u8; 16]),
        Errno::INVAL,
    )?;
    expect::fails(
        "write",
        rustix::io::write(&context, &[0u8; 16]),
        Errno::INVAL,
    )?;
    // SAFETY: a new mapping at an address of the kernel's choice, if there is one at all.
    let mapped = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            4096,
            ProtFlags::READ,
            MapFlags::SHARED,
            &context,
            0,
        )
    };
    expect::fails("mmap", mapped, Errno::NODEV)
}

fn without_the_capability(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let (context, request) = (&target.context, target.request());
    apart(|| {
        drop_capability(CapabilitySet::SYS_RAWIO)?;
        refuses(context, "root without CAP_SYS_RAWIO", request, Errno::PERM)?;
        context.info()?;
        Ok(())
    })?;
    target.works()
}

fn as_another_user(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let (context, request) = (&target.context, target.request());
    let before = rustix::fs::stat(NODE)?.st_mode & 0o777;
    expect::equal("mode of the node for others than root", before & 0o077, 0)?;
    apart(|| {
        become_nobody()?;
        expect::fails(
            "open by nobody",
            Context::try_open().map(|_| ()),
            Errno::ACCESS,
        )?;
        refuses(
            context,
            "nobody with an inherited file",
            request,
            Errno::PERM,
        )?;
        context.info()?;
        Ok(())
    })?;
    // As after a udev rule that lets a group in.
    rustix::fs::chmod(NODE, Mode::from_raw_mode(0o666))?;
    let result = apart(|| {
        become_nobody()?;
        let own = Context::open()?;
        own.info()?;
        refuses(&own, "nobody with a file of its own", request, Errno::PERM)
    });
    rustix::fs::chmod(NODE, Mode::from_raw_mode(before))?;
    result?;
    target.works()
}

fn as_root_of_a_user_namespace(_: &Host) -> Result<()> {
    let answer = Helper::map_in_namespace(fresh_iova(1))?;
    expect::equal(
        "map by the root of a user namespace",
        answer.as_str(),
        "EPERM",
    )
}

fn device_memory(host: &Host) -> Result<()> {
    let target = Target::new()?;
    let good = target.request();
    let bar = *host.pf()?.bar0()?.start();
    for phys in [bar & LAST_PAGE, 0xfec0_0000, 0xfee0_0000] {
        let request = uapi::qat_iommu_map_phys { phys, ..good };
        target.refuses(
            &format!("device memory at {phys:#x}"),
            request,
            Errno::ACCESS,
        )?;
    }
    target.works()
}

fn holes_of_physical_memory(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let good = target.request();
    let ram = host::ram()?;
    ensure!(!ram.is_empty(), "no memory in /proc/iomem");
    for range in &ram {
        // The first page that is not wholly memory.
        let end = (range.end() + 1) & LAST_PAGE;
        let next_begins = ram.iter().any(|next| *next.start() == end);
        if next_begins || end < 2 * PAGE_U64 {
            continue;
        }
        let hole = uapi::qat_iommu_map_phys { phys: end, ..good };
        target.refuses(&format!("no memory at {end:#x}"), hole, Errno::ACCESS)?;
        let across = uapi::qat_iommu_map_phys {
            phys: end - PAGE_U64,
            length: 2 * PAGE_U64,
            ..good
        };
        target.refuses(
            &format!("across the end of memory at {end:#x}"),
            across,
            Errno::ACCESS,
        )?;
    }
    let first = uapi::qat_iommu_map_phys { phys: 0, ..good };
    target.refuses("the page at 0, which is firmware's", first, Errno::ACCESS)?;
    target.works()
}

/// As the module's manual page says.
fn refusals_are_told_to_who_asks(_: &Host) -> Result<()> {
    const CONTROL: &str = "/sys/kernel/debug/dynamic_debug/control";
    let page = Buffer::page()?;
    let (phys, iova) = (page.phys(), fresh_iova(1));
    let context = Context::open()?;
    let refused = || -> Result<()> {
        let answer = context.map(phys, iova + 1, PAGE_U64);
        expect::fails("map", answer, Errno::INVAL)?;
        expect::fails("unmap", context.unmap(iova, PAGE_U64), Errno::NOENT)
    };
    fs::write(CONTROL, "module qat_iommu +p").context("cannot turn messages on")?;
    let told = host::logged(refused);
    fs::write(CONTROL, "module qat_iommu -p").context("cannot turn messages off")?;
    let ((), told) = told?;
    let lines = [
        format!("map(phys {phys:#x}, iova {:#x}, size 0x1000): ", iova + 1),
        format!("unmap(phys 0x0, iova {iova:#x}, size 0x1000): "),
    ];
    for line in &lines {
        ensure!(told.contains(line), "{told:?} does not say {line:?}");
    }
    let ((), quiet) = host::logged(refused)?;
    expect::equal("what is said unasked", quiet.contains(&lines[0]), false)
}
