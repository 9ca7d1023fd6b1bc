// SPDX-License-Identifier: GPL-2.0
//! PCI configuration space: 4096 bytes with a mask of what may be written, and the builder that lays out the header,
//! the BARs and both capability chains, for a PF and for a VF. A capability is added with its body and its write mask
//! and links itself.
//!
//! QEMU walks the extended chain once, when it realizes the device, and leaves SR-IOV out; it keeps the links and
//! takes everything else from here ever after. So the capability is a vendor-specific one until the first device
//! reset, which comes after that and before the guest runs, and SR-IOV from then on: `settle`. In the same way a VF
//! shows an identity to QEMU first and none later, as the standard has it.

use crate::registers;
use std::str::FromStr;

pub const SIZE: usize = 4096;

/// The registers; see README.md.
pub const BAR0_SIZE: u64 = registers::SIZE;
/// MSI-X: the table in the first half, the pending bits in the second.
pub const BAR2_SIZE: u64 = 8192;
pub const MSIX_VECTORS: u16 = 4;

const COMMAND: usize = 0x04;
const COMMAND_MEMORY: u8 = 1 << 1;
const COMMAND_MASTER: u8 = 1 << 2;
const COMMAND_PARITY: u8 = 1 << 6;
const FIRST_BAR: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const FIRST_CAPABILITY: usize = 0x40;
const FIRST_EXTENDED: usize = 0x100;

const CAP_PM: u8 = 0x01;
const CAP_PCIE: u8 = 0x10;
const CAP_MSIX: u8 = 0x11;
const EXT_CAP_AER: u16 = 0x0001;
const EXT_CAP_VENDOR: u16 = 0x000b;
const EXT_CAP_SRIOV: u16 = 0x0010;

/// One device has 8 functions, and the PF is the first of them.
pub const MAX_VFS: u16 = 7;
const SRIOV_CONTROL: usize = 0x08;
const SRIOV_CONTROL_ENABLE: u16 = 1 << 0;
const SRIOV_NUM_VFS: usize = 0x10;

/// A VF has no BAR that QEMU could place, for it does not know what a VF is: its registers lie in a vendor-specific
/// extended capability instead.
pub const WINDOW: usize = FIRST_EXTENDED + 8;
pub const WINDOW_SIZE: usize = 0x200;
const WINDOW_ID: u16 = 0x5146;

const PCIE_DEVCTL: usize = 8;
/// Bit 15 of Device Control, in its upper byte: start a Function Level Reset. Always reads 0.
const DEVCTL_FLR_HIGH: u8 = 0x80;
const PCIE_DEVSTA: usize = 0x0a;
const DEVSTA_PENDING: u8 = 0x20;

/// Vendor and device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciId {
    pub vendor: u16,
    pub device: u16,
}

impl PciId {
    /// The id of its VFs: the next device number.
    pub fn vf(self) -> Self {
        PciId {
            device: self.device.wrapping_add(1),
            ..self
        }
    }
}

impl FromStr for PciId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| match part.len() {
            4 if part.bytes().all(|b| b.is_ascii_hexdigit()) => u16::from_str_radix(part, 16).ok(),
            _ => None,
        };
        text.split_once(':')
            .and_then(|(vendor, device)| {
                Some(PciId {
                    vendor: number(vendor)?,
                    device: number(device)?,
                })
            })
            .ok_or_else(|| "give a PCI id as four and four hex digits, like 8086:4940".into())
    }
}

impl std::fmt::Display for PciId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

#[derive(Clone)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
    writable: Vec<u8>,
    /// What a reset puts back.
    initial: Vec<u8>,
    pcie: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// With its SR-IOV capability, if it has one.
    Physical {
        sriov: Option<usize>,
    },
    Virtual,
}

/// What a write asked for beyond changing bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    Reset,
}

