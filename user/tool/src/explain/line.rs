// SPDX-License-Identifier: GPL-2.0
//! The lines that the kernel's IOMMU drivers log for a fault.
//!
//! Intel: `DMAR: [DMA Read NO_PASID] Request device [6b:00.0] fault addr 0x1000 [fault reason
//! 0x06] PTE Read access is not set`; the address is that of a page, the PCI domain is not told.
//! AMD: `AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:6b:00.0 domain=0x000b address=0x1000
//! flags=0x0020]`, or with the device in front of it.
//! virtio: `virtio_iommu virtio0: page fault from EP 27392 at 0x1000 [W]`, by the requester's id.

use qat_iommu::PfAddress;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reporter {
    Dmar,
    AmdVi,
    VirtioIommu,
    /// An address alone, from whoever asks.
    Asked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    Read,
    Write,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub line: Option<String>,
    pub reporter: Reporter,
    /// Nanoseconds since boot.
    pub when: Option<u64>,
    #[serde(skip)]
    pub device: Option<Requester>,
    pub address: Option<u64>,
    pub access: Option<Access>,
    /// The IOMMU's own number for the reason.
    pub reason: Option<u64>,
    /// A write into the interrupt window that was taken for an interrupt.
    pub interrupt: bool,
}

/// The function that made the access; Intel's lines do not tell its PCI domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requester {
    pub segment: Option<u32>,
    pub bus: u8,
    pub device: u8,
    pub function: u8,
}

impl Requester {
    /// The host bridge: it makes no accesses.
    const NOBODY: Self = Self {
        segment: Some(0),
        bus: 0,
        device: 0,
        function: 0,
    };

    pub fn is(self, address: PfAddress) -> bool {
        self.segment
            .is_none_or(|segment| segment == address.domain())
            && (self.bus, self.device, self.function)
                == (address.bus(), address.device(), address.function())
    }

    /// `[DDDD:]BB:DD.F`
    fn parse(text: &str) -> Option<Self> {
        let (rest, function) = text.rsplit_once('.')?;
        let (rest, device) = rest.rsplit_once(':')?;
        let (segment, bus) = match rest.rsplit_once(':') {
            Some((segment, bus)) => (Some(u32::from_str_radix(segment, 16).ok()?), bus),
            None => (None, rest),
        };
        let byte = |text| u8::from_str_radix(text, 16).ok();
        Some(Self {
            segment,
            bus: byte(bus)?,
            device: byte(device)?,
            function: byte(function)?,
        })
    }

    /// As virtio-iommu numbers endpoints: domain, bus, device and function in one number.
    fn from_endpoint(endpoint: u64) -> Option<Self> {
        let low = u16::try_from(endpoint & 0xffff).ok()?;
        let [bus, devfn] = low.to_be_bytes();
        Some(Self {
            segment: Some(u32::try_from(endpoint >> 16).ok()?),
            bus,
            device: devfn >> 3,
            function: devfn & 7,
        })
    }
}

impl std::fmt::Display for Requester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(segment) = self.segment {
            write!(f, "{segment:04x}:")?;
        }
        write!(
            f,
            "{:02x}:{:02x}.{:x}",
            self.bus, self.device, self.function
        )
    }
}

impl Fault {
    /// An address that somebody asks about.
    pub fn at(address: u64) -> Self {
        Self {
            line: None,
            reporter: Reporter::Asked,
            when: None,
            device: None,
            address: Some(address),
            access: None,
            reason: None,
            interrupt: false,
        }
    }

    /// A line of the log, if it tells of a fault.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fault = dmar(line).or_else(|| amd(line)).or_else(|| virtio(line))?;
        fault.line = Some(line.trim().to_owned());
        fault.when = time(line);
        Some(fault)
    }

    /// Whether another line tells of the same access, at another time perhaps.
    pub fn is_same(&self, other: &Self) -> bool {
        (
            self.reporter,
            self.device,
            self.address,
            self.access,
            self.reason,
        ) == (
            other.reporter,
            other.device,
            other.address,
            other.access,
            other.reason,
        )
    }

    fn by(reporter: Reporter, device: Option<Requester>) -> Self {
        Self {
            reporter,
            device,
            address: None,
            ..Self::at(0)
        }
    }
}

/// `[   12.345678]` in nanoseconds.
fn time(line: &str) -> Option<u64> {
    let stamp = line.split('[').skip(1).find_map(|part| {
        let (stamp, _) = part.split_once(']')?;
        let (seconds, micros) = stamp.trim().split_once('.')?;
        (micros.len() == 6).then_some((seconds.parse::<u64>().ok()?, micros.parse::<u64>().ok()?))
    })?;
    stamp
        .0
        .checked_mul(1_000_000_000)?
        .checked_add(stamp.1 * 1000)
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

/// The hexadecimal number that a text begins with, with or without 0x.
fn hex(text: &str) -> Option<u64> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let end = text
        .find(|digit: char| !digit.is_ascii_hexdigit())
        .unwrap_or(text.len());
    u64::from_str_radix(&text[..end], 16).ok()
}

