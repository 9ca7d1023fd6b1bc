// SPDX-License-Identifier: GPL-2.0
//! Requests that are malformed, or unusual and fine; and descriptors that are duplicated,
//! sent through a socket, and held by children.

use anyhow::{ensure, Context as _, Result};
use qat_iommu_uapi as uapi;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::ffi::c_void;

use super::model::{Backing, Rules, PAGE};
use super::ops::{Buffer, Child, Command, Shape};
use super::place;
use super::player::Player;
use super::shared::Count;
use crate::abi::{self, padded, user, Context, EdgePage};
use crate::libc_calls::{self, Forked};
use crate::spawn;

/// The longest structure, in words, and more.
const WORDS: usize = 16;
/// As much as a request can have, and more than the kernel takes.
const ROOM: usize = 8192;

/// A request that could be made as it is.
struct Request {
    command: u32,
    /// The structure, in whole words.
    words: Vec<u64>,
    bytes: usize,
    rules: Rules,
    /// The structure is written back.
    answers: bool,
}

impl Request {
    fn new<T: Copy>(command: u32, value: T, answers: bool) -> Self {
        Self {
            command,
            words: padded(value, ROOM),
            bytes: size_of::<T>(),
            rules: Rules::default(),
            answers,
        }
    }

    /// Changes a 32-bit field, by its place among them.
    fn set(&mut self, field: usize, value: u32) {
        let word = &mut self.words[field / 2];
        let shift = 32 * (field % 2);
        *word = (*word & !(u64::from(u32::MAX) << shift)) | (u64::from(value) << shift);
    }

    fn pointer(&mut self) -> *mut c_void {
        self.words.as_mut_ptr().cast()
    }
}

