// SPDX-License-Identifier: GPL-2.0

//! What INFO answers. The answer is gathered under the locks and written to user space without
//! them: a page of the caller's that never arrives must not hold up a PF that leaves.

use super::{
    config::config,
    ffi,
    host,
    pf::Pf,
    refusal::Refusal,
    space::Space,
    uapi::*,
    wire::{
        Filler,
        Received, //
    }, //
};
use crate::iova::addr::{
    Address,
    PAGE, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Answers INFO for a context that chose `attached`, or nothing yet.
pub(super) fn answer(
    received: &mut Received<qat_iommu_info>,
    attached: Option<&Arc<Space>>,
) -> Result {
    let info = &mut received.value;
    if info.flags != 0 {
        return Err(Refusal::UnknownFlag.errno());
    }
    let mut pfs = Filler::new(info.pfs, info.num_pfs)?;
    let mut reserved = Filler::new(info.reserved_ranges, info.num_reserved_ranges)?;
    *info = qat_iommu_info {
        size: info.size,
        pfs: info.pfs,
        reserved_ranges: info.reserved_ranges,
        abi_version: QAT_IOMMU_ABI_VERSION,
        ..Default::default()
    };
    info.iommu_pages = ffi::table_pages();
    if config()?.vm {
        info.mode = QAT_IOMMU_MODE_VM;
        info.aperture_last = u64::MAX;
        info.page_sizes = PAGE;
        return Ok(());
    }

    let mut found_pfs = KVec::new();
    let mut found_ranges = KVec::new();
    {
        let host = host::lock();
        info.generation = host.generation;
        for space in host.spaces() {
            space.for_each_pf(|pf, translated, fixed| {
                found_pfs.push(describe(space, pf, translated, fixed), GFP_KERNEL)?;
                Ok(())
            })?;
        }
        let space = match attached {
            Some(space) => Some(space.clone()),
            None => host.default_space(),
        };
        let space = space.and_then(|space| space.facts().map(|facts| (space, facts)));
        if let Some((space, facts)) = space {
            info.space = space.id;
            info.mode = match (facts.translated, facts.shared) {
                (false, _) => QAT_IOMMU_MODE_UNTRANSLATED,
                (true, false) => QAT_IOMMU_MODE_OWNED,
                (true, true) => QAT_IOMMU_MODE_SHARED,
            };
            info.aperture_first = facts.aperture.first().raw();
            info.aperture_last = facts.aperture.last().raw();
            info.page_sizes = facts.pages.bitmap();
            space.for_each_reserved(|range| {
                let range = qat_iommu_range {
                    first: range.first().raw(),
                    last: range.last().raw(),
                };
                found_ranges.push(range, GFP_KERNEL)?;
                Ok(())
            })?;
        }
    }
    found_pfs.iter().try_for_each(|pf| pfs.push(pf))?;
    found_ranges
        .iter()
        .try_for_each(|range| reserved.push(range))?;
    info.num_pfs = pfs.count;
    info.num_reserved_ranges = reserved.count;
    Ok(())
}

fn describe(space: &Space, pf: &Pf, translated: bool, fixed: bool) -> qat_iommu_pf {
    let (vendor_id, device_id) = pf.ids();
    let flags = [
        (space.owned, QAT_IOMMU_PF_OWNED),
        (translated, QAT_IOMMU_PF_TRANSLATED),
        (pf.incomplete, QAT_IOMMU_PF_INCOMPLETE),
        (!fixed, QAT_IOMMU_PF_NO_FIXED),
        (translated && fixed && !space.owned, QAT_IOMMU_PF_UNRESERVED),
    ]
    .into_iter()
    .filter_map(|(holds, flag)| holds.then_some(flag))
    .fold(0, |all, flag| all | flag);
    qat_iommu_pf {
        segment: pf.address.segment,
        bus: pf.address.bus,
        device: pf.address.device,
        function: pf.address.function,
        vendor_id,
        device_id,
        flags,
        space: space.id,
        ..Default::default()
    }
}
