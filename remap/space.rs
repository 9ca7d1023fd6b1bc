// SPDX-License-Identifier: GPL-2.0

//! One IOVA space: what is mapped in it, the domain behind it, the PFs that see it.
//!
//! Lock order: device lock, then `host::HOST`, then `Space::state`, then the IOMMU drivers' own.
//! Nothing that can wait for user space is done under the last three.
//!
//! What if a PF goes away in the middle: it cannot, for it leaves by `leave` or `end` with the same
//! locks held.

mod listing;

pub(crate) use listing::{
    Kind,
    Portrait, //
};

use super::{
    classic::Classic,
    clock::Stamp,
    config::{
        config,
        SharedFixed, //
    },
    domain::{
        everything,
        Backing,
        MapError,
        Poisoned,
        PrivateDomain, //
    },
    ffi,
    frames::Frames,
    group::Claimed,
    history::{
        self,
        Why, //
    },
    lease::Lease,
    owner::Account,
    pf::{
        self,
        PciAddress,
        Pf,
        Rules, //
    },
    policy,
    refusal::Refusal,
    resv,
    trace,
    user::{
        Place,
        UserMapping, //
    }, //
};
use crate::iova::{
    addr::{
        Address,
        Iova,
        Length,
        Phys,
        PAGE, //
    },
    allocate::{
        align::{
            best_alignment,
            Alignment, //
        },
        NoSpace,
        Request, //
    },
    error::Error as RangeError,
    layout::{
        Conflict,
        Layout,
        Refused, //
    },
    list::List,
    pages::PageSizes,
    span::Span,
    tree::Node, //
};
use listing::Amount;

use core::sync::atomic::{
    AtomicU64,
    Ordering::Relaxed, //
};
use kernel::{
    fmt,
    new_mutex,
    pci,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// Below this the DMA API allocates first.
const FOUR_GIB: u64 = 1 << 32;

/// What a live range of a space holds.
pub(crate) enum Entry {
    /// A pinned buffer of a program. First, so that one comparison tells it from all others: what it
    /// is lies in values that a part of this one never has.
    User(UserMapping),
    /// A classic mapping.
    Classic(Arc<Classic>),
    /// A range that the IOMMU failed to remove. Nobody owns it and nothing may use it again.
    Poisoned,
}

impl Entry {
    fn is_of(&self, account: &Account) -> bool {
        match self {
            Entry::Classic(classic) => classic.is_of_context(account),
            Entry::User(user) => user.pins.account().is(account),
            Entry::Poisoned => false,
        }
    }

    /// Whether it is a buffer of this context.
    fn is_user_of(&self, account: &Account) -> bool {
        matches!(self, Entry::User(user) if user.pins.account().is(account))
    }

    /// Which classic mapping it is; null if none.
    pub(crate) fn classic(&self) -> *const Classic {
        match self {
            Entry::Classic(classic) => Arc::as_ptr(classic),
            Entry::User(_) | Entry::Poisoned => core::ptr::null(),
        }
    }

    /// The buffer that it is.
    pub(crate) fn user(&self) -> Option<&UserMapping> {
        match self {
            Entry::User(user) => Some(user),
            Entry::Classic(_) | Entry::Poisoned => None,
        }
    }

    /// Drops what it holds.
    #[inline]
    pub(crate) fn clear(&mut self) {
        *self = Entry::Poisoned;
    }

    /// Makes it `entry`. It must hold nothing, for nothing is dropped.
    #[inline]
    pub(crate) fn fill(&mut self, entry: Self) {
        debug_assert!(matches!(self, Entry::Poisoned));
        core::mem::forget(core::mem::replace(self, entry));
    }

    /// Takes out the classic mapping that it holds, and drops what else it may hold.
    #[inline]
    pub(crate) fn take_classic(&mut self) -> Option<Arc<Classic>> {
        let Entry::Classic(classic) = self else {
            self.clear();
            return None;
        };
        // SAFETY: It is read once, for what it was read from is overwritten without being dropped. (To
        // take out the whole entry would be to copy a buffer's 80 bytes.)
        let taken = unsafe { core::ptr::read(classic) };
        core::mem::forget(self.take());
        Some(taken)
    }

    /// Takes out what it holds.
    #[inline]
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Entry::Poisoned)
    }

    /// Makes the mapping in a domain, or nothing of it.
    fn program(&self, backing: &Backing, span: Span<Iova>) -> Result<(), MapError> {
        let fixed = match self {
            Entry::Classic(classic) => return classic.program(backing, span),
            Entry::User(user) => {
                match user.pins.contiguous() {
                    Some(phys) => backing.map(span, phys.first(), user.pins.access())?,
                    None => backing.map_runs(span, user.pins.scattered(), user.pins.access())?,
                }
                user.lease.is_none()
            }
            Entry::Poisoned => false,
        };
        if fixed {
            flush_fixed(backing);
        }
        Ok(())
    }

    /// Never gives the memory back: a PF may still reach it.
    fn leak(self) {
        match self {
            Entry::Classic(classic) => classic.leak(),
            Entry::User(user) => user.pins.leak(),
            Entry::Poisoned => {}
        }
    }
}

impl Classic {
    /// Makes the mapping in a domain, or nothing of it.
    #[inline]
    fn program(&self, backing: &Backing, span: Span<Iova>) -> Result<(), MapError> {
        backing.map(span, self.phys, self.access)?;
        flush_fixed(backing);
        Ok(())
    }
}

/// After a fixed map: the DMA API may have removed an entry for one of these addresses a moment ago,
/// and flush it later. (What it lends has been flushed.)
#[inline]
fn flush_fixed(backing: &Backing) {
    if backing.is_shared() {
        backing.flush();
    }
}

/// How many buffers are unmapped before others get the lock of the space.
const RELEASED_AT_ONCE: usize = 1024;

/// How many ranges of the DMA API's are tried that fixed mappings may lie in.
const BORROWED_AT_ONCE: usize = 16;

/// The largest page size that is worth an alignment.
const LARGEST_PAGE: u64 = 1 << 30;