impl ConfigSpace {
    /// The QAT PF: an endpoint with two 64-bit BARs, PM, PCI Express with FLR, MSI-X, AER, and SR-IOV for `vfs`
    /// VFs. Without `msix` it has no interrupts, and one BAR.
    pub fn physical(id: PciId, vfs: u16, msix: bool) -> Self {
        let mut build = Builder::new();
        build.header(id, COMMAND_MEMORY | COMMAND_MASTER | COMMAND_PARITY);
        build.bar64(0, BAR0_SIZE);
        if msix {
            build.bar64(2, BAR2_SIZE);
        }
        // Version 3, no PME; PowerState can be written and D3hot to D0 keeps the registers (No_Soft_Reset).
        build.capability(
            CAP_PM,
            &[0x03, 0x00, 0x08, 0x00, 0, 0],
            &[0, 0, 0x03, 0, 0, 0],
        );
        let pcie = build.pcie();
        if msix {
            build.msix();
        }
        build.aer();
        let sriov = (vfs > 0).then(|| build.sriov(vfs, id.vf()));
        build.finish(pcie, Kind::Physical { sriov })
    }

    /// A VF of it: PCI Express with FLR, and the window to its registers.
    pub fn virtual_function(id: PciId) -> Self {
        let mut build = Builder::new();
        build.header(id, COMMAND_MASTER);
        let pcie = build.pcie();
        build.window();
        build.finish(pcie, Kind::Virtual)
    }

    /// From now on the guest looks, not QEMU.
    pub fn settle(&mut self) {
        match self.kind {
            Kind::Physical { sriov: Some(at) } => {
                self.initial[at..at + 2].copy_from_slice(&EXT_CAP_SRIOV.to_le_bytes());
            }
            Kind::Physical { sriov: None } => {}
            Kind::Virtual => self.initial[..4].fill(0xff),
        }
        self.reset();
    }

    /// How many VFs the guest has turned on.
    pub fn vfs_enabled(&self) -> u16 {
        let Kind::Physical { sriov: Some(at) } = self.kind else {
            return 0;
        };
        let field = |offset: usize| {
            u16::from_le_bytes([self.bytes[at + offset], self.bytes[at + offset + 1]])
        };
        if field(SRIOV_CONTROL) & SRIOV_CONTROL_ENABLE == 0 {
            return 0;
        }
        field(SRIOV_NUM_VFS)
    }

    pub fn read(&self, offset: usize, size: usize) -> Option<&[u8]> {
        self.bytes.get(offset..offset.checked_add(size)?)
    }

    /// Changes the writable bits; None outside the space.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Option<Effect> {
        let range = offset..offset.checked_add(data.len())?;
        let bytes = self.bytes.get_mut(range.clone())?;
        let masks = self.writable.get(range.clone())?;
        for ((byte, mask), new) in bytes.iter_mut().zip(masks).zip(data) {
            *byte = *byte & !mask | new & mask;
        }
        let flr = self.pcie + PCIE_DEVCTL + 1;
        if range.contains(&flr) && data[flr - offset] & DEVCTL_FLR_HIGH != 0 {
            return Some(Effect::Reset);
        }
        Some(Effect::None)
    }

    /// Says in the device status whether a request is on its way. Who waits for that before it goes on, as the kernel
    /// does before a function level reset, finds no write of ours in its memory later.
    pub fn set_pending(&mut self, pending: bool) {
        let status = &mut self.bytes[self.pcie + PCIE_DEVSTA];
        *status = *status & !DEVSTA_PENDING | if pending { DEVSTA_PENDING } else { 0 };
    }

    pub fn reset(&mut self) {
        self.bytes.clone_from(&self.initial);
    }

    pub fn bus_master(&self) -> bool {
        self.bytes[COMMAND] & COMMAND_MASTER != 0
    }
}

struct Builder {
    bytes: Vec<u8>,
    writable: Vec<u8>,
    /// Where the next capability goes, and the byte that points to it.
    next: usize,
    link: usize,
    /// The same for the extended chain; the first one has no pointer to it.
    next_extended: usize,
    link_extended: Option<usize>,
}

