// SPDX-License-Identifier: GPL-2.0

//! The spaces of this host: the owned one and one for each shared PF, and how PFs come to them and
//! leave. The one global state of the module.
//!
//! Lock order: device lock, then `HOST`, then the lock of a space. `HOST` is held over a whole
//! classic call, so that no PF comes or goes between the first space and the last.

use super::{
    classic::Classic,
    config::config,
    domain::Backing,
    group::{
        ClaimError,
        Claimed, //
    },
    history::Why,
    pf::{
        self,
        PciAddress, //
    },
    refusal::Refusal,
    space::{
        JoinError,
        Space, //
    },
    trace, //
};
use crate::iova::{
    addr::Iova,
    allocate::align::Alignment,
    span::Span, //
};
use kernel::{
    pci,
    pr_warn_once,
    prelude::*,
    sync::{
        global_lock,
        Arc, //
    }, //
};

global_lock! {
    // SAFETY: `init` initialises it in the module's init, before anything can call in.
    pub(crate) unsafe(uninit) static HOST: Mutex<Host> = Host {
        spaces: KVec::new(),
        in_vm: false,
        granule: Alignment::PAGE,
        generation: 0,
        last_id: 0,
        closed: false,
    };
}

/// The spaces of this host.
///
/// # Invariants
///
/// At most one space is the owned one. A space that has ended is not listed. `granule` is the largest
/// one of a space.
pub(crate) struct Host {
    spaces: KVec<Arc<Space>>,
    in_vm: bool,
    granule: Alignment,
    /// Grows with every PF that comes or goes.
    pub(crate) generation: u64,
    last_id: u64,
    /// The module goes: no PF comes any more.
    closed: bool,
}

/// Prepares the lock. For the module's init, before anything else.
pub(crate) fn init() {
    // SAFETY: Called once, by the module's init.
    unsafe { HOST.init() };
}

/// Makes the space of a VM. For the module's init.
pub(crate) fn init_vm() -> Result {
    let mut host = lock();
    let space = Space::for_vm(host.next_id())?;
    host.spaces.push(space, GFP_KERNEL)?;
    host.in_vm = true;
    Ok(())
}

/// Locks the host.
pub(crate) fn lock() -> HostGuard {
    HOST.lock()
}

/// The locked host.
pub(crate) type HostGuard = kernel::sync::lock::GlobalGuard<HOST>;

impl Host {
    /// Every space.
    pub(crate) fn spaces(&self) -> impl Iterator<Item = &Arc<Space>> {
        self.spaces.iter()
    }

    /// Whether there is a PF to map for.
    pub(crate) fn usable(&self) -> bool {
        self.spaces.iter().any(|space| space.usable())
    }

    /// Whether the kernel runs in a VM, where nothing is done.
    #[inline]
    pub(crate) fn in_vm(&self) -> bool {
        self.in_vm
    }

    /// What sizes of mappings are multiples of.
    #[inline]
    pub(crate) fn granule(&self) -> Alignment {
        self.granule
    }

    /// Notes that a PF came or went.
    fn changed(&mut self) {
        self.generation += 1;
        let granules = self.spaces.iter().map(|space| space.granule());
        // INVARIANT: The largest one.
        self.granule = granules
            .filter_map(|granule| Alignment::new(granule).ok())
            .fold(Alignment::PAGE, Alignment::max);
    }

    /// The space that a context gets without choosing: the owned one, else the only shared one.
    pub(crate) fn default_space(&self) -> Option<Arc<Space>> {
        let mut usable = self.spaces.iter().filter(|space| space.usable());
        if let Some(owned) = usable.clone().find(|space| space.owned) {
            return Some(owned.clone());
        }
        let only = usable.next()?;
        usable.next().is_none().then(|| only.clone())
    }