fn dmar(line: &str) -> Option<Fault> {
    let rest = after(line, "DMAR:")?.trim_start();
    let device = after(rest, "Request device [")?;
    let (device, rest_after) = device.split_once(']')?;
    let mut fault = Fault::by(Reporter::Dmar, Requester::parse(device));
    fault.interrupt = rest.starts_with("[INTR-REMAP]");
    fault.access = match () {
        () if rest.starts_with("[DMA Read") => Some(Access::Read),
        () if rest.starts_with("[DMA Write") => Some(Access::Write),
        () => None,
    };
    fault.address = after(rest_after, "fault addr ").and_then(hex);
    fault.reason = after(rest_after, "[fault reason ").and_then(hex);
    Some(fault)
}

fn amd(line: &str) -> Option<Fault> {
    let (front, event) = line.split_once("AMD-Vi: Event logged [IO_PAGE_FAULT")?;
    let value = |name: &str| {
        let value = after(event, name)?;
        Some(value.split([' ', ',', ']']).next().unwrap_or(value))
    };
    let in_front = || front.split_whitespace().last()?.strip_suffix(':');
    let device = value("device=")
        .or_else(in_front)
        .and_then(Requester::parse);
    let mut fault = Fault::by(Reporter::AmdVi, device);
    // Where the IOMMU tells neither, both are 0; QEMU's does not tell the device either.
    let domain = value("domain=").and_then(hex);
    fault.address = value("address=")
        .and_then(hex)
        .filter(|address| *address != 0 || domain != Some(0));
    if fault.address.is_none() {
        fault.device = device.filter(|device| *device != Requester::NOBODY);
    }
    fault.access = fault
        .address
        .and(value("flags=").and_then(hex))
        .map(|flags| {
            if flags & 0x20 != 0 {
                Access::Write
            } else {
                Access::Read
            }
        });
    Some(fault)
}

fn virtio(line: &str) -> Option<Fault> {
    let rest = after(line, "fault from EP ")?;
    line.contains("viommu")
        .then_some(())
        .or(line.contains("virtio").then_some(()))?;
    let number = rest.split_whitespace().next()?;
    let device = number.parse().ok().and_then(Requester::from_endpoint);
    let mut fault = Fault::by(Reporter::VirtioIommu, device);
    fault.address = after(rest, " at ").and_then(hex);
    let flags = after(rest, "[").unwrap_or_default();
    fault.access = match () {
        () if flags.starts_with('W') => Some(Access::Write),
        () if flags.starts_with('R') => Some(Access::Read),
        () => None,
    };
    Some(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intel_s_lines_of_today_and_of_old() {
        let line = "[   12.345678] DMAR: [DMA Write NO_PASID] Request device [6b:00.0] fault addr \
                    0x1f2e3000 [fault reason 0x05] PTE Write access is not set";
        let fault = Fault::parse(line).unwrap();
        assert_eq!(fault.when, Some(12_345_678_000));
        assert_eq!(fault.device.unwrap().to_string(), "6b:00.0");
        assert_eq!(fault.address, Some(0x1f2e_3000));
        assert_eq!((fault.access, fault.reason), (Some(Access::Write), Some(5)));

        let old =
            "DMAR:[DMA Read] Request device [02:01.2] fault addr ffe0000 [fault reason 06] PTE";
        let fault = Fault::parse(old).unwrap();
        assert_eq!((fault.when, fault.address), (None, Some(0xffe_0000)));
        assert_eq!(fault.access, Some(Access::Read));
        assert!(fault.device.unwrap().is("0000:02:01.2".parse().unwrap()));
        assert!(Fault::parse("DMAR: DRHD: handling fault status reg 2").is_none());
    }

    #[test]
    fn an_interrupt_that_was_refused() {
        let line = "DMAR: [INTR-REMAP] Request device [01:00.0] fault index 0x0 [fault reason \
                    0x25] Blocked a compatibility format interrupt request";
        let fault = Fault::parse(line).unwrap();
        assert!(fault.interrupt && fault.address.is_none());
    }

    #[test]
    fn amd_s_lines_with_and_without_an_address() {
        let line = "[    5.000001] qat_iommu 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT \
                    domain=0x000b address=0xfef00000 flags=0x0020]";
        let fault = Fault::parse(line).unwrap();
        assert_eq!(fault.device.unwrap().to_string(), "0000:01:00.0");
        assert_eq!(
            (fault.address, fault.access),
            (Some(0xfef0_0000), Some(Access::Write))
        );

        let line = "AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:01:00.0 domain=0x0000 \
                    address=0x0 flags=0x0000]";
        let fault = Fault::parse(line).unwrap();
        assert_eq!(fault.device.unwrap().to_string(), "0000:01:00.0");
        assert_eq!((fault.address, fault.access), (None, None));

        let line = "pci 0000:00:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0000 \
                    address=0x0 flags=0x0009]";
        let fault = Fault::parse(line).unwrap();
        assert_eq!((fault.device, fault.address), (None, None));
    }

    #[test]
    fn virtio_s_endpoints_are_addresses() {
        let line = "virtio_iommu virtio0: page fault from EP 256 at 0x1000000000 [W]";
        let fault = Fault::parse(line).unwrap();
        assert_eq!(fault.device.unwrap().to_string(), "0000:01:00.0");
        assert_eq!(fault.address, Some(0x10_0000_0000));
        assert_eq!(fault.access, Some(Access::Write));
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "DMAR: Intel(R) Virtualization Technology",
            "fault from EP 1",
            "0x1000",
        ] {
            assert!(Fault::parse(line).is_none(), "{line}");
        }
    }
}
