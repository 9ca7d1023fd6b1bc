// SPDX-License-Identifier: GPL-2.0
//! The form of the requests: sizes, tails, flags and pointers of the commands that
//! deal in buffers, as the interface promises for all.

use anyhow::Result;
use qat_iommu_uapi as uapi;
use rustix::fd::AsFd;
use rustix::io::Errno;

use super::{nothing_mapped, NOWHERE, PAGE_U64};
use crate::abi::{self, user, Context, EdgePage};
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::mem::user::UserMemory;
use crate::mem::PAGE;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        short_structures,
        long_structures,
        unknown_flags,
        no_permission,
        bad_pointers,
        result_that_cannot_be_written,
    ]
}

/// A command and a request that would succeed, in room of at least `bytes`.
struct Request {
    name: &'static str,
    command: u32,
    size: u32,
    words: Vec<u64>,
}

impl Request {
    fn new<T: Copy>(name: &'static str, command: u32, request: T) -> Self {
        Self {
            name,
            command,
            size: abi::size_of::<T>(),
            words: abi::padded(request, 8192),
        }
    }

    /// Makes the request with another size in its first field.
    fn issue_sized(&self, context: &Context, size: u32) -> Result<(), Errno> {
        let mut words = self.words.clone();
        words[0] = words[0] & !0xffff_ffff | u64::from(size);
        abi::raw(context.as_fd(), self.command, words.as_mut_ptr().cast())
    }
}

/// One of each, to succeed in this order, on one page; and again.
fn requests(va: u64, iova: u64) -> Vec<Request> {
    vec![
        Request::new(
            "MAP_USER",
            uapi::QAT_IOMMU_MAP_USER,
            uapi::qat_iommu_map_user {
                flags: abi::BOTH | uapi::QAT_IOMMU_MAP_FIXED,
                iova,
                ..user::map_request(va, PAGE_U64)
            },
        ),
        Request::new("QUERY", uapi::QAT_IOMMU_QUERY, user::query_request(0)),
        Request::new(
            "UNMAP_USER",
            uapi::QAT_IOMMU_UNMAP_USER,
            user::unmap_request(va, PAGE_U64),
        ),
        Request::new(
            "MAP_USER_BATCH",
            uapi::QAT_IOMMU_MAP_USER_BATCH,
            user::map_batch_request(&mut []),
        ),
        Request::new(
            "UNMAP_BATCH",
            uapi::QAT_IOMMU_UNMAP_BATCH,
            user::unmap_batch_request(&[]),
        ),
    ]
}

struct Target {
    context: Context,
    memory: UserMemory,
    iova: u64,
}

impl Target {
    fn new() -> Result<Self> {
        Ok(Self {
            context: Context::open()?,
            memory: UserMemory::scattered(PAGE)?,
            iova: crate::dma::fresh_iova(1),
        })
    }

    fn requests(&self) -> Vec<Request> {
        requests(self.memory.va(), self.iova)
    }

    /// Nothing was mapped, and good requests work.
    fn works(&self) -> Result<()> {
        nothing_mapped(&self.context)?;
        for request in self.requests() {
            let answer = request.issue_sized(&self.context, request.size);
            expect::succeeds(request.name, answer)?;
        }
        nothing_mapped(&self.context)
    }
}

fn short_structures(_: &Host) -> Result<()> {
    let target = Target::new()?;
    for request in target.requests() {
        for size in [0, 1, 4, 8, request.size - 8, request.size - 1] {
            let what = format!("{} of {size} bytes", request.name);
            let answer = request.issue_sized(&target.context, size);
            expect::fails(&what, answer, Errno::INVAL)?;
        }
    }
    target.works()
}

fn long_structures(_: &Host) -> Result<()> {
    let target = Target::new()?;
    for mut request in target.requests() {
        let end = request.size as usize / 8;
        request.words[end] = 1;
        let what = format!("{} with a tail", request.name);
        let answer = request.issue_sized(&target.context, request.size + 8);
        expect::fails(&what, answer, Errno::TOOBIG)?;
        request.words[end] = 0;
        for size in [4097, 8192, u32::MAX] {
            let what = format!("{} of {size} bytes", request.name);
            let answer = request.issue_sized(&target.context, size);
            expect::fails(&what, answer, Errno::TOOBIG)?;
        }
    }
    nothing_mapped(&target.context)?;
    // A tail of zeros is a newer caller's way to say nothing new.
    for size in [8, 4096 - 64] {
        for request in target.requests() {
            let what = format!("{} with {size} zeros behind", request.name);
            let answer = request.issue_sized(&target.context, request.size + size);
            expect::succeeds(&what, answer)?;
        }
    }
    target.works()
}

fn unknown_flags(_: &Host) -> Result<()> {
    let target = Target::new()?;
    for request in target.requests() {
        for bit in [3, 4, 16, 31] {
            let mut spoiled = request.words.clone();
            spoiled[0] |= 1 << (32 + bit);
            let spoiled = Request {
                words: spoiled,
                ..request
            };
            let what = format!("{} with flag {bit}", request.name);
            let answer = spoiled.issue_sized(&target.context, request.size);
            expect::fails(&what, answer, Errno::OPNOTSUPP)?;
        }
    }
    target.works()
}

fn no_permission(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let (va, at) = (target.memory.va(), uapi::QAT_IOMMU_MAP_FIXED);
    let answer = target.context.map_user_with(va, PAGE_U64, 0);
    expect::fails("map for nothing", answer, Errno::INVAL)?;
    let answer = target.context.map_user_with(va, PAGE_U64, at);
    expect::fails("map for nothing at an IOVA", answer, Errno::INVAL)?;
    target.works()
}

fn bad_pointers(_: &Host) -> Result<()> {
    let target = Target::new()?;
    for request in target.requests() {
        for pointer in [0, NOWHERE, 0xffff_8880_0000_0000, u64::MAX] {
            let place = std::ptr::without_provenance_mut(usize::try_from(pointer)?);
            let what = format!("{} at {pointer:#x}", request.name);
            let answer = abi::raw(target.context.as_fd(), request.command, place);
            expect::fails(&what, answer, Errno::FAULT)?;
        }
    }
    target.works()
}

/// The caller would not learn the IOVA, so nothing is mapped.
fn result_that_cannot_be_written(_: &Host) -> Result<()> {
    let target = Target::new()?;
    let page = EdgePage::new()?;
    let request = user::map_request(target.memory.va(), PAGE_U64);
    let place = page.put_before_edge(request, std::mem::size_of_val(&request));
    page.make_read_only()?;
    let answer = abi::raw(target.context.as_fd(), uapi::QAT_IOMMU_MAP_USER, place);
    expect::fails("map with a read-only request", answer, Errno::FAULT)?;
    target.works()
}