impl Builder {
    fn new() -> Self {
        Builder {
            bytes: vec![0; SIZE],
            writable: vec![0; SIZE],
            next: FIRST_CAPABILITY,
            link: CAPABILITIES,
            next_extended: FIRST_EXTENDED,
            link_extended: None,
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8], writable: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.writable[at..at + writable.len()].copy_from_slice(writable);
    }

    /// `command`: what can be written of the lower half of the command register.
    fn header(&mut self, id: PciId, command: u8) {
        self.put(0x00, &id.vendor.to_le_bytes(), &[]);
        self.put(0x02, &id.device.to_le_bytes(), &[]);
        // SERR reporting, INTx disable.
        self.put(COMMAND, &[0, 0], &[command, 0x05]);
        // Status: there is a capability list.
        self.put(0x06, &[0x10, 0], &[]);
        // Revision 0x40, class 0b4000: processor, co-processor.
        self.put(0x08, &[0x40, 0x00, 0x40, 0x0b], &[]);
        self.put(0x0c, &[0], &[0xff]);
        self.put(0x2c, &id.vendor.to_le_bytes(), &[]);
        self.put(0x3c, &[0], &[0xff]);
    }

    /// A 64-bit memory BAR that is not prefetchable: reads of its registers are not free of meaning.
    fn bar64(&mut self, index: usize, size: u64) {
        assert!(size.is_power_of_two() && size >= 16);
        let at = FIRST_BAR + 4 * index;
        self.put(at, &0x4u64.to_le_bytes(), &(!(size - 1)).to_le_bytes());
    }

    /// Adds a capability; `body` begins behind its id and link.
    fn capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> usize {
        let at = self.next;
        assert!(at + 2 + body.len() <= FIRST_EXTENDED);
        self.bytes[self.link] = u8::try_from(at).expect("below 0x100");
        self.put(at, &[id, 0], &[]);
        self.put(at + 2, body, writable);
        self.link = at + 1;
        self.next = (at + 2 + body.len()).next_multiple_of(16);
        at
    }

    /// Adds an extended capability; `body` begins behind its header.
    fn extended(&mut self, id: u16, version: u8, body: &[u8], writable: &[u8]) -> usize {
        let at = self.next_extended;
        assert!(at + 4 + body.len() <= SIZE && at % 4 == 0);
        if let Some(link) = self.link_extended {
            // The link is the upper 12 bits of the header, the version the 4 below them.
            let version = self.bytes[link] & 0x0f;
            let pointer = (u16::try_from(at).expect("below 0x1000") << 4) | u16::from(version);
            self.put(link, &pointer.to_le_bytes(), &[]);
        }
        self.put(at, &id.to_le_bytes(), &[]);
        self.put(at + 2, &[version, 0], &[]);
        self.put(at + 4, body, writable);
        self.link_extended = Some(at + 2);
        self.next_extended = (at + 4 + body.len()).next_multiple_of(16);
        at
    }

    fn pcie(&mut self) -> usize {
        let mut body = [0; 0x3a];
        let mut writable = [0; 0x3a];
        // Offsets in the specification count from the capability's id, two bytes before the body.
        let mut set = |at: usize, value: u32, mask: u32, width: usize| {
            body[at - 2..at - 2 + width].copy_from_slice(&value.to_le_bytes()[..width]);
            writable[at - 2..at - 2 + width].copy_from_slice(&mask.to_le_bytes()[..width]);
        };
        // Version 2, endpoint.
        set(0x02, 0x0002, 0, 2);
        // Device: FLR, role-based errors, extended tags, payload 128.
        set(0x04, 0x1000_8020, 0, 4);
        // Device control: relaxed ordering, no snoop, read requests of 512. FLR (bit 15) is an action, not a bit.
        set(PCIE_DEVCTL, 0x2810, 0x7fff, 2);
        // Link: 16 GT/s, 16 lanes, and in that state.
        set(0x0c, 0x0104, 0, 4);
        set(0x10, 0, 0x00cb, 2);
        set(0x12, 0x0104, 0, 2);
        set(0x2c, 0x1e, 0, 4);
        self.capability(CAP_PCIE, &body, &writable)
    }

