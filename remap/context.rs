// SPDX-License-Identifier: GPL-2.0

//! A context, that is one open file of `/dev/qat_iommu`, and what its ioctls do. It owns the
//! mappings made through it; they go when the last reference to its file goes, whoever holds that.
//!
//! Lock order: `Context::state`, then what `host` and `space` say. No lock is held while user
//! memory is read, written, pinned or unpinned. A context outlives every PF: a call that needs one
//! that is gone gets `ENODEV`.

use super::{
    classic,
    config::config,
    domain::Access,
    history::Why,
    host,
    info,
    owner::{
        Account,
        OpenAccount,
        Owner, //
    },
    pf::PciAddress,
    policy,
    refusal::Refusal,
    space::{
        Entry,
        Kind,
        Slot,
        Space, //
    },
    uapi::*,
    user::{
        self,
        Place,
        Wanted, //
    },
    wire::{
        Array,
        Received, //
    }, //
};
use crate::iova::{
    addr::{
        Address,
        Iova,
        Length,
        PAGE, //
    },
    error::Error as RangeError,
    span::Span,
    tree::Tree, //
};
use core::cmp::Reverse;
use kernel::{
    error::code::E2BIG,
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode,
        RBTreeNodeReservation, //
    },
    seq_file::SeqFile,
    seq_print,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

/// A mapped buffer by its first page; of several, the newest comes first.
type BufferKey = (u64, Reverse<u64>);
type BufferNode = RBTreeNode<BufferKey, Span<Iova>>;

/// What the lock of a context protects.
///
/// # Invariants
///
/// `buffers` has every buffer that is mapped in `space` through this context, and perhaps some that
/// went with a shared PF.
struct State {
    /// The space that ATTACH chose, or that the first buffer took. It may have ended since.
    space: Option<Arc<Space>>,
    buffers: RBTree<BufferKey, Span<Iova>>,
}

/// One open file.
#[pin_data(PinnedDrop)]
pub(crate) struct Context {
    /// Who it is to others, and what it holds. Left when the mappings are gone.
    account: OpenAccount,
    /// Numbers the buffers of this context.
    sequence: Atomic<u64>,
    /// It has made classic mappings.
    classics: Atomic<bool>,
    #[pin]
    state: Mutex<State>,
}

#[pinned_drop]
impl PinnedDrop for Context {
    fn drop(self: Pin<&mut Self>) {
        if self.classics.load(Relaxed) {
            classic::release(self.account());
        }
        // Nobody else knows this context any more, so its lock may be held while pages are unpinned.
        let state = self.state.lock();
        if let Some(space) = &state.space {
            space.release_users(state.buffers.values().copied(), self.account());
        }
    }
}

