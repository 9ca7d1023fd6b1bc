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
        vacant,
        Entry,
        Kind,
        Slot,
        Space, //
    },
    spare::Spare,
    uapi::*,
    user::{
        self,
        BufferKey,
        Place,
        UserMapping,
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
    list::List,
    span::Span, //
};
use core::{
    cmp::Reverse,
    mem::offset_of,
    sync::atomic::{
        AtomicBool,
        AtomicU64,
        Ordering::Relaxed, //
    }, //
};
use kernel::{
    error::code::E2BIG,
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    seq_file::SeqFile,
    seq_print,
    sync::{
        Arc,
        Mutex, //
    }, //
};

type BufferRecord = RBTreeNodeReservation<BufferKey, Span<Iova>>;

/// The buffers of a context by their addresses, for those who unmap by address.
///
/// # Invariants
///
/// `by_address` has every buffer that is mapped in the space through this context, and perhaps some
/// that went with a shared PF.
struct Index {
    by_address: RBTree<BufferKey, Span<Iova>>,
    /// Memory for the next one.
    spare: Option<BufferRecord>,
}

/// What the lock of a context protects.
struct State {
    /// The space that ATTACH chose, or that the first buffer took. It may have ended since.
    space: Option<Arc<Space>>,
    /// How many buffers are mapped in it, with those that it took along when it ended.
    live: usize,
    /// All of them are in here.
    window: Option<Span<Iova>>,
    /// Made when it is needed for the first time.
    index: Option<Index>,
    /// What buffers lived in that were unmapped: [`SPARES`] at most, beside the one in
    /// [`Context::spare`].
    spares: List<Entry>,
}

/// So many boxes are kept for the next buffers: 128 KiB of a program that had as many mapped.
const SPARES: usize = 1024;

