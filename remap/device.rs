// SPDX-License-Identifier: GPL-2.0

//! `/dev/qat_iommu`: its registration, and which ioctl is which. What they do is in `context`.

use super::{
    context::Context,
    uapi::*, //
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
    prelude::*,
    seq_file::SeqFile,
    types::Opaque, //
};

const fn number(command: u32) -> u32 {
    _IO(QAT_IOMMU_TYPE as u32, command)
}

const INFO: u32 = number(QAT_IOMMU_CMD_INFO);
const ATTACH: u32 = number(QAT_IOMMU_CMD_ATTACH);
const MAP_PHYS: u32 = number(QAT_IOMMU_CMD_MAP_PHYS);
const UNMAP: u32 = number(QAT_IOMMU_CMD_UNMAP);
const MAP_USER: u32 = number(QAT_IOMMU_CMD_MAP_USER);
const UNMAP_USER: u32 = number(QAT_IOMMU_CMD_UNMAP_USER);
const QUERY: u32 = number(QAT_IOMMU_CMD_QUERY);
const MAP_USER_BATCH: u32 = number(QAT_IOMMU_CMD_MAP_USER_BATCH);
const UNMAP_BATCH: u32 = number(QAT_IOMMU_CMD_UNMAP_BATCH);

#[vtable]
impl MiscDevice for Context {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        Context::new()
    }

    fn ioctl(me: Pin<&Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        // Those that programs call again and again.
        if cmd == UNMAP {
            me.unmap(arg)?;
        } else if cmd == MAP_USER {
            me.map_user(arg)?;
        } else if cmd == MAP_PHYS {
            me.map_phys(arg)?;
        } else {
            others(&me, cmd, arg)?;
        }
        Ok(0)
    }

    fn show_fdinfo(me: Pin<&Self>, out: &SeqFile, _file: &File) {
        me.show(out);
    }
}

#[inline(never)]
fn others(context: &Context, cmd: u32, arg: usize) -> Result {
    match cmd {
        INFO => context.info(arg),
        ATTACH => context.attach(arg),
        UNMAP_USER => context.unmap_user(arg),
        QUERY => context.query(arg),
        MAP_USER_BATCH => context.map_user_batch(arg),
        UNMAP_BATCH => context.unmap_batch(arg),
        _ => Err(ENOTTY),
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
