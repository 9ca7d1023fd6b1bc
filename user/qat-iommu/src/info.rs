// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! What the module tells about the host's PFs and about a context's space.

use crate::{page_size, round_up, size, Iova, IovaRange, PfAddress};
use qat_iommu_uapi as uapi;

/// The number of a space. Never used again while the module is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Space(pub u64);

/// How this host's PFs reach memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// There is no usable PF.
    None,
    /// The space is that of the PFs bound to the module's own driver.
    Owned,
    /// The space is that of a PF bound to its own driver.
    Shared,
    /// The PF's accesses are not translated (no IOMMU, or an identity domain):
    /// only an IOVA equal to the physical address can be honoured.
    Untranslated,
    /// The kernel runs in a virtual machine: every map and unmap succeeds and does
    /// nothing.
    Vm,
    /// One that this version of the crate does not know.
    Other(u32),
}

impl From<u32> for Mode {
    fn from(value: u32) -> Self {
        match value {
            uapi::QAT_IOMMU_MODE_NONE => Mode::None,
            uapi::QAT_IOMMU_MODE_OWNED => Mode::Owned,
            uapi::QAT_IOMMU_MODE_SHARED => Mode::Shared,
            uapi::QAT_IOMMU_MODE_UNTRANSLATED => Mode::Untranslated,
            uapi::QAT_IOMMU_MODE_VM => Mode::Vm,
            other => Mode::Other(other),
        }
    }
}

/// One usable PF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pf {
    /// Its PCI address.
    pub address: PfAddress,
    /// Its PCI vendor id.
    pub vendor_id: u16,
    /// Its PCI device id.
    pub device_id: u16,
    /// The space it belongs to; PFs with equal numbers share one IOVA space.
    pub space: Space,
    /// Bound to the module's driver; else to its own.
    pub owned: bool,
    /// Its accesses are translated by an IOMMU.
    pub translated: bool,
    /// It joined while classic mappings were live and could not take all of them;
    /// the kernel log says which and why.
    pub incomplete: bool,
    /// Ranges at an IOVA of the caller's choice cannot be mapped for it.
    pub no_fixed: bool,
    /// The kernel's DMA API cannot be told of such ranges, and may use the same IOVAs
    /// later.
    pub unreserved: bool,
}

impl Pf {
    /// `None` for what cannot be the address of a PCI function.
    pub(crate) fn from_raw(raw: &uapi::qat_iommu_pf) -> Option<Self> {
        let has = |flag| raw.flags & flag != 0;
        Some(Self {
            address: PfAddress::new(raw.segment, raw.bus, raw.device, raw.function)?,
            vendor_id: raw.vendor_id,
            device_id: raw.device_id,
            space: Space(raw.space),
            owned: has(uapi::QAT_IOMMU_PF_OWNED),
            translated: has(uapi::QAT_IOMMU_PF_TRANSLATED),
            incomplete: has(uapi::QAT_IOMMU_PF_INCOMPLETE),
            no_fixed: has(uapi::QAT_IOMMU_PF_NO_FIXED),
            unreserved: has(uapi::QAT_IOMMU_PF_UNRESERVED),
        })
    }
}

/// The host's PFs and one context's space, as they were when asked.
///
/// Where the context has no space ([`Mode::None`]), there is no aperture, no page
/// size and no reserved range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Version of the ioctl interface that the module speaks.
    pub abi_version: u32,
    /// How the PFs of the space reach memory.
    pub mode: Mode,
    /// The space, if the context has one.
    pub space: Option<Space>,
    /// The IOVAs of the space.
    pub aperture: Option<IovaRange>,
    /// The IOMMU's page sizes in the space: bit n stands for 2^n bytes.
    pub page_sizes: u64,
    /// Grows with every PF that comes or goes.
    pub generation: u64,
    /// Every usable PF of the host.
    pub pfs: Vec<Pf>,
    /// IOVAs of the aperture that no mapping can have.
    pub reserved: Vec<IovaRange>,
    /// Pages in the page tables of all of this host's IOMMUs.
    pub iommu_pages: u64,
}

impl Info {
    pub(crate) fn from_raw(
        raw: &uapi::qat_iommu_info,
        pfs: &[uapi::qat_iommu_pf],
        reserved: &[uapi::qat_iommu_range],
    ) -> Self {
        let range = |first, last| IovaRange {
            first: Iova::new(first),
            last: Iova::new(last),
        };
        let mode = Mode::from(raw.mode);
        Self {
            abi_version: raw.abi_version,
            mode,
            space: (raw.space != 0).then_some(Space(raw.space)),
            aperture: (raw.aperture_last != 0)
                .then_some(range(raw.aperture_first, raw.aperture_last)),
            page_sizes: raw.page_sizes,
            generation: raw.generation,
            pfs: pfs.iter().filter_map(Pf::from_raw).collect(),
            reserved: reserved.iter().map(|r| range(r.first, r.last)).collect(),
            iommu_pages: raw.iommu_pages,
        }
    }

    /// The unit of mapping, in bytes: the smallest page of the space, and no less
    /// than the kernel's page.
    pub fn granule(&self) -> u64 {
        size::granule(self.page_sizes, page_size())
    }

    /// The remap size: what a mapping of `size` bytes really covers. `None` for 0
    /// bytes, and where rounding up overflows.
    pub fn remap_size(&self, size: u64) -> Option<u64> {
        round_up(size, self.granule())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> uapi::qat_iommu_info {
        uapi::qat_iommu_info {
            abi_version: 1,
            mode: uapi::QAT_IOMMU_MODE_OWNED,
            aperture_last: (1 << 48) - 1,
            page_sizes: 0x4020_1000,
            generation: 3,
            iommu_pages: 17,
            space: 9,
            ..Default::default()
        }
    }

    #[test]
    fn describes_a_space() {
        let pf = uapi::qat_iommu_pf {
            segment: 0,
            bus: 0x6b,
            vendor_id: 0x8086,
            device_id: 0x4940,
            flags: uapi::QAT_IOMMU_PF_OWNED | uapi::QAT_IOMMU_PF_TRANSLATED,
            space: 9,
            ..Default::default()
        };
        let msi = uapi::qat_iommu_range {
            first: 0xfee0_0000,
            last: 0xfeef_ffff,
        };
        let info = Info::from_raw(&raw(), &[pf], &[msi]);
        assert_eq!(info.mode, Mode::Owned);
        assert_eq!(info.space, Some(Space(9)));
        assert_eq!(info.aperture.unwrap().to_string(), "0x0-0xffffffffffff");
        assert_eq!(info.reserved[0].to_string(), "0xfee00000-0xfeefffff");
        let pf = info.pfs[0];
        assert_eq!(pf.address.to_string(), "0000:6b:00.0");
        assert!(pf.owned && pf.translated && !pf.incomplete && !pf.no_fixed);
        assert_eq!(info.remap_size(5000), Some(8192));
        assert_eq!(info.remap_size(0), None);
    }

    #[test]
    fn without_a_space_sizes_round_to_kernel_pages() {
        let info = Info::from_raw(&uapi::qat_iommu_info::default(), &[], &[]);
        assert_eq!((info.mode, info.space), (Mode::None, None));
        assert_eq!(info.aperture, None);
        assert_eq!(info.remap_size(1), Some(page_size()));
    }

    #[test]
    fn later_modes_are_kept() {
        assert_eq!(Mode::from(4), Mode::Vm);
        assert_eq!(Mode::from(77), Mode::Other(77));
    }
}
