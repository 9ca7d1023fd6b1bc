// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The PCI address of a PF, as text and as numbers.

use std::{fmt, str::FromStr};

/// The PCI address of a PF: `domain:bus:device.function`, in hexadecimal.
///
/// ```
/// let pf: qat_iommu::PfAddress = "0000:6b:00.0".parse().unwrap();
/// assert_eq!(pf.bus(), 0x6b);
/// assert_eq!(pf.to_string(), "0000:6b:00.0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PfAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// The text is not the address of a PCI function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a PCI address: write domain:bus:device.function, for example 0000:6b:00.0"
)]
pub struct ParsePfAddressError {
    text: String,
}

impl PfAddress {
    /// The address with these parts; `None` if `device` is above 31 or `function`
    /// above 7.
    pub const fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        if device > 31 || function > 7 {
            return None;
        }
        Some(Self {
            domain,
            bus,
            device,
            function,
        })
    }

    /// PCI domain (segment).
    pub const fn domain(self) -> u32 {
        self.domain
    }

    /// Bus number.
    pub const fn bus(self) -> u8 {
        self.bus
    }

    /// Device (slot) number, 0 to 31.
    pub const fn device(self) -> u8 {
        self.device
    }

    /// Function number, 0 to 7.
    pub const fn function(self) -> u8 {
        self.function
    }
}

impl fmt::Display for PfAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl FromStr for PfAddress {
    type Err = ParsePfAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParsePfAddressError { text: text.into() })
    }
}

fn parse(text: &str) -> Option<PfAddress> {
    let (domain, rest) = text.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let byte = |text| u8::try_from(hex(text)?).ok();
    PfAddress::new(hex(domain)?, byte(bus)?, byte(device)?, byte(function)?)
}

/// A hexadecimal number of digits only: `from_str_radix` alone takes a sign.
fn hex(text: &str) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["0000:6b:00.0", "0000:00:1f.7", "10000:ff:0a.3"] {
            assert_eq!(text.parse::<PfAddress>().unwrap().to_string(), text);
        }
        let short: PfAddress = "0:6b:0.0".parse().unwrap();
        assert_eq!(Some(short), PfAddress::new(0, 0x6b, 0, 0));
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "6b:00.0",
            "0000:6b:00",
            "0000:6b:20.0",
            "0000:6b:00.8",
            "0000:100:00.0",
            "100000000:00:00.0",
            "0000:+b:00.0",
            "0000:6b:00.0 ",
            "0000::00.0",
            "0000:6b:00.0.0",
        ] {
            let error = text.parse::<PfAddress>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{text}` is not")));
        }
    }
}