// One more word, and the allocator takes half as much again for each mapping.
const _: () = assert!(size_of::<Node<Entry>>() <= 128);

/// The box that an entry lives in; made before any lock is taken or anything is programmed.
pub(crate) type Slot = KBox<Node<Entry>>;

/// What lives on, leaked, because its range is poisoned: a classic mapping, or a buffer (null).
pub(crate) struct Leaked(pub(crate) *const Classic);

/// One that is given its range and its entry when they are known.
pub(crate) fn vacant() -> Result<Slot> {
    let nowhere = Span::between(Iova::MIN, Iova::MIN);
    ffi::boxed(Node::new(nowhere, Entry::Poisoned))
}

/// What became of buffers that were to lie side by side.
enum Together {
    Done,
    /// There is no room for that, or their places are chosen otherwise. Nothing was changed.
    No,
    /// As [`Space::map_users`] fails.
    Failed(usize, Refusal, List<Entry>),
}

/// Why a PF was not taken into a space.
pub(crate) enum JoinError {
    /// Its IOMMU cannot use the domain of the space.
    OtherIommu(Error),
    /// It is translated and the PFs of the space are not, or the other way round.
    MixedTranslation,
    /// Its rules and what is mapped contradict each other.
    Conflict(Conflict),
    /// A live mapping cannot be made for it.
    Mapping(Span<Iova>, Refusal),
    /// The kernel's answer.
    Kernel(Error),
}

impl From<Error> for JoinError {
    fn from(err: Error) -> Self {
        JoinError::Kernel(err)
    }
}

impl JoinError {
    /// What probe returns.
    pub(crate) fn errno(&self) -> Error {
        match self {
            JoinError::OtherIommu(err) | JoinError::Kernel(err) => *err,
            JoinError::MixedTranslation | JoinError::Conflict(_) => EBUSY,
            JoinError::Mapping(_, why) => why.errno(),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::OtherIommu(err) => write!(
                f,
                "its IOMMU cannot use the domain that the other owned PFs share ({})",
                err.to_errno()
            ),
            JoinError::MixedTranslation => {
                f.write_str("owned PFs are either all translated by an IOMMU or none is")
            }
            JoinError::Conflict(Conflict::NoAperture) => {
                f.write_str("its addresses and those of the other owned PFs have none in common")
            }
            JoinError::Conflict(Conflict::TooManyReserved) => {
                f.write_str("its IOMMU reserves too many ranges")
            }
            JoinError::Conflict(Conflict::OutsideAperture { live, aperture }) => {
                write!(
                    f,
                    "the live mapping {live:?} is beyond its aperture {aperture:?}"
                )
            }
            JoinError::Conflict(Conflict::Reserved { live, reserved }) => {
                write!(
                    f,
                    "the live mapping {live:?} touches its reserved range {reserved:?}"
                )
            }
            JoinError::Mapping(span, why) => write!(
                f,
                "the live mapping {span:?} cannot be made for it ({}: {})",
                why.errno().to_errno(),
                why.why()
            ),
            JoinError::Kernel(err) => write!(f, "the kernel refused ({})", err.to_errno()),
        }
    }
}

/// What a space looks like from outside.
pub(crate) struct Facts {
    /// Whether addresses are translated.
    pub(crate) translated: bool,
    /// Whether the DMA API uses the space too.
    pub(crate) shared: bool,
    pub(crate) aperture: Span<Iova>,
    pub(crate) pages: PageSizes,
}

/// What the lock of a space protects.
///
/// # Invariants
///
/// If there is a backing that translates, it maps the ranges of `layout` and none besides that we
/// made. Without a backing nothing is live, but for ranges that are poisoned.
struct State {
    /// The number of the space.
    id: u64,
    layout: Layout<Entry>,
    /// How much is live.
    amount: Amount,
    backing: Option<Backing>,
    pfs: KVec<Pf>,
    /// The space of a VM, which has no PFs that matter.
    vm: bool,
}

/// One IOVA space.
#[pin_data]
pub(crate) struct Space {
    /// Its number, never used again while the module is loaded.
    pub(crate) id: u64,
    /// Whether it is the one of the owned PFs.
    pub(crate) owned: bool,
    /// What sizes of mappings are multiples of while there is a PF to map for, else 0. Written with
    /// the lock held, by whoever takes PFs in or lets them go: with the host locked, or when the host
    /// does not list the space any more.
    granule: AtomicU64,
    #[pin]
    state: Mutex<State>,
}

