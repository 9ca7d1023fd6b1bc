// SPDX-License-Identifier: GPL-2.0

//! `/dev/qat_iommu`: its registration, its contexts (one per open file) and the ioctls.
//!
//! Locks: a context's own lock protects only which space it chose and is a leaf. A context outlives
//! every PF; what it made goes when the last reference to its file goes, whoever holds that.

use super::{
    classic::{
        self,
        Owner, //
    },
    config::config,
    domain::Access,
    host,
    info,
    pf::PciAddress,
    refusal::Refusal,
    space::Space,
    uapi::*,
    wire::Received, //
};
use kernel::{
    bindings,
    error::to_result,
    fs::File,
    ioctl::_IO,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    types::Opaque, //
};

const INFO: u32 = _IO(QAT_IOMMU_TYPE as u32, QAT_IOMMU_CMD_INFO);
const ATTACH: u32 = _IO(QAT_IOMMU_TYPE as u32, QAT_IOMMU_CMD_ATTACH);
const MAP_PHYS: u32 = _IO(QAT_IOMMU_TYPE as u32, QAT_IOMMU_CMD_MAP_PHYS);
const UNMAP: u32 = _IO(QAT_IOMMU_TYPE as u32, QAT_IOMMU_CMD_UNMAP);

/// Contexts are numbered, never twice the same.
static NEXT_CONTEXT: Atomic<u64> = Atomic::new(1);

/// One open file.
#[pin_data(PinnedDrop)]
pub(crate) struct Context {
    id: u64,
    /// The space that ATTACH chose; it may have ended since.
    #[pin]
    attached: Mutex<Option<Arc<Space>>>,
}

#[vtable]
impl MiscDevice for Context {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        KBox::pin_init(
            pin_init!(Self {
                id: NEXT_CONTEXT.fetch_add(1, Relaxed),
                attached <- new_mutex!(None),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    fn ioctl(me: Pin<&Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            INFO => me.info(arg)?,
            ATTACH => me.attach(arg)?,
            MAP_PHYS => me.map_phys(arg)?,
            UNMAP => me.unmap(arg)?,
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }
}

#[pinned_drop]
impl PinnedDrop for Context {
    fn drop(self: Pin<&mut Self>) {
        classic::release(self.owner());
    }
}

impl Context {
    fn owner(&self) -> Owner {
        Owner::Context(self.id)
    }

    /// Anyone who opened the node.
    fn info(&self, arg: usize) -> Result {
        let mut received = Received::read(arg)?;
        let attached = self.attached.lock().clone();
        info::answer(&mut received, attached.as_ref())?;
        received.write()
    }

    /// Anyone who opened the node.
    fn attach(&self, arg: usize) -> Result {
        let mut received = Received::<qat_iommu_attach>::read(arg)?;
        let wanted = &mut received.value;
        if wanted.flags & !QAT_IOMMU_ATTACH_DEFAULT != 0 {
            return Err(Refusal::UnknownFlag.errno());
        }
        if wanted.reserved != 0 {
            return Err(EINVAL);
        }
        if config()?.vm {
            // There is no space to choose, and nothing depends on the choice.
            wanted.space = 0;
            return received.write();
        }
        let host = host::lock();
        let space = if wanted.flags & QAT_IOMMU_ATTACH_DEFAULT != 0 {
            host.default_space()
        } else {
            host.space_of(PciAddress {
                segment: wanted.segment,
                bus: wanted.bus,
                device: wanted.device,
                function: wanted.function,
            })
        };
        drop(host);
        let space = space.ok_or(ENODEV)?;
        wanted.space = space.id;
        // Written first: an attach that fails has changed nothing.
        received.write()?;
        *self.attached.lock() = Some(space);
        Ok(())
    }

    /// Whoever may map physical memory; see `policy`.
    fn map_phys(&self, arg: usize) -> Result {
        let mut received = Received::<qat_iommu_map_phys>::read(arg)?;
        let map = &mut received.value;
        if map.flags & !(QAT_IOMMU_MAP_READ | QAT_IOMMU_MAP_WRITE) != 0 {
            return Err(Refusal::UnknownFlag.errno());
        }
        let access = Access::new(
            map.flags & QAT_IOMMU_MAP_READ != 0,
            map.flags & QAT_IOMMU_MAP_WRITE != 0,
        )
        .ok_or(Refusal::NoAccess.errno())?;
        map.mapped = classic::map(self.owner(), map.phys, map.iova, map.length, access)
            .map_err(Refusal::errno)?;
        let (iova, mapped) = (map.iova, map.mapped);
        received.write().inspect_err(|_| {
            // The caller does not learn of the mapping, so it must not be there. The range is this
            // context's own; another thread can at most have unmapped it already.
            let _ = classic::unmap(self.owner(), iova, mapped);
        })
    }

    /// Whoever holds the context that made the mapping.
    fn unmap(&self, arg: usize) -> Result {
        let received = Received::<qat_iommu_unmap>::read(arg)?;
        let unmap = &received.value;
        if unmap.flags != 0 {
            return Err(Refusal::UnknownFlag.errno());
        }
        classic::unmap(self.owner(), unmap.iova, unmap.length).map_err(Refusal::errno)
    }
}

/// The registered device node.
///
/// # Invariants
///
/// `misc` is registered, and its `fops` points to `fops`, whose owner is this module: an open
/// context keeps it loaded. (The kernel's own registration leaves the owner out in some versions.)
#[pin_data(PinnedDrop)]
pub(crate) struct Node {
    #[pin]
    fops: Opaque<bindings::file_operations>,
    #[pin]
    misc: Opaque<bindings::miscdevice>,
}

// SAFETY: Registration and deregistration may happen on different threads, and nothing else is done
// with the value.
unsafe impl Send for Node {}
// SAFETY: There are no methods that take a shared reference.
unsafe impl Sync for Node {}

impl Node {
    /// Registers `/dev/qat_iommu`.
    pub(crate) fn register(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let options = MiscDeviceOptions { name: c"qat_iommu" };
        let mut misc = options.into_raw::<Context>();
        // SAFETY: The table that `into_raw` points to is a static.
        let mut fops = unsafe { *misc.fops };
        fops.owner = module.as_ptr();

        try_pin_init!(&this in Self {
            fops: Opaque::new(fops),
            misc <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                // SAFETY: Only the address of the field, which was initialised above, is taken.
                misc.fops = unsafe { Opaque::cast_into(&raw const (*this.as_ptr()).fops) };
                // SAFETY: The slot may be written to.
                unsafe { slot.write(misc) };
                // SAFETY: Both live, pinned, until the drop, which deregisters.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Node {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered by the type invariant.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}