impl Context {
    /// A context without mappings.
    pub(super) fn new() -> Result<Pin<KBox<Self>>> {
        let account = OpenAccount::new()?;
        KBox::pin_init(
            pin_init!(Self {
                account,
                sequence: Atomic::new(0),
                classics: Atomic::new(false),
                state <- new_mutex!(State {
                    space: None,
                    buffers: RBTree::new(),
                }),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    fn account(&self) -> &Account {
        self.account.get()
    }

    fn owner(&self) -> Owner {
        Owner::Context(self.account.get().clone())
    }

    /// What `/proc/PID/fdinfo` shows. Takes no lock.
    pub(super) fn show(&self, out: &SeqFile) {
        let account = self.account();
        let held = account.holdings();
        seq_print!(out, "qat-iommu-context:\t{}\n", account.id);
        seq_print!(out, "qat-iommu-space:\t{}\n", account.space());
        seq_print!(out, "qat-iommu-mappings:\t{}\n", held.mappings);
        seq_print!(out, "qat-iommu-bytes:\t{}\n", held.bytes);
        seq_print!(out, "qat-iommu-pinned:\t{}\n", held.pinned);
    }

    /// The space that this context's buffers go to, which is kept from now on.
    fn space(&self) -> Result<Arc<Space>, Refusal> {
        if let Some(space) = &self.state.lock().space {
            return Ok(space.clone());
        }
        let default = host::lock().default_space().ok_or(Refusal::NoPf)?;
        let mut state = self.state.lock();
        let space = state.space.get_or_insert(default).clone();
        self.account().set_space(space.id);
        Ok(space)
    }

    /// Anyone who opened the node.
    pub(super) fn info(&self, arg: usize) -> Result {
        let mut received = Received::read(arg)?;
        let space = self.state.lock().space.clone();
        info::answer(&mut received, space.as_ref())?;
        received.write()
    }

    /// Anyone who opened the node.
    pub(super) fn attach(&self, arg: usize) -> Result {
        let mut received = Received::<qat_iommu_attach>::read(arg)?;
        let wanted = &mut received.value;
        if wanted.flags & !QAT_IOMMU_ATTACH_DEFAULT != 0 {
            return Err(Refusal::UnknownFlag.errno());
        }
        if wanted.reserved != 0 {
            return Err(EINVAL);
        }
        if config()?.vm {
            // There is one space, and nothing depends on it.
            wanted.space = 0;
            return received.write();
        }
        let space = {
            let host = host::lock();
            if wanted.flags & QAT_IOMMU_ATTACH_DEFAULT != 0 {
                host.default_space()
            } else {
                host.space_of(PciAddress {
                    segment: wanted.segment,
                    bus: wanted.bus,
                    device: wanted.device,
                    function: wanted.function,
                })
            }
        }
        .ok_or(ENODEV)?;
        wanted.space = space.id;
        // Written first: an attach that fails has changed nothing.
        received.write()?;
        let id = space.id;
        let mut state = self.state.lock();
        state.choose(space).map_err(Refusal::errno)?;
        self.account().set_space(id);
        Ok(())
    }

    /// Whoever may map physical memory; see `policy`.
    pub(super) fn map_phys(&self, arg: usize) -> Result {
        let mut received = Received::<qat_iommu_map_phys>::read(arg)?;
        let map = &mut received.value;
        let access = access(map.flags, 0)?;
        self.classics.store(true, Relaxed);
        map.mapped = classic::map(&self.owner(), map.phys, map.iova, map.length, access)
            .map_err(Refusal::errno)?;
        let (iova, mapped) = (map.iova, map.mapped);
        received.write().inspect_err(|_| {
            // The caller does not learn of the mapping, so it must not be there. The range is this
            // context's own; another thread can at most have unmapped it already.
            let _ = classic::unmap(&self.owner(), iova, mapped, Why::Failed);
        })
    }

    /// Whoever holds the context that made the mapping; one that a kernel client left takes more.
    pub(super) fn unmap(&self, arg: usize) -> Result {
        let received = Received::<qat_iommu_unmap>::read(arg)?;
        let unmap = &received.value;
        if unmap.flags & !QAT_IOMMU_UNMAP_FORCE != 0 {
            return Err(Refusal::UnknownFlag.errno());
        }
        if unmap.flags & QAT_IOMMU_UNMAP_FORCE != 0 {
            policy::check_rawio().map_err(Refusal::errno)?;
            // Whichever client it was; should it live and unmap its range, that fails.
            return classic::unmap(&Owner::Kernel(0), unmap.iova, unmap.length, Why::Force)
                .map_err(Refusal::errno);
        }
        if let Ok(span) = user::range(unmap.iova, unmap.length) {
            match self.unmap_buffer(span) {
                Err(Refusal::Range(RangeError::NotFound) | Refusal::NoPf) => {}
                result => return result.map_err(Refusal::errno),
            }
        }
        let result = classic::unmap(&self.owner(), unmap.iova, unmap.length, Why::Unmap);
        result.map_err(|why| self.why_missing(why).errno())
    }

    /// Why something is not mapped: the space may have ended with its shared PF.
    fn why_missing(&self, why: Refusal) -> Refusal {
        let state = self.state.lock();
        match &state.space {
            Some(space) => space.why_missing(why),
            None => why,
        }
    }

    /// Anyone who opened the node; a fixed IOVA, and a space that is not translated, need more.
    pub(super) fn map_user(&self, arg: usize) -> Result {
        let mut received = Received::<qat_iommu_map_user>::read(arg)?;
        let map = &mut received.value;
        let access = access(map.flags, QAT_IOMMU_MAP_FIXED)?;
        let fixed = map.flags & QAT_IOMMU_MAP_FIXED != 0;
        let span = self
            .map_buffer(map.va, map.length, access, |wanted| {
                wanted.place(fixed, map.iova, map.alignment)
            })
            .map_err(Refusal::errno)?;
        map.iova = span.first().raw() | (map.va & (PAGE - 1));
        received.write().inspect_err(|_| {
            // The caller does not learn of the mapping, so it must not be there.
            let _ = self.unmap_buffer(span);
        })
    }

    fn map_buffer(
        &self,
        va: u64,
        length: u64,
        access: Access,
        place: impl FnOnce(&Wanted) -> Result<Place, Refusal>,
    ) -> Result<Span<Iova>, Refusal> {
        let wanted = Wanted::new(va, length)?;
        let place = place(&wanted)?;
        let space = self.space()?;
        user::check_caller(&space)?;
        let (slot, key) = self.pin(&wanted, access)?;
        let record = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;

        let mut slot = Some(slot);
        let mut state = self.state.lock();
        let result = state.with(&space, |space| space.map_user(&mut slot, place));
        if let Ok(span) = result {
            state.buffers.insert(record.into_node(key, span));
        }
        drop(state);
        // A refused buffer is unpinned without a lock.
        drop(slot);
        result
    }

    fn pin(&self, wanted: &Wanted, access: Access) -> Result<(Slot, BufferKey), Refusal> {
        let sequence = self.sequence.fetch_add(1, Relaxed);
        let slot = user::pin(wanted, self.account.get(), sequence, access)?;
        Ok((slot, (wanted.buffer.va(), Reverse(sequence))))
    }

    /// Unmaps the buffer at exactly `span`.
    fn unmap_buffer(&self, span: Span<Iova>) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let space = state.space.clone().ok_or(Refusal::NoPf)?;
        let slot = space.unmap_user(span, self.account(), Why::Unmap)?;
        let record = state.forget(slot.value());
        drop(state);
        // The pages are unpinned without a lock.
        drop(slot);
        drop(record);
        Ok(())
    }

    /// Whoever holds the context that made the mapping.
    pub(super) fn unmap_user(&self, arg: usize) -> Result {
        let received = Received::<qat_iommu_unmap_user>::read(arg)?;
        let unmap = &received.value;
        if unmap.flags != 0 {
            return Err(Refusal::UnknownFlag.errno());
        }
        self.unmap_by_address(unmap.va, unmap.length)
            .map_err(Refusal::errno)
    }

    fn unmap_by_address(&self, va: u64, length: u64) -> Result<(), Refusal> {
        let wanted = Wanted::new(va, length)?;
        let length = Length::new(wanted.buffer.length())?;
        let mut state = self.state.lock();
        let space = state
            .space
            .clone()
            .ok_or(Refusal::Range(RangeError::NotFound))?;
        let (key, span) = state
            .newest(wanted.buffer.va(), length)
            .ok_or_else(|| space.why_missing(RangeError::NotFound.into()))?;
        let slot = match space.unmap_user(span, self.account(), Why::Unmap) {
            // It went with its PF, of which this is the first news.
            Err(Refusal::Range(RangeError::NotFound)) => {
                let record = state.buffers.remove_node(&key);
                drop(state);
                drop(record);
                return Err(Refusal::NoPf);
            }
            result => result?,
        };
        let record = state.buffers.remove_node(&key);
        drop(state);
        // The pages are unpinned without a lock.
        drop(slot);
        drop(record);
        Ok(())
    }

    /// Anyone who opened the node; sees this context's mappings only.
    pub(super) fn query(&self, arg: usize) -> Result {
        let mut received = Received::<qat_iommu_query>::read(arg)?;
        let query = &mut received.value;
        if query.flags != 0 {
            return Err(Refusal::UnknownFlag.errno());
        }
        let space = self.space().map_err(Refusal::errno)?;
        let found = space
            .query(Iova::new(query.iova), self.account())
            .ok_or_else(|| space.why_missing(RangeError::NotFound.into()).errno())?;
        query.iova = found.span.first().raw();
        query.length = found.span.length().map_or(0, Length::get);
        query.backing = found.backing;
        query.kind = if found.kind == Kind::User {
            QAT_IOMMU_QUERY_USER
        } else {
            QAT_IOMMU_QUERY_PHYS
        };
        query.map_flags = [
            (found.access.reads(), QAT_IOMMU_MAP_READ),
            (found.access.writes(), QAT_IOMMU_MAP_WRITE),
        ]
        .into_iter()
        .filter_map(|(holds, flag)| holds.then_some(flag))
        .fold(0, |all, flag| all | flag);
        received.write()
    }

    /// Anyone who opened the node; a space that is not translated needs more.
    pub(super) fn map_user_batch(&self, arg: usize) -> Result {
        let mut received = Received::<qat_iommu_map_user_batch>::read(arg)?;
        let batch = &mut received.value;
        let access = access(batch.flags, 0)?;
        let array = Array::<qat_iommu_user_buffer>::new(batch.buffers, batch.count)?;
        if batch.count > QAT_IOMMU_BATCH_MAX {
            return Err(E2BIG);
        }
        let mut buffers = array.read()?;
        match self.map_buffers(&mut buffers, access, batch.alignment) {
            Ok(spans) => array.write(&buffers).inspect_err(|_| {
                // The caller does not learn of the mappings, so they must not be there.
                for span in &spans {
                    let _ = self.unmap_buffer(*span);
                }
            }),
            Err((failed, why)) => {
                batch.failed = u32::try_from(failed).unwrap_or(u32::MAX);
                received.write()?;
                Err(why.errno())
            }
        }
    }

    /// Maps every buffer and notes its IOVA, or none; then it names the one that failed.
    fn map_buffers(
        &self,
        buffers: &mut [qat_iommu_user_buffer],
        access: Access,
        alignment: u64,
    ) -> Result<KVVec<Span<Iova>>, (usize, Refusal)> {
        let space = self.space().map_err(|why| (0, why))?;
        user::check_caller(&space).map_err(|why| (0, why))?;
        let no_memory = |err: kernel::alloc::AllocError| (0, Refusal::from(err));
        let mut slots =
            KVVec::with_capacity(buffers.len(), GFP_KERNEL_ACCOUNT).map_err(no_memory)?;
        let mut keys =
            KVVec::with_capacity(buffers.len(), GFP_KERNEL_ACCOUNT).map_err(no_memory)?;
        let mut records =
            KVVec::with_capacity(buffers.len(), GFP_KERNEL_ACCOUNT).map_err(no_memory)?;
        let mut spans =
            KVVec::with_capacity(buffers.len(), GFP_KERNEL_ACCOUNT).map_err(no_memory)?;
        for (index, buffer) in buffers.iter().enumerate() {
            let pinned = Wanted::new(buffer.va, buffer.length).and_then(|wanted| {
                let place = wanted.place(false, 0, alignment)?;
                let (slot, key) = self.pin(&wanted, access)?;
                let record = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?;
                Ok((slot, place, key, record))
            });
            let (slot, place, key, record) = pinned.map_err(|why| (index, why))?;
            let full = |_| (index, Refusal::from(ENOMEM));
            slots
                .push_within_capacity((Some(slot), place))
                .map_err(full)?;
            keys.push_within_capacity(key)
                .map_err(|_| (index, ENOMEM.into()))?;
            records
                .push_within_capacity(record)
                .map_err(|_| (index, ENOMEM.into()))?;
        }

        let mut state = self.state.lock();
        let result = match state.with(&space, Ok) {
            Ok(space) => space.map_users(&mut slots, |span| {
                let _ = spans.push_within_capacity(span);
            }),
            Err(why) => Err((0, why, Tree::new())),
        };
        if result.is_ok() {
            for (key, span) in keys.iter().zip(spans.iter()) {
                if let Some(record) = records.pop() {
                    state.buffers.insert(record.into_node(*key, *span));
                }
            }
        }
        drop(state);
        // Refused buffers are unpinned without a lock.
        result.map_err(|(index, why, _gone)| (index, why))?;
        for (buffer, span) in buffers.iter_mut().zip(spans.iter()) {
            buffer.iova = span.first().raw() | (buffer.va & (PAGE - 1));
        }
        Ok(spans)
    }

    /// Whoever holds the context that made the mappings.
    pub(super) fn unmap_batch(&self, arg: usize) -> Result {
        let mut received = Received::<qat_iommu_unmap_batch>::read(arg)?;
        let batch = &mut received.value;
        if batch.flags != 0 {
            return Err(Refusal::UnknownFlag.errno());
        }
        if batch.count > QAT_IOMMU_BATCH_MAX {
            return Err(E2BIG);
        }
        let ranges = Array::<qat_iommu_unmap_range>::new(batch.ranges, batch.count)?.read()?;
        match self.unmap_buffers(&ranges) {
            Ok(()) => Ok(()),
            Err((failed, why)) => {
                batch.failed = u32::try_from(failed).unwrap_or(u32::MAX);
                received.write()?;
                Err(why.errno())
            }
        }
    }

    fn unmap_buffers(&self, ranges: &[qat_iommu_unmap_range]) -> Result<(), (usize, Refusal)> {
        let mut spans = KVVec::with_capacity(ranges.len(), GFP_KERNEL_ACCOUNT)
            .map_err(|err| (0, Refusal::from(err)))?;
        for (index, range) in ranges.iter().enumerate() {
            let span = user::range(range.iova, range.length).map_err(|why| (index, why))?;
            spans
                .push_within_capacity(span)
                .map_err(|_| (index, ENOMEM.into()))?;
        }
        if spans.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock();
        let space = state
            .space
            .clone()
            .ok_or((0, Refusal::Range(RangeError::NotFound)))?;
        let gone = space
            .unmap_users(&spans, self.account())
            .map_err(|(index, why)| (index, space.why_missing(why)))?;
        for node in gone.iter() {
            drop(state.forget(node.value()));
        }
        drop(state);
        // The pages are unpinned without a lock.
        drop(gone);
        Ok(())
    }
}

impl State {
    /// Takes another space, unless buffers are mapped in the present one.
    fn choose(&mut self, space: Arc<Space>) -> Result<(), Refusal> {
        if let Some(present) = &self.space {
            if present.id == space.id {
                return Ok(());
            }
            if !present.ended() && !self.buffers.is_empty() {
                return Err(Refusal::Busy);
            }
        }
        // Buffers of a space that has ended are gone.
        self.buffers = RBTree::new();
        self.space = Some(space);
        Ok(())
    }

    /// Runs `work` on `space`, if that is still the space of this context.
    fn with<'a, R>(
        &self,
        space: &'a Space,
        work: impl FnOnce(&'a Space) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        match &self.space {
            Some(present) if present.id == space.id => work(space),
            _ => Err(Refusal::Busy),
        }
    }

    /// The newest buffer of exactly `length` bytes at `va`.
    fn newest(&self, va: u64, length: Length) -> Option<(BufferKey, Span<Iova>)> {
        let mut from = Reverse(u64::MAX);
        loop {
            let cursor = self.buffers.cursor_lower_bound(&(va, from))?;
            let (key, span) = cursor.current();
            if key.0 != va {
                return None;
            }
            if span.length() == Some(length) {
                return Some((*key, *span));
            }
            from = Reverse(key.1 .0.checked_sub(1)?);
        }
    }

    /// Drops the record of a buffer that is unmapped.
    fn forget(&mut self, entry: &Entry) -> Option<BufferNode> {
        let Entry::User(user) = entry else {
            return None;
        };
        self.buffers
            .remove_node(&(user.pins.buffer().va(), Reverse(user.sequence)))
    }
}

/// What the flags of a map allow the PFs; `more` flags are known besides read and write.
fn access(flags: u32, more: u32) -> Result<Access> {
    if flags & !(QAT_IOMMU_MAP_READ | QAT_IOMMU_MAP_WRITE | more) != 0 {
        return Err(Refusal::UnknownFlag.errno());
    }
    Access::new(
        flags & QAT_IOMMU_MAP_READ != 0,
        flags & QAT_IOMMU_MAP_WRITE != 0,
    )
    .ok_or(Refusal::NoAccess.errno())
}