/// One open file.
#[pin_data(PinnedDrop)]
pub(crate) struct Context {
    /// Who it is to others, and what it holds. Left when the mappings are gone.
    account: OpenAccount,
    /// Numbers the buffers of this context.
    sequence: AtomicU64,
    /// It has made classic mappings.
    classics: AtomicBool,
    /// It has a space for its buffers that anyone may map them in.
    ready: AtomicBool,
    /// What the last buffer that was unmapped lived in.
    spare: Spare,
    /// What the last classic mapping that was unmapped lived in, with a mapping of nothing.
    spare_classic: Spare,
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
        if let (Some(space), Some(window)) = (&state.space, state.window) {
            if state.live > 0 {
                space.release_users(window, self.account());
            }
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
                sequence: AtomicU64::new(0),
                classics: AtomicBool::new(false),
                ready: AtomicBool::new(false),
                spare: Spare::empty(),
                spare_classic: Spare::empty(),
                state <- new_mutex!(State {
                    space: None,
                    live: 0,
                    window: None,
                    index: None,
                    spares: List::new(),
                }),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    fn account(&self) -> &Account {
        self.account.get()
    }

    fn owner(&self) -> Owner<'_> {
        Owner::Context(self.account.get())
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

    /// Makes sure that there is a space for its buffers, which the caller may map them in.
    #[inline]
    fn prepare(&self) -> Result<(), Refusal> {
        if self.ready.load(Relaxed) {
            return Ok(());
        }
        self.really_prepare()
    }

    #[inline(never)]
    fn really_prepare(&self) -> Result<(), Refusal> {
        let space = self.space()?;
        user::check_caller(&space)?;
        // Whoever has to be asked again is asked where a buffer is mapped, too.
        self.ready.store(space.translates(), Relaxed);
        Ok(())
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
        self.ready.store(false, Relaxed);
        self.account().set_space(id);
        Ok(())
    }

    /// Whoever may map physical memory; see `policy`.
    pub(super) fn map_phys(&self, arg: usize) -> Result {
        let received = Received::<qat_iommu_map_phys>::read(arg)?;
        let map = &received.value;
        let access = access(map.flags, 0)?;
        if !self.classics.load(Relaxed) {
            self.classics.store(true, Relaxed);
        }
        let (owner, spare) = (self.owner(), &self.spare_classic);
        let mapped = classic::map(owner, spare, map.phys, map.iova, map.length, access)
            .map_err(Refusal::errno)?;
        let written = received.write_word(offset_of!(qat_iommu_map_phys, mapped), mapped);
        written.inspect_err(|_| {
            // The caller does not learn of the mapping, so it must not be there. The range is this
            // context's own; another thread can at most have unmapped it already.
            let _ = classic::unmap(owner, spare, map.iova, mapped, Why::Failed);
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
            return self.unmap_forced(unmap.iova, unmap.length);
        }
        if self.account().has_buffers() {
            if let Ok(span) = user::range(unmap.iova, unmap.length) {
                match self.unmap_buffer(span) {
                    Err(Refusal::Range(RangeError::NotFound) | Refusal::NoPf) => {}
                    result => return result.map_err(Refusal::errno),
                }
            }
        }
        let (owner, spare) = (self.owner(), &self.spare_classic);
        let result = classic::unmap(owner, spare, unmap.iova, unmap.length, Why::Unmap);
        result.map_err(|why| self.why_missing(why).errno())
    }

    /// What a kernel client left, whichever it was; should it live and unmap its range, that fails.
    #[inline(never)]
    fn unmap_forced(&self, iova: u64, length: u64) -> Result {
        policy::check_rawio().map_err(Refusal::errno)?;
        let (client, spare) = (Owner::Kernel(0), &self.spare_classic);
        classic::unmap(client, spare, iova, length, Why::Force).map_err(Refusal::errno)?;
        pr_info!("the mapping of {length:#x} bytes at {iova:#x} of a kernel client is removed by force\n");
        Ok(())
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
        let received = Received::<qat_iommu_map_user>::read(arg)?;
        let map = &received.value;
        let access = access(map.flags, QAT_IOMMU_MAP_FIXED)?;
        let fixed = map.flags & QAT_IOMMU_MAP_FIXED != 0;
        let span = self
            .map_buffer(map.va, map.length, access, |wanted| {
                wanted.place(fixed, map.iova, map.alignment)
            })
            .map_err(Refusal::errno)?;
        let iova = span.first().raw() | (map.va & (PAGE - 1));
        let written = received.write_word(offset_of!(qat_iommu_map_user, iova), iova);
        written.inspect_err(|_| {
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
        self.prepare()?;
        let slot = match self.spare.take() {
            Some(slot) => slot,
            None => vacant()?,
        };
        let mut slot = Some(self.pin(&wanted, access, slot)?);
        let mut state = self.state.lock();
        let result = state.map(&mut slot, place);
        if self.spare.is_empty() {
            if let Some(next) = state.spares.pop() {
                self.spare.put(next);
            }
        }
        drop(state);
        // A refused buffer is unpinned without a lock.
        if let Some(slot) = slot {
            self.unpin(slot);
        }
        result
    }

    #[inline(always)]
    fn pin(&self, wanted: &Wanted, access: Access, mut slot: Slot) -> Result<Slot, Refusal> {
        let sequence = self.sequence.fetch_add(1, Relaxed);
        user::pin(wanted, self.account.get(), sequence, access, &mut slot)?;
        Ok(slot)
    }

    /// Makes room for what a buffer lived in that is to be unpinned.
    #[inline]
    fn keep_spare(&self, state: &mut State) {
        if self.spare.is_empty() || state.spares.len() >= SPARES {
            return;
        }
        if let Some(spare) = self.spare.take() {
            state.spares.push(spare);
        }
    }

    /// Unpins what is mapped no more, and keeps what it lived in for the next one. No lock may be held.
    #[inline]
    fn unpin(&self, mut slot: Slot) {
        slot.value_mut().clear();
        self.spare.put(slot);
    }

    /// Unmaps the buffer at exactly `span`.
    #[inline]
    fn unmap_buffer(&self, span: Span<Iova>) -> Result<(), Refusal> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let space = state.space.as_ref().ok_or(Refusal::NoPf)?;
        let slot = space.unmap_user(span, self.account())?;
        state.live = state.live.saturating_sub(1);
        if let (Some(index), Some(mapping)) = (&mut state.index, slot.value().user()) {
            index.forget(mapping);
        }
        self.keep_spare(state);
        drop(guard);
        self.unpin(slot);
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
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let space = state
            .space
            .as_ref()
            .ok_or(Refusal::Range(RangeError::NotFound))?;
        let index = match &mut state.index {
            Some(index) => index,
            None => {
                let index = Index::new(space, state.window, state.live, self.account())?;
                state.index.insert(index)
            }
        };
        let (key, span) = index
            .newest(wanted.buffer.va(), length)
            .ok_or_else(|| space.why_missing(RangeError::NotFound.into()))?;
        let slot = match space.unmap_user(span, self.account()) {
            // It went with its PF, of which this is the first news.
            Err(Refusal::Range(RangeError::NotFound)) => {
                index.remove(&key);
                return Err(Refusal::NoPf);
            }
            result => result?,
        };
        index.remove(&key);
        state.live = state.live.saturating_sub(1);
        self.keep_spare(state);
        drop(guard);
        self.unpin(slot);
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
        self.prepare().map_err(|why| (0, why))?;
        let no_memory = |err: kernel::alloc::AllocError| (0, Refusal::from(err));
        let mut slots =
            KVVec::with_capacity(buffers.len(), GFP_KERNEL_ACCOUNT).map_err(no_memory)?;
        let mut spans =
            KVVec::with_capacity(buffers.len(), GFP_KERNEL_ACCOUNT).map_err(no_memory)?;
        for (index, buffer) in buffers.iter().enumerate() {
            let pinned = Wanted::new(buffer.va, buffer.length).and_then(|wanted| {
                let place = wanted.place(false, 0, alignment)?;
                Ok((Some(self.pin(&wanted, access, vacant()?)?), place))
            });
            slots
                .push_within_capacity(pinned.map_err(|why| (index, why))?)
                .map_err(|_| (index, ENOMEM.into()))?;
        }

        let mut state = self.state.lock();
        let result = state.map_all(&mut slots, &mut spans);
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
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let space = state
            .space
            .as_ref()
            .ok_or((0, Refusal::Range(RangeError::NotFound)))?;
        let gone = space
            .unmap_users(&spans, self.account())
            .map_err(|(index, why)| (index, space.why_missing(why)))?;
        state.live = state.live.saturating_sub(gone.len());
        if let Some(index) = &mut state.index {
            for node in gone.iter() {
                if let Some(mapping) = node.value().user() {
                    index.forget(mapping);
                }
            }
        }
        drop(guard);
        // The pages are unpinned without a lock.
        drop(gone);
        Ok(())
    }
}

impl Index {
    /// An index of the buffers that a context has in `space`: `live` of them at most, in `window`.
    fn new(
        space: &Space,
        window: Option<Span<Iova>>,
        live: usize,
        account: &Account,
    ) -> Result<Self, Refusal> {
        let mut index = Self {
            by_address: RBTree::new(),
            spare: None,
        };
        let Some(window) = window else {
            return Ok(index);
        };
        // Too many for the allocator are refused, not warned about.
        let mut found = KVVec::with_capacity(live, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        space.for_each_user(window, account, |span, mapping| {
            // There is room for it: nothing is mapped through this context meanwhile.
            let _ = found.push_within_capacity((mapping.key(), span));
        });
        for (key, span) in &found {
            let record = BufferRecord::new(GFP_KERNEL_ACCOUNT)?;
            index.by_address.insert(record.into_node(*key, *span));
        }
        Ok(index)
    }

    /// Gets memory for one more.
    fn reserve(&mut self) -> Result {
        if self.spare.is_none() {
            self.spare = Some(BufferRecord::new(GFP_KERNEL_ACCOUNT)?);
        }
        Ok(())
    }

    /// Notes a buffer, for which there is memory.
    fn note(&mut self, key: BufferKey, span: Span<Iova>) {
        if let Some(record) = self.spare.take() {
            self.by_address.insert(record.into_node(key, span));
        }
    }

    /// The newest buffer of exactly `length` bytes at `va`.
    fn newest(&self, va: u64, length: Length) -> Option<(BufferKey, Span<Iova>)> {
        let mut from = Reverse(u64::MAX);
        loop {
            let cursor = self.by_address.cursor_lower_bound(&(va, from))?;
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

    fn remove(&mut self, key: &BufferKey) {
        if let Some(node) = self.by_address.remove_node(key) {
            self.spare = Some(node.into_reservation());
        }
    }

    /// Drops the record of a buffer that is unmapped.
    fn forget(&mut self, mapping: &UserMapping) {
        self.remove(&mapping.key());
    }
}

impl State {
    /// Takes another space, unless buffers are mapped in the present one.
    fn choose(&mut self, space: Arc<Space>) -> Result<(), Refusal> {
        if let Some(present) = &self.space {
            if present.id == space.id {
                return Ok(());
            }
            if !present.ended() && self.live > 0 {
                return Err(Refusal::Busy);
            }
        }
        // Buffers of a space that has ended are gone.
        self.live = 0;
        self.window = None;
        self.index = None;
        self.space = Some(space);
        Ok(())
    }

    /// Maps a pinned buffer; a refused one stays in `slot`.
    #[inline]
    fn map(&mut self, slot: &mut Option<Slot>, place: Place) -> Result<Span<Iova>, Refusal> {
        let space = self.space.as_ref().ok_or(Refusal::NoPf)?;
        let key = match &mut self.index {
            Some(index) => {
                index.reserve()?;
                let mapping = slot.as_ref().and_then(|slot| slot.value().user());
                mapping.map(UserMapping::key)
            }
            None => None,
        };
        let span = space.map_user(slot, place)?;
        if let (Some(index), Some(key)) = (&mut self.index, key) {
            index.note(key, span);
        }
        self.mapped(span);
        Ok(span)
    }

    /// Maps pinned buffers, or none, as [`Space::map_users`]; there is room in `spans` for where they
    /// are.
    fn map_all(
        &mut self,
        slots: &mut [(Option<Slot>, Place)],
        spans: &mut KVVec<Span<Iova>>,
    ) -> Result<(), (usize, Refusal, List<Entry>)> {
        let failed = |why| (0, why, List::new());
        let Some(space) = &self.space else {
            return Err(failed(Refusal::NoPf));
        };
        let mut records = KVVec::new();
        if self.index.is_some() {
            let slots = slots.iter().filter_map(|(slot, _)| slot.as_ref());
            for mapping in slots.filter_map(|slot| slot.value().user()) {
                let record =
                    BufferRecord::new(GFP_KERNEL_ACCOUNT).map_err(|err| failed(err.into()))?;
                records
                    .push((mapping.key(), record), GFP_KERNEL_ACCOUNT)
                    .map_err(|err| failed(err.into()))?;
            }
        }
        space.map_users(slots, |span| {
            let _ = spans.push_within_capacity(span);
        })?;
        for span in &*spans {
            self.mapped(*span);
        }
        if let Some(index) = &mut self.index {
            while let (Some((key, record)), Some(span)) = (records.pop(), spans.get(records.len()))
            {
                index.by_address.insert(record.into_node(key, *span));
            }
        }
        Ok(())
    }

    /// One more buffer is mapped.
    #[inline]
    fn mapped(&mut self, span: Span<Iova>) {
        self.live += 1;
        self.window = Some(match self.window {
            Some(window) => window.hull(span),
            None => span,
        });
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
