// SPDX-License-Identifier: GPL-2.0

//! Which PCI functions are QAT PFs: the built-in table, and the parameter `ids=`. A VF is never
//! one, whatever its ids. Pure data, no lock.

use kernel::{
    pci,
    prelude::*, //
};

/// The width of the DMA addresses of every device in the built-in table (Intel's drivers set it).
const DMA_BITS: u32 = 48;

const INTEL: u16 = 0x8086;

/// Device ids of the PFs that Intel has made.
const KNOWN: [u16; 11] = [
    0x0435, // DH895xCC
    0x19e2, // C3xxx
    0x37c8, // C62x
    0x4940, // 4xxx
    0x4942, // 401xx
    0x4944, // 402xx
    0x4946, // 420xx
    0x4948, // 6xxx
    0x6f54, // D15xx
    0x18ee, // 200xx
    0x18a0, // C4xxx
];

/// One kind of PF.
struct Id {
    vendor: u16,
    device: u16,
    dma_bits: u32,
}

/// The further kinds that the parameter `ids=` names.
///
/// # Invariants
///
/// Every entry can be read. (They are read anew each time, for this lives in a static, and what
/// a static has allocated is not freed when the module goes.)
pub(crate) struct Ids(&'static str);

impl Ids {
    /// Parses `vvvv:dddd[/dma-bits][,...]`.
    pub(super) fn parse(text: &'static CStr) -> Result<Self> {
        let text = text.to_str().map_err(|_| EINVAL)?;
        for entry in entries(text) {
            if parse_one(entry).is_none() {
                pr_err!("the parameter ids= cannot read '{entry}'; it wants vvvv:dddd[/dma-bits], as in 8086:4940/48\n");
                return Err(EINVAL);
            }
        }
        // INVARIANT: Each was read just now.
        Ok(Self(text))
    }

    /// The width in bits of the DMA addresses of `dev`, if it is a QAT PF.
    pub(crate) fn dma_bits(&self, dev: &pci::Device) -> Option<u32> {
        let (vendor, device) = (dev.vendor_id().as_raw(), dev.device_id());
        let named = entries(self.0)
            .filter_map(parse_one)
            .find(|id| id.vendor == vendor && id.device == device);
        match named {
            Some(id) => Some(id.dma_bits),
            None if vendor == INTEL && KNOWN.contains(&device) => Some(DMA_BITS),
            None => None,
        }
    }
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|entry| !entry.is_empty())
}

fn parse_one(entry: &str) -> Option<Id> {
    let (id, bits) = match entry.split_once('/') {
        Some((id, bits)) => (id, bits.parse().ok()?),
        None => (entry, DMA_BITS),
    };
    let (vendor, device) = id.split_once(':')?;
    // Below 32 bits there is no device, above 64 no address.
    (32..=64).contains(&bits).then_some(())?;
    Some(Id {
        vendor: u16::from_str_radix(vendor, 16).ok()?,
        device: u16::from_str_radix(device, 16).ok()?,
        dma_bits: bits,
    })
}

#[kunit_tests(qat_iommu_ids)]
mod tests {
    use super::{
        entries,
        parse_one,
        DMA_BITS,
        KNOWN, //
    };

    fn read(entry: &str) -> Option<(u16, u16, u32)> {
        parse_one(entry).map(|id| (id.vendor, id.device, id.dma_bits))
    }

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!(read("8086:4940"), Some((0x8086, 0x4940, DMA_BITS)));
        assert_eq!(read("1234:11e8"), Some((0x1234, 0x11e8, DMA_BITS)));
    }

    #[test]
    fn a_width_is_decimal() {
        assert_eq!(read("1234:11e8/40"), Some((0x1234, 0x11e8, 40)));
    }

    #[test]
    fn a_width_is_32_to_64() {
        assert_eq!(read("1:2/31"), None);
        assert_eq!(read("1:2/32"), Some((1, 2, 32)));
        assert_eq!(read("1:2/64"), Some((1, 2, 64)));
        assert_eq!(read("1:2/65"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for entry in [
            "8086",
            ":",
            "8086:",
            ":4940",
            "8086:4940/",
            "8086:4940/x",
            "18086:4940",
            "8086:14940",
            "8086:4940:1",
            "-1:1",
            "8086 :4940",
        ] {
            assert_eq!(read(entry), None);
        }
    }

    #[test]
    fn empty_entries_are_none() {
        assert_eq!(entries("").count(), 0);
        assert_eq!(entries(",1:2,,3:4,").count(), 2);
    }

    #[test]
    fn no_kind_is_known_twice() {
        for (at, id) in KNOWN.iter().enumerate() {
            assert_eq!(KNOWN.iter().position(|other| other == id), Some(at));
        }
    }
}