    fn msix(&mut self) {
        let mut body = Vec::new();
        body.extend((MSIX_VECTORS - 1).to_le_bytes());
        // Table and pending bits, both in BAR 2.
        body.extend(0x0000_0002u32.to_le_bytes());
        body.extend(0x0000_1002u32.to_le_bytes());
        // Enable and function mask.
        self.capability(CAP_MSIX, &body, &[0x00, 0xc0]);
    }

    fn aer(&mut self) {
        let mut body = [0; 0x44];
        let mut writable = [0; 0x44];
        let mut set = |at: usize, value: u32, mask: u32| {
            body[at - 4..at].copy_from_slice(&value.to_le_bytes());
            writable[at - 4..at].copy_from_slice(&mask.to_le_bytes());
        };
        // Uncorrectable mask and severity, correctable mask. The status registers stay 0: this device has no errors.
        set(0x08, 0, 0x0067_f030);
        set(0x0c, 0x0046_2030, 0x0067_f030);
        set(0x14, 0x2000, 0xf1c1);
        self.extended(EXT_CAP_AER, 2, &body, &writable);
    }

    fn sriov(&mut self, vfs: u16, id: PciId) -> usize {
        let mut body = [0; 0x3c];
        let mut writable = [0; 0x3c];
        let mut set = |at: usize, value: u16, mask: u16| {
            body[at - 4..at - 2].copy_from_slice(&value.to_le_bytes());
            writable[at - 4..at - 2].copy_from_slice(&mask.to_le_bytes());
        };
        // VF Enable, VF memory space, ARI.
        set(SRIOV_CONTROL, 0, 0x0019);
        // Initial and total number of VFs, and how many there shall be.
        set(0x0c, vfs, 0);
        set(0x0e, vfs, 0);
        set(SRIOV_NUM_VFS, 0, 0x00ff);
        // The first VF is the next function, and so on.
        set(0x14, 1, 0);
        set(0x16, 1, 0);
        set(0x1a, id.device, 0);
        // Page sizes that it can have, and the one it has.
        set(0x1c, 0x0553, 0);
        set(0x20, 0x0001, 0x0553);
        self.extended(EXT_CAP_VENDOR, 1, &body, &writable)
    }

    fn window(&mut self) {
        let size = u16::try_from(8 + WINDOW_SIZE).expect("below 0x1000");
        let header = (u32::from(size) << 20) | u32::from(WINDOW_ID);
        let mut body = vec![0; 4 + WINDOW_SIZE];
        body[..4].copy_from_slice(&header.to_le_bytes());
        let at = self.extended(EXT_CAP_VENDOR, 1, &body, &[]);
        assert_eq!(at + 8, WINDOW);
    }