impl Player<'_> {
    /// A request of this kind: a map succeeds, an unmap has nothing to unmap.
    fn request(&self, ctx: usize, command: Command) -> Request {
        let none = Rules::default();
        let invalid = Rules {
            broken: vec![Errno::INVAL],
            perhaps: Vec::new(),
        };
        let page = Buffer::Small {
            page: 1,
            offset: 0,
            length: 4096,
        };
        let (va, length) = self.places.find(&page);
        let iova = place::slot(self.number, 1);
        let mut request = match command {
            Command::Info => Request::new(uapi::QAT_IOMMU_INFO, abi::info_request(), true),
            Command::Attach => Request::new(uapi::QAT_IOMMU_ATTACH, abi::attach_request(), true),
            Command::MapPhys => {
                let map = abi::map_request(self.places.phys.phys(), iova, PAGE);
                Request::new(uapi::QAT_IOMMU_MAP_PHYS, map, true)
            }
            Command::Unmap => {
                Request::new(uapi::QAT_IOMMU_UNMAP, abi::unmap_request(PAGE, 0), false)
            }
            Command::MapUser => Request::new(
                uapi::QAT_IOMMU_MAP_USER,
                user::map_request(va, length),
                true,
            ),
            Command::UnmapUser => {
                let unmap = user::unmap_request(va, 0);
                Request::new(uapi::QAT_IOMMU_UNMAP_USER, unmap, false)
            }
            Command::Query => Request::new(uapi::QAT_IOMMU_QUERY, user::query_request(0), true),
            Command::MapBatch => {
                let map = user::map_batch_request(&mut []);
                Request::new(uapi::QAT_IOMMU_MAP_USER_BATCH, map, false)
            }
            Command::UnmapBatch => {
                let unmap = user::unmap_batch_request(&[]);
                Request::new(uapi::QAT_IOMMU_UNMAP_BATCH, unmap, false)
            }
        };
        request.rules = match command {
            Command::Unmap | Command::UnmapUser => invalid,
            _ => none,
        };
        match command {
            Command::Query => {
                let empty = !self.live.iter().any(|one| one.ctx == ctx);
                request
                    .rules
                    .rule(empty, Errno::NOENT)
                    .perhaps(self.away, Errno::NODEV);
            }
            Command::MapPhys => {
                request
                    .rules
                    .rule(self.away, Errno::NODEV)
                    .fixed(self.facts, &self.live, iova, PAGE);
            }
            Command::MapUser | Command::Attach => {
                request.rules.rule(self.away, Errno::NODEV);
            }
            // Nothing needs a PF.
            Command::MapBatch => {
                request.rules.perhaps(self.away, Errno::NODEV);
            }
            _ => {}
        }
        request
    }

    pub(super) fn malformed(&mut self, ctx: u8, command: Command, shape: &Shape) -> Result<()> {
        let ctx = self.open(ctx)?;
        let mut request = self.request(ctx, command);
        let bytes = request.bytes;
        let mut pointer = request.pointer();
        let mut kept = None;
        match *shape {
            Shape::Size(size) => {
                request.set(0, size);
                request
                    .rules
                    .rule(usize::try_from(size)? < bytes, Errno::INVAL)
                    .rule(u64::from(size) > PAGE, Errno::TOOBIG);
            }
            Shape::Tail { more, at, byte } => {
                let at = bytes + usize::from(at % more);
                request.set(0, u32::try_from(bytes)? + u32::from(more));
                request.words[at / 8] |= u64::from(byte) << (at % 8 * 8);
                request.rules.rule(byte != 0, Errno::TOOBIG);
            }
            Shape::Pointer(value) => {
                pointer = std::ptr::without_provenance_mut(usize::try_from(value)?);
                request.rules = Rules::default();
                request.rules.rule(true, Errno::FAULT);
            }
            Shape::Edge(missing) => {
                let missing = 1 + usize::from(missing) % bytes;
                let words: [u64; WORDS] = request.words[..WORDS].try_into()?;
                pointer = self.edge.put_before_edge(words, bytes - missing);
                request.rules = Rules::default();
                request.rules.rule(true, Errno::FAULT);
            }
            Shape::ReadOnly => {
                let page = EdgePage::new()?;
                let words: [u64; WORDS] = request.words[..WORDS].try_into()?;
                pointer = page.put_before_edge(words, bytes);
                page.make_read_only()?;
                kept = Some(page);
                request.rules.rule(request.answers, Errno::FAULT);
                // A batch says which element failed.
                let tells = command == Command::MapBatch && self.away;
                request.rules.perhaps(tells, Errno::FAULT);
            }
            Shape::Flags(flags) => {
                request.words[0] |= u64::from(flags) << 32;
                request.rules.rule(true, Errno::OPNOTSUPP);
            }
            Shape::Reserved(value) => {
                if command == Command::Attach {
                    // Segment; bus, device, function, reserved.
                    request.words[1] |= u64::from(value) << 56;
                    request.rules.rule(true, Errno::INVAL);
                }
            }
        }
        let what = || format!("{command:?} with {shape:x?}");
        let got = abi::raw(self.context(ctx)?.as_fd(), request.command, pointer);
        drop(kept);
        self.shared.add(Count::Malformed, 1);
        if !self.judge(&what, got, &request.rules)? {
            return Ok(());
        }
        // What it did is undone.
        match command {
            Command::MapPhys => {
                self.shared.add(Count::Maps, 1);
                self.undo(ctx, place::slot(self.number, 1))
            }
            Command::MapUser => {
                self.shared.add(Count::Maps, 1);
                // The last field.
                self.undo(ctx, request.words[bytes / 8 - 1])
            }
            _ => Ok(()),
        }
    }

    fn undo(&self, ctx: usize, iova: u64) -> Result<()> {
        let got = self.context(ctx)?.unmap(iova, PAGE);
        self.judge(
            &|| format!("undoing the map at {iova:#x}"),
            got,
            &Rules::default(),
        )?;
        Ok(())
    }

    pub(super) fn unknown(&mut self, ctx: u8, command: u32) -> Result<()> {
        let ctx = self.open(ctx)?;
        let known = uapi::QAT_IOMMU_INFO..=uapi::QAT_IOMMU_UNMAP_BATCH;
        // Commands of every file are not the module's; those of its kind are.
        let command = (uapi::QAT_IOMMU_INFO & 0xff00) | (command & 0xffff_00ff);
        if known.contains(&command) {
            return Ok(());
        }
        let mut words = [0u64; WORDS];
        let pointer = words.as_mut_ptr().cast();
        let got = abi::raw(self.context(ctx)?.as_fd(), command, pointer);
        let mut rules = Rules::default();
        rules.rule(true, Errno::NOTTY);
        self.judge(&|| format!("command {command:#x}"), got, &rules)?;
        ensure!(words == [0; WORDS], "command {command:#x} wrote something");
        Ok(())
    }

    pub(super) fn duplicate(&mut self, ctx: u8) -> Result<()> {
        let ctx = self.open(ctx)?;
        let other = self.context(ctx)?.duplicate()?;
        // The first descriptor goes; the context stays.
        self.contexts[ctx] = Some(other);
        Ok(())
    }

    pub(super) fn pass(&mut self, ctx: u8) -> Result<()> {
        let ctx = self.open(ctx)?;
        let (from, to) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        libc_calls::send_descriptor(&from, self.context(ctx)?.as_fd())?;
        // On its way it is in nobody's hands.
        drop(self.contexts[ctx].take());
        let arrived: OwnedFd = libc_calls::receive_descriptor(&to)?;
        self.contexts[ctx] = Some(Context::from(arrived));
        Ok(())
    }

    pub(super) fn fork(&mut self, target: u16, act: Child, page: u8, slot: u16) -> Result<()> {
        let ctx = match self.pick(target) {
            Some(one) => one.ctx,
            None => self.open(0)?,
        };
        let mapping = self.pick(target);
        let iova = place::slot(self.number, slot);
        let buffer = Buffer::Small {
            page,
            offset: 0,
            length: 4096,
        };
        let (va, length) = self.places.find(&buffer);
        let mut rules = Rules::default();
        match (act, &mapping) {
            (Child::Map, _) => {
                rules
                    .rule(self.away, Errno::NODEV)
                    .fixed(self.facts, &self.live, iova, PAGE);
            }
            (Child::Unmap, None) => {
                rules.rule(true, Errno::NOENT).rule(self.away, Errno::NODEV);
            }
            _ => {}
        }
        let (address, bytes) = mapping.map_or((iova, PAGE), |one| one.named());
        let context = self.context(ctx)?;
        // It must not allocate: what it does is system calls.
        let code = spawn::alone(|| {
            Forked::new(|| {
                let errno =
                    |result: Result<(), Errno>| result.map_or_else(Errno::raw_os_error, |()| 0);
                match act {
                    Child::Exit => 0,
                    Child::Exec => libc_calls::become_true(),
                    Child::Unmap => errno(context.unmap(address, bytes)),
                    Child::Map => errno(context.map_user_at(va, length, iova).map(|_| ())),
                }
            })?
            .code()
        })?;
        self.shared.add(Count::Forks, 1);
        let got = match code {
            0 => Ok(()),
            errno => Err(Errno::from_raw_os_error(errno)),
        };
        let what = || format!("{act:?} by a child, {address:#x} or {iova:#x}");
        if !self.judge(&what, got, &rules)? {
            return Ok(());
        }
        match (act, mapping) {
            (Child::Unmap, Some(mapping)) => {
                self.forget(&mapping);
                self.shared.add(Count::Unmaps, 1);
            }
            (Child::Map, _) => {
                let span = super::model::pages(iova, length).context("one page")?;
                let here = false;
                let backing = Backing::User { va, length, here };
                self.record(ctx, span, abi::BOTH, backing);
                self.shared.add(Count::Maps, 1);
            }
            _ => {}
        }
        Ok(())
    }
}