    /// The space of the PF at `address`.
    pub(crate) fn space_of(&self, address: PciAddress) -> Option<Arc<Space>> {
        self.spaces
            .iter()
            .find(|space| space.has_address(address))
            .cloned()
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn owned(&mut self) -> Result<Arc<Space>> {
        if let Some(owned) = self.spaces.iter().find(|space| space.owned) {
            return Ok(owned.clone());
        }
        let owned = Space::for_owned(self.next_id())?;
        self.spaces.push(owned.clone(), GFP_KERNEL)?;
        Ok(owned)
    }

    /// Makes the classic mappings of all other spaces in `space`, as many as can be; the answer is
    /// why the first of the others cannot.
    fn adopt(&self, space: &Space) -> Result<Adopted, (Adopted, JoinError)> {
        let mut adopted = Adopted(KVVec::new());
        let mut failed = None;
        for other in self.spaces.iter().filter(|other| other.id != space.id) {
            let classics = match other.classics() {
                Ok(classics) => classics,
                Err(err) => return Err((adopted, err.into())),
            };
            for (span, classic) in classics {
                let result = adopted
                    .0
                    .reserve(1, GFP_KERNEL)
                    .map_err(Refusal::from)
                    .and_then(|()| space.adopt(span, &classic));
                match result {
                    Ok(true) => {
                        // There is room for it.
                        let _ = adopted.0.push_within_capacity((span, classic));
                    }
                    Ok(false) => {}
                    Err(why) => {
                        failed.get_or_insert(JoinError::Mapping(span, why));
                    }
                }
            }
        }
        match failed {
            None => Ok(adopted),
            Some(why) => Err((adopted, why)),
        }
    }
}

/// What a space took over from others when a PF came.
struct Adopted(KVVec<(Span<Iova>, Arc<Classic>)>);

impl Adopted {
    fn undo(self, space: &Space) {
        for (span, classic) in &self.0 {
            // A range that is poisoned was reported and stays recorded.
            let _ = space.unmap(*span, |held| core::ptr::eq(held, &**classic), Why::Failed);
        }
    }
}

/// A PF is probed by our driver: attach it, then let it do DMA. Called with the device lock held.
pub(crate) fn probe(dev: &pci::Device) -> Result {
    let address = PciAddress::of(dev);
    let (vendor, device) = (dev.vendor_id().as_raw(), dev.device_id());
    let Some(dma_bits) = config()?.ids.dma_bits(dev).filter(|_| !pf::is_vf(dev)) else {
        pr_err!("{address}: {vendor:04x}:{device:04x} is no QAT PF that this module knows; the parameter ids= adds one\n");
        return Err(ENODEV);
    };
    let claimed = match Claimed::new(dev) {
        Ok(claimed) => Some(claimed),
        Err(ClaimError::NoGroup) => None,
        Err(ClaimError::NotAlone(devices)) => {
            pr_err!("{address}: refused: its IOMMU group holds {devices} devices, which could reach each other's memory\n");
            return Err(EBUSY);
        }
        Err(ClaimError::Kernel(err)) => {
            pr_err!(
                "{address}: refused: something else uses the DMA of its IOMMU group ({})\n",
                err.to_errno()
            );
            return Err(err);
        }
    };
    let translated = claimed.is_some();

    let mut host = lock();
    let space = host.owned()?;
    let result = space.join_owned(dev, claimed, dma_bits).and_then(|()| {
        let adopted = host.adopt(&space);
        let result = match &adopted {
            Ok(_) => pf::start(dev).map_err(JoinError::from),
            Err(_) => Ok(()),
        };
        match (adopted, result) {
            (Ok(_), Ok(())) => Ok(()),
            (Ok(adopted), Err(why)) | (Err((adopted, why)), _) => {
                space.leave(dev);
                adopted.undo(&space);
                Err(why)
            }
        }
    });
    if let Err(why) = result {
        pr_err!("{address}: refused: {why}\n");
        return Err(why.errno());
    }
    host.changed();
    trace::attach(address, space.id, true);
    if translated {
        pr_info!("{address}: PF owned; it reaches only what is mapped\n");
    } else {
        pr_warn!("{address}: PF owned, but no IOMMU translates its accesses: it reaches all of memory, and only iova == phys can be honoured\n");
    }
    Ok(())
}

/// An owned PF goes: end its DMA, then detach it. Called with the device lock held.
pub(crate) fn remove(dev: &pci::Device) {
    pf::stop(dev);
    let mut host = lock();
    let left = host
        .spaces
        .iter()
        .find(|space| space.leave(dev))
        .map(|space| space.id);
    if let Some(space) = left {
        host.changed();
        trace::detach(PciAddress::of(dev), space, true);
    }
    pr_info!("{}: PF released\n", PciAddress::of(dev));
}

/// A driver that uses the DMA API was bound to a device; if that is a PF it becomes a shared one.
/// Called with the device lock held.
pub(crate) fn bound(dev: &pci::Device) {
    let Some(dma_bits) = config()
        .ok()
        .and_then(|config| config.ids.dma_bits(dev))
        .filter(|_| !pf::is_vf(dev))
    else {
        return;
    };
    let mut host = lock();
    // The watch may report a PF twice when it begins.
    if host.closed || host.spaces.iter().any(|space| space.has(dev)) {
        return;
    }
    let address = PciAddress::of(dev);
    if let Err(why) = host.add_shared(dev, dma_bits) {
        pr_err!("{address}: PF of another driver cannot be used: {why}\n");
        return;
    }
    host.changed();
}

impl Host {
    fn add_shared(&mut self, dev: &pci::Device, dma_bits: u32) -> Result<(), JoinError> {
        let address = PciAddress::of(dev);
        // SAFETY: The device lock is held and the driver bound, by the contract of `bound`; its
        // unbind comes to `unbinding` first, which drops the backing.
        let backing = unsafe { Backing::of_bound(dev) };
        let translated = backing.translates();
        let present = self.spaces.iter().find(|space| space.is_behind(&backing));
        let id = if let Some(space) = present {
            // PFs of one IOMMU group have one domain.
            space.join_shared(dev, dma_bits)?;
            space.id
        } else {
            self.spaces.reserve(1, GFP_KERNEL).map_err(Error::from)?;
            let id = self.next_id();
            let space = Space::for_shared(id, dev, backing, dma_bits)?;
            if let Err((_, why)) = self.adopt(&space) {
                space.set_incomplete();
                pr_warn!("{address}: the PF lacks live mappings: {why}\n");
            }
            self.spaces.push(space, GFP_KERNEL).map_err(Error::from)?;
            id
        };
        trace::attach(address, id, false);
        if translated {
            pr_info!("{address}: PF shared with its own driver\n");
            pr_warn_once!("fixed ranges of shared PFs are mapped in their drivers' domains, and the kernel's DMA API cannot be told of them: it may want such an address later\n");
        } else {
            pr_info!("{address}: PF shared with its own driver and not translated: it reaches all of memory\n");
        }
        Ok(())
    }
}

/// The driver of a device is about to be unbound: a shared PF leaves its space, which ends with the
/// last. Called with the device lock held.
pub(crate) fn unbinding(dev: &pci::Device) {
    let address = PciAddress::of(dev);
    let mut host = lock();
    let Some(index) = host
        .spaces
        .iter()
        .position(|space| !space.owned && space.has(dev))
    else {
        return;
    };
    let others = host
        .spaces
        .get(index)
        .filter(|space| space.leave_others(dev))
        .map(|space| space.id);
    let ended = match others {
        Some(_) => None,
        None => host.spaces.remove(index).ok(),
    };
    host.changed();
    drop(host);
    if let Some(space) = &ended {
        space.end();
    }
    if let Some(id) = others.or(ended.map(|space| space.id)) {
        trace::detach(address, id, false);
    }
    pr_info!("{address}: PF leaves with its driver\n");
}

/// A device appeared. If it is in the IOMMU group of an owned PF, the IOMMU core has attached it to
/// the domain of that as well, and all that can be done is to say so.
pub(crate) fn added(dev: &pci::Device) {
    let host = lock();
    for pf in host.spaces.iter().filter_map(|space| space.grown_by(dev)) {
        pr_warn!(
            "{}: is in the IOMMU group of the owned PF {pf} and reaches what is mapped for it; once unbound, the PF cannot be bound again while both are there\n",
            PciAddress::of(dev)
        );
    }
}

/// Ends the shared spaces, and takes no PF any more. For the module's exit, while the watch still
/// runs: a driver that is unbound at the same time waits for this. No context or client is left, so
/// no page is unpinned under the lock.
pub(crate) fn close() {
    let mut host = lock();
    host.closed = true;
    for space in host.spaces.iter().filter(|space| !space.owned) {
        space.end();
    }
    host.spaces.retain(|space| space.owned);
    host.changed();
}

/// Ends all spaces. For the module's exit, when no PF, context or client is left.
pub(crate) fn shutdown() {
    let mut host = lock();
    // Nothing drops a static when the module goes, so what it holds is dropped here.
    let spaces = core::mem::replace(&mut host.spaces, KVec::new());
    host.changed();
    drop(host);
    for space in &spaces {
        space.end();
    }
}
