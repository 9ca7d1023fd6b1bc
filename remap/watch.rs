// SPDX-License-Identifier: GPL-2.0

//! The lines of the files in debugfs (`remap/debugfs.c`): spaces, contexts, mappings, recent
//! unmaps. A record is `key=value` pairs on a line; the name of a process comes last, for it may hold
//! spaces.
//!
//! Locks: those of the register, the host and a space, each for one record: whoever reads a listing
//! holds up nobody, and what comes or goes meanwhile is in it or not.

use super::{
    ffi,
    history,
    host,
    owner::{
        self,
        By, //
    },
    space::Space, //
};
use crate::iova::addr::{
    Address,
    Iova, //
};
use kernel::{
    bindings,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::Arc, //
};

/// `struct qat_iommu_place`: where in a listing a reader is. 0 and 0 is the beginning.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The number of a space, a context or an unmap.
    number: u64,
    /// An IOVA in that space.
    iova: u64,
}

impl Place {
    fn after(number: u64) -> Option<Self> {
        Some(Self {
            number: number.checked_add(1)?,
            iova: 0,
        })
    }
}

/// Writes the first record at or after `place`, and moves it behind that; `false` if there is none.
///
/// # Safety
///
/// Both pointers are valid, and nobody else uses what they point to.
unsafe fn list(
    out: *mut bindings::seq_file,
    place: *mut Place,
    write: fn(&SeqFile, Place) -> Option<Place>,
) -> bool {
    // SAFETY: By the contract of this function.
    let (out, place) = unsafe { (SeqFile::from_raw(out), &mut *place) };
    match write(out, *place) {
        Some(next) => {
            *place = next;
            true
        }
        None => false,
    }
}

macro_rules! listing {
    ($(#[$doc:meta])* $name:ident, $write:expr) => {
        $(#[$doc])*
        #[no_mangle]
        extern "C" fn $name(out: *mut bindings::seq_file, place: *mut Place) -> bool {
            // SAFETY: The C side hands over the file that is being read, and its place.
            unsafe { list(out, place, $write) }
        }
    };
}

listing!(qat_iommu_list_spaces, spaces);
listing!(qat_iommu_list_contexts, contexts);
listing!(qat_iommu_list_mappings, mappings);
listing!(qat_iommu_list_history, history);

/// The space with this number, or the next one.
fn space_from(number: u64) -> Option<Arc<Space>> {
    host::lock()
        .spaces()
        .filter(|space| space.id >= number)
        .min_by_key(|space| space.id)
        .cloned()
}

fn spaces(out: &SeqFile, place: Place) -> Option<Place> {
    let space = space_from(place.number)?;
    space.write_line(out);
    Place::after(space.id)
}

fn contexts(out: &SeqFile, place: Place) -> Option<Place> {
    let account = owner::open_from(place.number)?;
    let held = account.holdings();
    seq_print!(
        out,
        "context={} pid={} space={} mappings={} bytes={:#x} pinned={:#x} comm={}\n",
        account.id,
        account.pid,
        account.space(),
        held.mappings,
        held.bytes,
        held.pinned,
        account.comm
    );
    Place::after(account.id)
}

fn mappings(out: &SeqFile, place: Place) -> Option<Place> {
    let mut place = place;
    loop {
        let space = space_from(place.number)?;
        if space.id != place.number {
            place = Place {
                number: space.id,
                iova: 0,
            };
        }
        if let Some((mapping, pages)) = space.portrait(Iova::new(place.iova)) {
            seq_print!(out, "{mapping} page={pages} ");
            write_by(out, &mapping.by, None);
            return match mapping.span.last().checked_add(1) {
                Some(next) => Some(Place {
                    number: space.id,
                    iova: next.raw(),
                }),
                None => Place::after(space.id),
            };
        }
        place = Place::after(space.id)?;
    }
}

fn history(out: &SeqFile, place: Place) -> Option<Place> {
    let (number, past) = history::from(place.number)?;
    seq_print!(out, "when={} {} ", past.when.nanoseconds(), past.mapping);
    write_by(out, &past.mapping.by, Some(past.why.name()));
    Place::after(number)
}

/// Writes the end of a line about a mapping.
fn write_by(out: &SeqFile, by: &By, why: Option<&CStr>) {
    seq_print!(out, "context={} pid={} caller=", by.context, by.pid);
    if by.caller == 0 {
        seq_print!(out, "-");
    } else {
        ffi::write_symbol(out, by.caller);
    }
    if let Some(why) = why {
        seq_print!(out, " why={why}");
    }
    seq_print!(out, " comm={}\n", by.comm);
}