impl Space {
    fn new(id: u64, owned: bool, vm: bool, backing: Option<Backing>) -> Result<Arc<Self>> {
        let widest = match &backing {
            Some(backing) => backing.aperture()?,
            None => everything(),
        };
        let granule = if vm { PAGE } else { 0 };
        Arc::pin_init(
            pin_init!(Self {
                id,
                owned,
                granule: AtomicU64::new(granule),
                state <- new_mutex!(State {
                    id: *id,
                    layout: Layout::new(widest, ffi::random()),
                    amount: Amount::default(),
                    backing,
                    pfs: KVec::new(),
                    vm,
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// The space of the owned PFs, before the first of them.
    pub(crate) fn for_owned(id: u64) -> Result<Arc<Self>> {
        Self::new(id, true, false, None)
    }

    /// The space of a VM: buffers get their physical addresses.
    pub(crate) fn for_vm(id: u64) -> Result<Arc<Self>> {
        Self::new(id, false, true, Some(Backing::Untranslated))
    }

    /// The space of a PF that its own driver holds, with what stands behind it.
    pub(crate) fn for_shared(
        id: u64,
        dev: &pci::Device,
        backing: Backing,
        dma_bits: u32,
    ) -> Result<Arc<Self>, JoinError> {
        let space = Self::new(id, false, false, Some(backing))?;
        space.join_shared(dev, dma_bits)?;
        Ok(space)
    }

    /// Takes in a PF whose own driver's DMA goes through the domain of this space. Called by the
    /// watch, with the device lock held.
    pub(crate) fn join_shared(&self, dev: &pci::Device, dma_bits: u32) -> Result<(), JoinError> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.pfs.reserve(1, GFP_KERNEL).map_err(Error::from)?;
        let rules = state.take_rules(dev, dma_bits)?;
        state
            .pfs
            .push(Pf::new(dev, rules, None), GFP_KERNEL)
            .map_err(Error::from)?;
        self.note_granule(state);
        Ok(())
    }

    /// Notes what sizes are multiples of, after a PF came or went.
    fn note_granule(&self, state: &State) {
        let granule = match &state.backing {
            Some(backing) if state.vm || !state.pfs.is_empty() => {
                let granule = backing.page_sizes().map(PageSizes::granule);
                granule.unwrap_or(Alignment::PAGE).get()
            }
            _ => 0,
        };
        self.granule.store(granule, Relaxed);
    }

    /// Whether this is the space of the shared domain `backing`.
    pub(crate) fn is_behind(&self, backing: &Backing) -> bool {
        let state = self.state.lock();
        !self.owned
            && state
                .backing
                .as_ref()
                .is_some_and(|own| own.is_same_shared(backing))
    }

    /// Takes an owned PF in: attaches it and takes on its rules. Called by probe.
    pub(crate) fn join_owned(
        &self,
        dev: &pci::Device,
        claimed: Option<Claimed>,
        dma_bits: u32,
    ) -> Result<(), JoinError> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.pfs.reserve(1, GFP_KERNEL).map_err(Error::from)?;

        let attached = match claimed {
            None => {
                if state.backing.as_ref().is_some_and(Backing::translates) {
                    return Err(JoinError::MixedTranslation);
                }
                if state.backing.is_none() {
                    state.take_backing(Backing::Untranslated)?;
                }
                None
            }
            Some(claimed) => Some(state.attach(dev, claimed)?),
        };

        let result = state.take_rules(dev, dma_bits).and_then(|rules| {
            state
                .pfs
                .push(Pf::new(dev, rules, attached), GFP_KERNEL)
                .map_err(|err| Error::from(err).into())
        });
        if result.is_err() {
            state.pf_left();
        }
        self.note_granule(state);
        result
    }

    /// Lets a shared PF go if it is not the last one; else nothing is done, and `false` returned.
    /// The mappings stay, for the others. Called with the device lock held.
    pub(crate) fn leave_others(&self, dev: &pci::Device) -> bool {
        let more = self.state.lock().pfs.len() > 1;
        // Nobody else lets one go meanwhile: the host is locked.
        more && self.leave(dev)
    }

    /// Lets a PF go: an owned one is detached from the domain when this returns. The mappings stay.
    /// Called by remove, after the function was stopped; `false` if the PF is not here.
    pub(crate) fn leave(&self, dev: &pci::Device) -> bool {
        let mut guard = self.state.lock();
        let Some(index) = guard.pfs.iter().position(|pf| pf.is(dev)) else {
            return false;
        };
        let gone = guard.pfs.remove(index);
        guard.pf_left();
        self.note_granule(&guard);
        drop(guard);
        drop(gone);
        true
    }

    /// Ends the space of a shared PF: when this returns its domain holds nothing of ours. Called
    /// without the host's lock, for pages are unpinned, unless no context is left.
    pub(crate) fn end(&self) {
        let mut guard = self.state.lock();
        let mut gone = guard.layout.live_mut().take_all();
        guard.amount = Amount::default();
        guard.unmap_all(&mut gone, Why::Unbind);
        guard.backing = None;
        guard.pfs.clear();
        self.note_granule(&guard);
        drop(guard);
        drop(gone);
    }

    /// Whether there is a PF to map for. Called with the host locked.
    #[inline]
    pub(crate) fn usable(&self) -> bool {
        self.granule() != 0
    }

    /// What sizes of mappings are multiples of, 0 without a PF to map for. Called with the host
    /// locked.
    #[inline]
    pub(crate) fn granule(&self) -> u64 {
        self.granule.load(Relaxed)
    }

    /// Whether it ended with its shared PF.
    pub(crate) fn ended(&self) -> bool {
        !self.owned && self.state.lock().backing.is_none()
    }

    /// What to say where nothing was found: with a shared PF goes all that was mapped in its space.
    /// (An address within a page can be a buffer's, and is no classic mapping's.)
    pub(crate) fn why_missing(&self, why: Refusal) -> Refusal {
        match why {
            Refusal::Range(RangeError::NotFound | RangeError::Misaligned) if self.ended() => {
                Refusal::NoPf
            }
            why => why,
        }
    }

    /// Whether an IOMMU translates for it.
    pub(crate) fn translates(&self) -> bool {
        let state = self.state.lock();
        state.backing.as_ref().is_some_and(Backing::translates)
    }

    /// Whether `dev` is one of its PFs.
    pub(crate) fn has(&self, dev: &pci::Device) -> bool {
        self.state.lock().pfs.iter().any(|pf| pf.is(dev))
    }

    /// The owned PF of it whose IOMMU group `dev` is in as well.
    pub(crate) fn grown_by(&self, dev: &pci::Device) -> Option<PciAddress> {
        let state = self.state.lock();
        let pf = state
            .pfs
            .iter()
            .find(|pf| !pf.is(dev) && pf.is_grouped(dev))?;
        Some(pf.address)
    }

    /// Whether something is mapped in `span`.
    pub(crate) fn overlaps(&self, span: Span<Iova>) -> bool {
        self.state.lock().layout.live().overlapping(span).is_some()
    }

    /// Whether a PF of it has this address.
    pub(crate) fn has_address(&self, address: PciAddress) -> bool {
        self.state.lock().pfs.iter().any(|pf| pf.address == address)
    }

    /// What it looks like, if it is usable.
    pub(crate) fn facts(&self) -> Option<Facts> {
        let state = self.state.lock();
        let backing = state.backing.as_ref()?;
        if state.pfs.is_empty() {
            return None;
        }
        Some(Facts {
            translated: backing.translates(),
            shared: backing.is_shared(),
            aperture: state.layout.aperture(),
            pages: backing.page_sizes().ok()?,
        })
    }

    /// Calls `f` for each of its reserved ranges, in order.
    pub(crate) fn for_each_reserved(&self, mut f: impl FnMut(Span<Iova>) -> Result) -> Result {
        self.state
            .lock()
            .layout
            .reserved()
            .iter()
            .try_for_each(&mut f)
    }

    /// Calls `f` for each PF, with whether it is translated and whether it takes fixed ranges.
    pub(crate) fn for_each_pf(&self, mut f: impl FnMut(&Pf, bool, bool) -> Result) -> Result {
        let state = self.state.lock();
        let Some(backing) = &state.backing else {
            return Ok(());
        };
        let fixed = fixed_floor(backing).is_ok();
        state
            .pfs
            .iter()
            .try_for_each(|pf| f(pf, backing.translates(), fixed))
    }

    /// Notes that the PFs of this space lack live mappings.
    pub(crate) fn set_incomplete(&self) {
        for pf in self.state.lock().pfs.iter_mut() {
            pf.incomplete = true;
        }
    }

    /// Maps a classic mapping at `slot`'s span, or changes nothing.
    pub(crate) fn map(&self, slot: Slot, classic: &Classic) -> Result<(), Refusal> {
        let span = slot.span();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let backing = state.backing.as_ref().ok_or(Refusal::NoPf)?;
        if !backing.translates() && classic.phys.raw() != span.first().raw() {
            return Err(Refusal::NotTranslated);
        }
        if span.first() < fixed_floor(backing)? {
            return Err(Refusal::SharedFixed);
        }
        if let Err(refused) = state.record(slot) {
            drop(guard);
            drop(refused.node);
            return Err(refused.error.into());
        }
        state.program_classic(span, classic).map_err(|(why, slot)| {
            drop(guard);
            drop(slot);
            why
        })
    }

    /// Maps a pinned buffer at a place of the caller's choice or ours. Returns where; a refused one
    /// stays in `slot`, to be dropped without a lock.
    pub(crate) fn map_user(
        &self,
        slot: &mut Option<Slot>,
        place: Place,
    ) -> Result<Span<Iova>, Refusal> {
        self.state.lock().map_user(slot, place)
    }

    /// Maps several pinned buffers, or none; `told` hears where each of them is. On failure the buffer
    /// is named that could not be mapped, and all are in `slots` or handed back, to be dropped without
    /// a lock.
    pub(crate) fn map_users(
        &self,
        slots: &mut [(Option<Slot>, Place)],
        mut told: impl FnMut(Span<Iova>),
    ) -> Result<(), (usize, Refusal, List<Entry>)> {
        let mut guard = self.state.lock();
        match guard.map_together(slots, &mut told) {
            Together::Done => return Ok(()),
            Together::Failed(index, why, gone) => return Err((index, why, gone)),
            Together::No => {}
        }
        let mut mapped: usize = 0;
        let mut failed = None;
        for (index, (slot, place)) in slots.iter_mut().enumerate() {
            match guard.map_user(slot, *place) {
                Ok(span) => {
                    *place = Place::At(span);
                    mapped = index + 1;
                    told(span);
                }
                Err(why) => {
                    failed = Some((index, why));
                    break;
                }
            }
        }
        let Some((index, why)) = failed else {
            return Ok(());
        };
        let mut gone = List::new();
        for (_, place) in slots.iter().take(mapped) {
            if let Place::At(span) = place {
                if let Some(slot) = guard.strike(*span, |_| true) {
                    gone.push(slot);
                }
            }
        }
        guard.unmap_all(&mut gone, Why::Failed);
        Err((index, why, gone))
    }

    /// Unmaps the pinned buffer of a context that is exactly `span`. What is returned is to be
    /// dropped without a lock: that unpins it.
    #[inline]
    pub(crate) fn unmap_user(&self, span: Span<Iova>, account: &Account) -> Result<Slot, Refusal> {
        let mut guard = self.state.lock();
        let slot = guard
            .strike(span, |entry| entry.is_user_of(account))
            .ok_or(RangeError::NotFound)?;
        guard
            .unmap(slot, Why::Unmap)
            .map_err(|_leaked| Refusal::Poisoned)
    }

    /// Unmaps several pinned buffers of a context, or none, with one flush; on failure the range is
    /// named that was refused. What is returned is to be dropped without a lock.
    pub(crate) fn unmap_users(
        &self,
        spans: &[Span<Iova>],
        account: &Account,
    ) -> Result<List<Entry>, (usize, Refusal)> {
        let mut guard = self.state.lock();
        let mut gone = match guard.strike_all(spans, |entry| entry.is_user_of(account)) {
            Some(gone) => gone,
            None => guard.strike_each(spans, |entry| entry.is_user_of(account))?,
        };
        let count = gone.len();
        guard.unmap_all(&mut gone, Why::Unmap);
        if gone.len() < count {
            drop(guard);
            return Err((spans.len(), Refusal::Poisoned));
        }
        Ok(gone)
    }

    /// The mapping of a context that holds `from`, or the next one above.
    pub(crate) fn query(&self, from: Iova, account: &Account) -> Option<Portrait> {
        let state = self.state.lock();
        let live = state.layout.live();
        let mut node = live.get(from).or_else(|| live.next(from));
        while let Some(found) = node {
            if found.value().is_of(account) {
                return Some(Portrait::new(self.id, found.span(), found.value()));
            }
            node = live.next(found.span().last());
        }
        None
    }

    /// Unmaps the classic mapping at `span` if there is one and it is `wanted`. What is returned is to
    /// be dropped without the lock.
    #[inline]
    pub(crate) fn unmap(
        &self,
        span: Span<Iova>,
        wanted: impl Fn(&Classic) -> bool,
        why: Why,
    ) -> Option<Result<Slot, Leaked>> {
        let held = |entry: &Entry| matches!(entry, Entry::Classic(held) if wanted(held));
        let mut guard = self.state.lock();
        let slot = guard.strike(span, held)?;
        Some(guard.unmap(slot, why))
    }

    /// Unmaps every classic mapping of a context that closes. Called with the host locked.
    pub(crate) fn release_classics(&self, account: &Account) {
        let mut guard = self.state.lock();
        let mut gone = List::new();
        let mut next = guard.layout.live().first().map(Node::span);
        while let Some(span) = next {
            let of = |entry: &Entry| matches!(entry, Entry::Classic(classic) if classic.is_of_context(account));
            if guard.entry(span).is_some_and(of) {
                if let Some(slot) = guard.strike(span, |_| true) {
                    gone.push(slot);
                }
            }
            next = guard.layout.live().next(span.last()).map(Node::span);
        }
        // A range that is poisoned here was reported and stays recorded.
        guard.unmap_all(&mut gone, Why::Close);
    }

    /// Unmaps the pinned buffers inside `window` of a context that closes. Called without a lock that
    /// anyone else waits for: the pages are unpinned.
    pub(crate) fn release_users(&self, window: Span<Iova>, account: &Account) {
        let mut rest = Some(window);
        while let Some(window) = rest {
            let mut gone = List::new();
            let mut guard = self.state.lock();
            rest = None;
            let mut next = guard.user_in(window);
            let mut seen = 0;
            while let Some((span, own)) =
                next.map(|(span, entry)| (span, entry.is_user_of(account)))
            {
                let above = span.last().checked_add(1);
                let above = above.and_then(|first| Span::from_bounds(first, window.last()).ok());
                if own {
                    if let Some(slot) = guard.strike(span, |_| true) {
                        gone.push(slot);
                    }
                }
                seen += 1;
                if seen == RELEASED_AT_ONCE {
                    rest = above;
                    break;
                }
                next = above.and_then(|above| guard.user_in(above));
            }
            guard.unmap_all(&mut gone, Why::Close);
            drop(guard);
            drop(gone);
            ffi::pause();
        }
    }

    /// Calls `f` for each pinned buffer of a context inside `window`.
    pub(crate) fn for_each_user(
        &self,
        window: Span<Iova>,
        account: &Account,
        mut f: impl FnMut(Span<Iova>, &UserMapping),
    ) {
        let state = self.state.lock();
        let mut next = state.user_in(window);
        while let Some((span, entry)) = next {
            if let Entry::User(user) = entry {
                if user.pins.account().is(account) {
                    f(span, user);
                }
            }
            next = span
                .last()
                .checked_add(1)
                .and_then(|first| Span::from_bounds(first, window.last()).ok())
                .and_then(|above| state.user_in(above));
        }
    }

    /// Every classic mapping, in order.
    pub(crate) fn classics(&self) -> Result<KVVec<(Span<Iova>, Arc<Classic>)>> {
        let state = self.state.lock();
        let mut all = KVVec::with_capacity(state.layout.live().len(), GFP_KERNEL)?;
        for node in state.layout.live().iter() {
            if let Entry::Classic(classic) = node.value() {
                all.push((node.span(), classic.clone()), GFP_KERNEL)?;
            }
        }
        Ok(all)
    }

    /// Makes a mapping that another space holds here as well, unless it is here already.
    pub(crate) fn adopt(&self, span: Span<Iova>, classic: &Arc<Classic>) -> Result<bool, Refusal> {
        let slot = ffi::boxed(Node::new(span, Entry::Classic(classic.clone())))?;
        if self.state.lock().has_classic(span, classic) {
            return Ok(false);
        }
        self.map(slot, classic).map(|()| true)
    }
}

impl State {
    /// Attaches a claimed group to the domain of the space, which is made for it if there is none,
    /// or if nobody else needs the one there is and this PF's IOMMU cannot use it.
    fn attach(
        &mut self,
        dev: &pci::Device,
        claimed: Claimed,
    ) -> Result<super::group::Attached, JoinError> {
        let mut claimed = claimed;
        if let Some(backing) = &self.backing {
            let Backing::Private(domain) = backing else {
                return Err(JoinError::MixedTranslation);
            };
            match claimed.attach(domain.clone()) {
                Ok(attached) => return Ok(attached),
                Err((err, _)) if !self.pfs.is_empty() => return Err(JoinError::OtherIommu(err)),
                Err((_, back)) => claimed = back,
            }
        }
        let domain = PrivateDomain::new(dev)?;
        let attached = claimed
            .attach(domain.clone())
            .map_err(|(err, _)| JoinError::Kernel(err))?;
        self.take_backing(Backing::Private(domain))?;
        Ok(attached)
    }

    /// Puts `backing` behind the space, with all live mappings made in it.
    fn take_backing(&mut self, backing: Backing) -> Result<(), JoinError> {
        for node in self.layout.live().iter() {
            node.value()
                .program(&backing, node.span())
                .map_err(|failed| JoinError::Mapping(node.span(), failed.err.into()))?;
        }
        self.layout.set_widest(backing.aperture()?);
        self.backing = Some(backing);
        Ok(())
    }

    /// Takes on the rules of a PF that joins.
    fn take_rules(&mut self, dev: &pci::Device, dma_bits: u32) -> Result<Rules, JoinError> {
        let backing = self.backing.as_ref().ok_or(ENODEV)?;
        let rules = rules(dev, backing, dma_bits)?;
        self.layout
            .restrict(rules.aperture, &rules.reserved)
            .map_err(JoinError::Conflict)?;
        Ok(rules)
    }

    /// Drops what a PF that is gone had demanded, and the domain if nothing needs it any more.
    fn pf_left(&mut self) {
        self.layout.reset_rules();
        for pf in &self.pfs {
            // What held with more PFs holds with fewer.
            let _ = self.layout.restrict(pf.rules.aperture, &pf.rules.reserved);
        }
        self.forget_backing();
    }

    fn entry(&self, span: Span<Iova>) -> Option<&Entry> {
        self.layout.live().get_exact(span).map(Node::value)
    }

    fn has_classic(&self, span: Span<Iova>, classic: &Arc<Classic>) -> bool {
        matches!(self.entry(span), Some(Entry::Classic(held)) if Arc::ptr_eq(held, classic))
    }

    /// The lowest live range that begins in `window`.
    fn user_in(&self, window: Span<Iova>) -> Option<(Span<Iova>, &Entry)> {
        let live = self.layout.live();
        let node = live.overlapping(window)?;
        Some((node.span(), node.value()))
    }

    /// Records a mapping that is to be made.
    fn record(&mut self, slot: Slot) -> Result<(), Refused<Entry>> {
        let amount = Amount::of(&slot);
        self.layout.insert(slot)?;
        self.amount += amount;
        Ok(())
    }

    /// Forgets the mapping that is exactly `span`, if it is `wanted`.
    #[inline]
    fn strike(&mut self, span: Span<Iova>, wanted: impl Fn(&Entry) -> bool) -> Option<Slot> {
        let slot = self.layout.remove_if(span, wanted).ok()?;
        self.amount -= Amount::of(&slot);
        Some(slot)
    }

    /// Forgets mappings that are neighbours and are named in their order, upward or downward, if all
    /// are `wanted`. Else nothing is changed.
    fn strike_all(
        &mut self,
        spans: &[Span<Iova>],
        wanted: impl Fn(&Entry) -> bool,
    ) -> Option<List<Entry>> {
        let (first, last) = (spans.first()?, spans.last()?);
        let upward = first.first() <= last.first();
        let spans = spans.iter().copied();
        let live = self.layout.live_mut();
        let gone = if upward {
            live.remove_all(spans, wanted)
        } else {
            live.remove_all(spans.rev(), wanted)
        }?;
        for slot in gone.iter() {
            self.amount -= Amount::of(slot);
        }
        Some(gone)
    }

    /// Forgets mappings if all are `wanted`. Else nothing is changed, and the first is named that is
    /// not.
    fn strike_each(
        &mut self,
        spans: &[Span<Iova>],
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<List<Entry>, (usize, Refusal)> {
        let mut gone = List::new();
        for (index, span) in spans.iter().enumerate() {
            // Taken out one by one, so that a range that is named twice is missing the second time.
            match self.strike(*span, &wanted) {
                Some(slot) => gone.push(slot),
                None => {
                    self.put_back(&mut gone);
                    return Err((index, RangeError::NotFound.into()));
                }
            }
        }
        Ok(gone)
    }

    /// Makes what was just recorded at `span` in the domain. On failure nothing is mapped or
    /// recorded, and the slot is handed back, unless its range is poisoned.
    fn program(&mut self, span: Span<Iova>) -> Result<(), (Refusal, Option<Slot>)> {
        let (Some(backing), Some(node)) = (&self.backing, self.layout.live().get_exact(span))
        else {
            return Err((Refusal::NoPf, self.strike(span, |_| true)));
        };
        match node.value().program(backing, span) {
            Ok(()) => Ok(()),
            Err(failed) => Err(self.unmade(span, failed)),
        }
    }

    /// The same for a classic mapping.
    #[inline]
    fn program_classic(
        &mut self,
        span: Span<Iova>,
        classic: &Classic,
    ) -> Result<(), (Refusal, Option<Slot>)> {
        let Some(backing) = &self.backing else {
            return Err((Refusal::NoPf, self.strike(span, |_| true)));
        };
        match classic.program(backing, span) {
            Ok(()) => {
                trace::map_phys(self.id, classic.by.context, span, classic.phys.raw());
                Ok(())
            }
            Err(failed) => Err(self.unmade(span, failed)),
        }
    }

    /// Forgets what could not be made at `span`, or keeps it from being used again.
    fn unmade(&mut self, span: Span<Iova>, failed: MapError) -> (Refusal, Option<Slot>) {
        let slot = self.strike(span, |_| true);
        if failed.undone {
            return (failed.err.into(), slot);
        }
        if let Some(slot) = slot {
            self.poison(slot);
        }
        (failed.err.into(), None)
    }

    /// Maps a pinned buffer. A refused one stays in `slot`, unless its range is poisoned.
    #[inline(always)]
    fn map_user(&mut self, slot: &mut Option<Slot>, place: Place) -> Result<Span<Iova>, Refusal> {
        let node = slot.as_mut().ok_or(Refusal::NoPf)?;
        let Entry::User(user) = node.value_mut() else {
            return Err(Refusal::NoPf);
        };
        let (phys, access) = (user.pins.contiguous(), user.pins.access());
        let (context, va) = (user.pins.account().id, user.pins.buffer().va());
        let (span, chosen) = self.place(user, phys, place)?;
        node.set_span(span);
        let Some(node) = slot.take() else {
            return Err(Refusal::NoPf);
        };
        // What was chosen is within the rules.
        let recorded = if chosen {
            let amount = Amount::of(&node);
            let result = self.layout.live_mut().insert(node);
            result
                .inspect(|()| self.amount += amount)
                .map_err(|node| (RangeError::Overlap, node))
        } else {
            let result = self.record(node);
            result.map_err(|refused| (refused.error, refused.node))
        };
        if let Err((error, mut node)) = recorded {
            self.end_lease(span.first(), node.value_mut());
            *slot = Some(node);
            return Err(error.into());
        }
        let alone = phys.zip(self.backing.as_ref().filter(|backing| !backing.is_shared()));
        let made = match alone {
            Some((phys, backing)) => match backing.map(span, phys.first(), access) {
                Ok(()) => Ok(()),
                Err(failed) => Err(self.unmade(span, failed)),
            },
            None => self.program(span),
        };
        if let Err((why, mut node)) = made {
            if let Some(node) = &mut node {
                self.end_lease(span.first(), node.value_mut());
            }
            *slot = node;
            return Err(why);
        }
        trace::map_user(self.id, context, span, va);
        Ok(span)
    }

    /// Maps pinned buffers side by side, if there is room for that and nobody chose otherwise.
    fn map_together(
        &mut self,
        slots: &mut [(Option<Slot>, Place)],
        told: &mut impl FnMut(Span<Iova>),
    ) -> Together {
        let Some(room) = self.room_for_all(slots) else {
            return Together::No;
        };
        let mut made = List::new();
        let mut failed = None;
        let mut next = Some(room.first());
        for (index, (slot, place)) in slots.iter_mut().enumerate() {
            match self.make_next(slot, &mut next) {
                Ok((node, span)) => {
                    made.push(node);
                    *place = Place::At(span);
                    told(span);
                }
                Err(why) => {
                    failed = Some((index, why));
                    break;
                }
            }
        }
        let count = made.len();
        if failed.is_none() {
            match self.layout.live_mut().insert_all(made) {
                Ok(()) => {
                    self.amount += Amount::pinned(room.bytes());
                    return Together::Done;
                }
                Err(back) => made = back,
            }
        }
        let (index, why) = failed.unwrap_or((count, RangeError::Overlap.into()));
        self.layout.forget_search();
        self.unmap_all(&mut made, Why::Failed);
        Together::Failed(index, why, made)
    }

    /// Makes a pinned buffer in the domain at `next`, which is then the address behind it. What cannot be
    /// made stays in `slot`, unless its range is poisoned.
    #[inline]
    fn make_next(
        &mut self,
        slot: &mut Option<Slot>,
        next: &mut Option<Iova>,
    ) -> Result<(Slot, Span<Iova>), Refusal> {
        let (Some(backing), Some(node), Some(first)) = (&self.backing, slot.as_mut(), *next) else {
            return Err(Refusal::NoPf);
        };
        let Entry::User(user) = node.value() else {
            return Err(Refusal::NoPf);
        };
        let span = Span::new(first, Length::new(user.pins.buffer().length())?)?;
        let result = match user.pins.contiguous() {
            Some(phys) => backing.map(span, phys.first(), user.pins.access()),
            None => backing.map_runs(span, user.pins.scattered(), user.pins.access()),
        };
        let (context, va) = (user.pins.account().id, user.pins.buffer().va());
        node.set_span(span);
        match (result, slot.take()) {
            (Ok(()), Some(node)) => {
                trace::map_user(self.id, context, span, va);
                *next = span.last().checked_add(1);
                Ok((node, span))
            }
            (Ok(()), None) => Err(Refusal::NoPf),
            (Err(failed), node) => {
                match node {
                    Some(node) if !failed.undone => self.poison(node),
                    node => *slot = node,
                }
                Err(failed.err.into())
            }
        }
    }

    /// A free range in which buffers can lie side by side, each aligned as well as it could be alone.
    fn room_for_all(&mut self, slots: &[(Option<Slot>, Place)]) -> Option<Span<Iova>> {
        let backing = self.backing.as_ref()?;
        if slots.len() < 2 || self.pfs.is_empty() || backing.is_shared() || !backing.translates() {
            return None;
        }
        let pages = backing.page_sizes().ok()?;
        let mut bytes: u64 = 0;
        let mut wanted = Alignment::PAGE;
        for (slot, place) in slots {
            let (Some(Entry::User(user)), Place::Any(required)) =
                (slot.as_deref().map(Node::value), *place)
            else {
                return None;
            };
            let length = user.pins.buffer().length();
            let best = if length == PAGE {
                Alignment::PAGE
            } else {
                best_for(pages, user, user.pins.contiguous()).ok()?
            };
            let align = best.max(required);
            if align.round_down(bytes) != bytes {
                return None;
            }
            wanted = wanted.max(align);
            bytes = bytes.checked_add(length)?;
        }
        self.layout.allocate_together(Request {
            length: Length::new(bytes).ok()?,
            wanted,
            required: wanted,
            floor: ffi::ram_end(),
        })
    }

    /// Finds the place for a buffer, and whether it was chosen here: then it is free.
    #[inline(always)]
    fn place(
        &mut self,
        user: &mut UserMapping,
        phys: Option<Span<Phys>>,
        place: Place,
    ) -> Result<(Span<Iova>, bool), Refusal> {
        let backing = self.backing.as_ref().ok_or(Refusal::NoPf)?;
        if self.pfs.is_empty() && !self.vm {
            return Err(Refusal::NoPf);
        }
        if !backing.translates() {
            return Ok((place_untranslated(phys, place)?, false));
        }
        let required = match place {
            Place::At(span) => {
                if span.first() < fixed_floor(backing)? {
                    return Err(Refusal::SharedFixed);
                }
                return Ok((span, false));
            }
            Place::Any(required) => required,
        };
        let bytes = user.pins.buffer().length();
        let length = Length::new(bytes)?;
        if backing.is_shared() {
            let (lease, span) = self.borrow_range(length, required)?;
            user.lease = Some(lease);
            return Ok((span, false));
        }
        let best = if bytes == PAGE {
            Alignment::PAGE
        } else {
            best_for(backing.page_sizes()?, user, phys)?
        };
        let span = self.layout.allocate(Request {
            length,
            wanted: best.max(required),
            required,
            floor: ffi::ram_end(),
        })?;
        Ok((span, true))
    }

    /// Borrows a range of a shared space from the DMA API. That knows nothing of fixed mappings, so
    /// ranges that lie on one are kept until there is a better one.
    #[inline(never)]
    fn borrow_range(
        &self,
        length: Length,
        align: Alignment,
    ) -> Result<(Lease, Span<Iova>), Refusal> {
        let dev = self.pfs.first().ok_or(Refusal::NoPf)?.device();
        let mut unfit = [const { None }; BORROWED_AT_ONCE];
        let mut found = None;
        for unfit in &mut unfit {
            // SAFETY: The space of a shared PF has a backing only while its driver, which uses the
            // DMA API, is bound.
            let borrowed = unsafe { Lease::new(dev, length, align.get()) };
            match borrowed {
                Some((_, span)) if !self.layout.is_free(span) => *unfit = borrowed,
                _ => {
                    found = borrowed;
                    break;
                }
            }
        }
        for (lease, span) in unfit.into_iter().flatten() {
            // SAFETY: Borrowed from this PF just now, and nothing was mapped there with it.
            unsafe { lease.end(dev, span.first()) };
        }
        found.ok_or(NoSpace.into())
    }

    /// Gives a range back to the DMA API, from which nothing is mapped any more. To be called
    /// before the lock is let go: the PF's driver may be unbound right after.
    #[inline(never)]
    fn end_lease(&self, first: Iova, entry: &mut Entry) {
        let Entry::User(user) = entry else {
            return;
        };
        if let (Some(lease), Some(pf)) = (user.lease.take(), self.pfs.first()) {
            // SAFETY: A PF of this shared space lent the range at this address, and those of one
            // domain have one allocator; its driver is bound for as long as it is listed here.
            unsafe { lease.end(pf.device(), first) };
        }
    }

    /// Puts nodes back that were here before, and in whose place nothing has been put.
    fn put_back(&mut self, gone: &mut List<Entry>) {
        while let Some(node) = gone.pop() {
            self.amount += Amount::of(&node);
            drop(self.layout.live_mut().insert(node));
        }
    }

    /// Unmaps what was taken out, with one flush. What the IOMMU did not remove is recorded again,
    /// as poisoned.
    fn unmap_all(&mut self, gone: &mut List<Entry>, why: Why) {
        let mut poisoned = false;
        if let Some(backing) = &self.backing {
            backing.unmap_all(gone.iter().map(Node::span), || poisoned = true);
        }
        if poisoned {
            // Nothing is certain any more.
            while let Some(node) = gone.pop() {
                self.poison(node);
            }
        }
        if gone.len() > 0 {
            let now = Stamp::now();
            for node in gone.iter() {
                self.tell_gone(now, why, node.span(), node.value());
            }
        }
        if self.backing.as_ref().is_some_and(Backing::is_shared) {
            let mut ended = List::new();
            while let Some(mut node) = gone.pop() {
                self.end_lease(node.span().first(), node.value_mut());
                ended.push(node);
            }
            *gone = ended;
        }
        self.forget_backing();
    }

    #[inline(always)]
    fn tell_gone(&self, now: Stamp, why: Why, span: Span<Iova>, entry: &Entry) {
        history::record(now, why, self.id, span, entry);
    }

    /// Unmaps what was taken out; if the IOMMU did not remove it, it is recorded again as poisoned.
    #[inline(always)]
    fn unmap(&mut self, mut slot: Slot, why: Why) -> Result<Slot, Leaked> {
        let span = slot.span();
        if let Some(backing) = &self.backing {
            if let Err(Poisoned) = backing.unmap(span) {
                let leaked = Leaked(slot.value().classic());
                self.poison(slot);
                return Err(leaked);
            }
        }
        if self.backing.as_ref().is_some_and(Backing::is_shared) {
            self.end_lease(span.first(), slot.value_mut());
        }
        self.tell_gone(Stamp::now(), why, span, slot.value());
        self.forget_backing();
        Ok(slot)
    }

    /// Drops the domain of the owned space once it is empty and without PFs: the next PF may sit
    /// behind another IOMMU.
    #[inline]
    fn forget_backing(&mut self) {
        if self.pfs.is_empty() && self.layout.live().len() == 0 && !self.vm {
            self.backing = None;
        }
    }

    /// Takes a range out of use for good, whose node was taken out.
    #[cold]
    fn poison(&mut self, mut slot: Slot) {
        slot.value_mut().take().leak();
        self.amount += Amount::of(&slot);
        // It was here before.
        drop(self.layout.live_mut().insert(slot));
    }
}

/// The place for a buffer where nothing translates: where it is.
#[inline(never)]
fn place_untranslated(phys: Option<Span<Phys>>, place: Place) -> Result<Span<Iova>, Refusal> {
    // The space may have been another when the caller was asked.
    policy::check_rawio()?;
    let phys = phys.ok_or(Refusal::Scattered)?;
    let span = Span::between(Iova::new(phys.first().raw()), Iova::new(phys.last().raw()));
    if matches!(place, Place::At(wanted) if wanted != span) {
        return Err(Refusal::NotTranslated);
    }
    Ok(span)
}

/// The alignment with which a buffer is mapped with the largest pages that its memory allows.
fn best_for(
    sizes: PageSizes,
    user: &UserMapping,
    phys: Option<Span<Phys>>,
) -> Result<Alignment, Refusal> {
    let bytes = user.pins.buffer().length();
    let Some(larger) = sizes.larger().filter(|larger| bytes >= *larger) else {
        return Ok(Alignment::PAGE);
    };
    let largest = Alignment::new(LARGEST_PAGE)?;
    let runs = user.pins.scattered();
    Ok(match phys {
        Some(phys) => best_alignment(sizes, [phys], largest),
        None if runs.iter().any(|run| run.bytes() >= larger) => {
            best_alignment(sizes, runs.iter().map(Frames::phys), largest)
        }
        None => Alignment::PAGE,
    })
}

/// What `dev` demands of a space with this backing.
fn rules(dev: &pci::Device, backing: &Backing, dma_bits: u32) -> Result<Rules, JoinError> {
    if !backing.translates() {
        return Ok(Rules {
            aperture: pf::reach(dma_bits),
            reserved: KVec::new(),
        });
    }
    let aperture = backing
        .aperture()?
        .intersect(pf::reach(dma_bits))
        .ok_or(JoinError::Conflict(Conflict::NoAperture))?;
    Ok(Rules {
        aperture,
        reserved: resv::ranges(dev, backing.is_shared())?,
    })
}

/// The lowest fixed IOVA that a backing takes.
fn fixed_floor(backing: &Backing) -> Result<Iova, Refusal> {
    if !backing.is_shared() {
        return Ok(Iova::MIN);
    }
    if !backing.tells_collision() {
        return Err(Refusal::CannotTellCollision);
    }
    match config()?.shared_fixed {
        SharedFixed::High => Ok(Iova::new(FOUR_GIB)),
        SharedFixed::Any => Ok(Iova::MIN),
        SharedFixed::Off => Err(Refusal::SharedFixed),
    }
}

impl From<RangeError> for JoinError {
    fn from(_: RangeError) -> Self {
        JoinError::Kernel(EINVAL)
    }
}