    fn finish(self, pcie: usize, kind: Kind) -> ConfigSpace {
        ConfigSpace {
            initial: self.bytes.clone(),
            bytes: self.bytes,
            writable: self.writable,
            pcie,
            kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pf() -> ConfigSpace {
        ConfigSpace::physical("8086:4940".parse().expect("an id"), 3, true)
    }

    fn u16_at(config: &ConfigSpace, at: usize) -> u16 {
        u16::from_le_bytes(config.read(at, 2).expect("inside").try_into().expect("two"))
    }

    fn u32_at(config: &ConfigSpace, at: usize) -> u32 {
        u32::from_le_bytes(
            config
                .read(at, 4)
                .expect("inside")
                .try_into()
                .expect("four"),
        )
    }

    fn capability(config: &ConfigSpace, id: u8) -> usize {
        let mut at = usize::from(config.bytes[CAPABILITIES]);
        for _ in 0..48 {
            assert!(at >= FIRST_CAPABILITY && at % 4 == 0, "bad link {at:#x}");
            if config.bytes[at] == id {
                return at;
            }
            at = usize::from(config.bytes[at + 1]);
        }
        panic!("the chain has no end");
    }

    #[test]
    fn identity_and_class() {
        let config = pf();
        assert_eq!(u32_at(&config, 0), 0x4940_8086);
        assert_eq!(u32_at(&config, 8), 0x0b40_0040);
        assert_eq!(u16_at(&config, 6) & 0x10, 0x10);
    }

    #[test]
    fn ids_are_parsed_strictly() {
        for bad in [
            "",
            "8086",
            "8086:",
            "8086:494",
            "0x8086:4940",
            "8086:49400",
            "+086:4940",
        ] {
            assert!(bad.parse::<PciId>().is_err(), "{bad}");
        }
        assert_eq!(
            "8086:494a".parse::<PciId>().expect("good").to_string(),
            "8086:494a"
        );
    }

    #[test]
    fn bars_answer_sizing() {
        let mut config = pf();
        for (at, size) in [(0x10, BAR0_SIZE), (0x18, BAR2_SIZE)] {
            config.write(at, &[0xff; 8]).expect("inside");
            let low = u32_at(&config, at);
            let high = u32_at(&config, at + 4);
            assert_eq!(low & 0xf, 0x4, "64-bit memory");
            let mask = (u64::from(high) << 32) | u64::from(low & !0xf);
            assert_eq!(!mask + 1, size);
        }
        for at in [0x20, 0x24, 0x30] {
            config.write(at, &[0xff; 4]).expect("inside");
            assert_eq!(u32_at(&config, at), 0);
        }
    }

    #[test]
    fn the_chain_holds_pm_pcie_with_flr_and_msix_and_ends() {
        let config = pf();
        capability(&config, CAP_PM);
        let pcie = capability(&config, CAP_PCIE);
        assert_ne!(u32_at(&config, pcie + 4) & (1 << 28), 0, "FLR");
        assert_eq!((u16_at(&config, pcie + 2) >> 4) & 0xf, 0, "endpoint");
        let msix = capability(&config, CAP_MSIX);
        assert_eq!(u16_at(&config, msix + 2) + 1, MSIX_VECTORS);
        assert_eq!(config.bytes[msix + 1], 0, "last");
        let table_end = u64::from(MSIX_VECTORS) * 16;
        assert!(table_end <= u64::from(u32_at(&config, msix + 8) & !7));
        assert!(u64::from(u32_at(&config, msix + 8) & !7) < BAR2_SIZE);
    }

    #[test]
    fn aer_begins_the_extended_chain_and_sriov_hides_behind_it_until_it_settles() {
        let mut config = pf();
        let first = u32_at(&config, FIRST_EXTENDED);
        assert_eq!(first & 0xf_ffff, 0x2_0001);
        let at = usize::try_from(first >> 20).expect("small");
        assert_eq!(u32_at(&config, at), 0x0001_000b);
        config.settle();
        assert_eq!(u32_at(&config, at), 0x0001_0010);
        assert_eq!(
            (u16_at(&config, at + 0x0c), u16_at(&config, at + 0x0e)),
            (3, 3)
        );
        assert_eq!(
            (u16_at(&config, at + 0x14), u16_at(&config, at + 0x16)),
            (1, 1)
        );
        assert_eq!(u16_at(&config, at + 0x1a), 0x4941);

        assert_eq!(config.vfs_enabled(), 0);
        config.write(at + SRIOV_NUM_VFS, &[2, 0]).expect("inside");
        assert_eq!(config.vfs_enabled(), 0);
        config.write(at + SRIOV_CONTROL, &[9, 0]).expect("inside");
        assert_eq!(config.vfs_enabled(), 2);
        config.reset();
        assert_eq!(
            (config.vfs_enabled(), u32_at(&config, at)),
            (0, 0x0001_0010)
        );
    }

    #[test]
    fn without_vfs_there_is_no_sriov() {
        let mut config = ConfigSpace::physical("8086:4940".parse().expect("an id"), 0, true);
        assert_eq!(u32_at(&config, FIRST_EXTENDED), 0x0002_0001);
        config.settle();
        assert_eq!(u32_at(&config, FIRST_EXTENDED), 0x0002_0001);
    }

    #[test]
    fn without_msix_there_is_one_bar_and_no_interrupt() {
        let id = "8086:4940".parse().expect("an id");
        let mut config = ConfigSpace::physical(id, 0, false);
        let pcie = capability(&config, CAP_PCIE);
        assert_eq!(config.bytes[pcie + 1], 0, "last");
        config.write(0x18, &[0xff; 8]).expect("inside");
        assert_eq!((u32_at(&config, 0x18), u32_at(&config, 0x1c)), (0, 0));
    }

    #[test]
    fn a_vf_has_a_window_and_bus_mastering_and_settles_without_an_identity() {
        let mut config = ConfigSpace::virtual_function("8086:4941".parse().expect("an id"));
        assert_eq!(u32_at(&config, 0), 0x4941_8086);
        assert_eq!(u32_at(&config, FIRST_EXTENDED), 0x0001_000b);
        assert_eq!(u32_at(&config, FIRST_EXTENDED + 4), 0x2080_5146);
        config.settle();
        assert_eq!(u32_at(&config, 0), u32::MAX);
        config.write(COMMAND, &[0xff, 0xff]).expect("inside");
        assert_eq!(u16_at(&config, COMMAND), 0x0504);
        for bar in 0..6 {
            config
                .write(FIRST_BAR + 4 * bar, &[0xff; 4])
                .expect("inside");
            assert_eq!(u32_at(&config, FIRST_BAR + 4 * bar), 0);
        }
        assert_ne!(
            u32_at(&config, capability(&config, CAP_PCIE) + 4) & (1 << 28),
            0,
            "FLR"
        );
    }

    #[test]
    fn only_writable_bits_change_and_reset_puts_them_back() {
        let mut config = pf();
        assert!(!config.bus_master());
        assert_eq!(config.write(0, &[0xff; 8]), Some(Effect::None));
        assert_eq!(u32_at(&config, 0), 0x4940_8086);
        assert_eq!(u16_at(&config, 4), 0x0546);
        assert!(config.bus_master());
        config.reset();
        assert!(!config.bus_master());
    }

    #[test]
    fn a_request_on_its_way_is_seen_in_the_device_status() {
        let mut config = ConfigSpace::physical("8086:4940".parse().expect("an id"), 0, true);
        let at = config.pcie + PCIE_DEVSTA;
        for pending in [true, false] {
            config.set_pending(pending);
            let bit = config.read(at, 1).expect("inside")[0] & DEVSTA_PENDING;
            assert_eq!(bit != 0, pending);
        }
    }

    #[test]
    fn flr_is_an_action_that_reads_back_as_zero() {
        let mut config = pf();
        let devctl = capability(&config, CAP_PCIE) + PCIE_DEVCTL;
        assert_eq!(config.write(devctl, &[0x10, 0x28]), Some(Effect::None));
        assert_eq!(config.write(devctl, &[0x10, 0xa8]), Some(Effect::Reset));
        assert_eq!(u16_at(&config, devctl), 0x2810);
        assert_eq!(config.write(devctl + 1, &[0x80]), Some(Effect::Reset));
    }

    #[test]
    fn nothing_outside_the_space_is_touched() {
        let mut config = pf();
        assert_eq!(config.read(SIZE - 1, 2), None);
        assert_eq!(config.read(usize::MAX, 2), None);
        assert_eq!(config.write(SIZE, &[0]), None);
        assert_eq!(config.write(usize::MAX, &[0]), None);
        assert!(config.read(0, SIZE).is_some());
    }
}
