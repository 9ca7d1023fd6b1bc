// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! What the library finds around it: where the device node is, which PF the
//! environment names, and whether this is a virtual machine. Tests put their own
//! answers in the place of these.

use crate::Failure;
use qat_iommu::{PfAddress, DEVICE};
use std::ffi::OsString;

/// Where a process finds things.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The device node.
    pub node: &'static str,
    /// The value of `QAT_IOMMU_PF`.
    pub pf: fn() -> Option<OsString>,
    /// Whether the processor says that it runs under a hypervisor.
    pub in_vm: fn() -> bool,
}

impl Settings {
    /// What holds outside of tests.
    pub const REAL: Self = Self {
        node: DEVICE,
        pf: || std::env::var_os("QAT_IOMMU_PF"),
        in_vm: hypervisor,
    };

    /// The PF that the user wants, if any.
    pub(crate) fn wanted_pf(&self) -> Result<Option<PfAddress>, Failure> {
        let Some(value) = (self.pf)().filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        match value.to_string_lossy().parse() {
            Ok(pf) => Ok(Some(pf)),
            Err(error) => Err(Failure::new(
                libc::EINVAL,
                format!("the environment variable QAT_IOMMU_PF is wrong: {error}"),
            )),
        }
    }
}

/// The processor's hypervisor bit, which is what the kernel goes by as well.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn hypervisor() -> bool {
    // SAFETY: every x86-64 processor has the instruction and this leaf.
    let leaf = unsafe { core::arch::x86_64::__cpuid(1) };
    leaf.ecx & (1 << 31) != 0
}

#[cfg(not(target_arch = "x86_64"))]
fn hypervisor() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pf: fn() -> Option<OsString>) -> Settings {
        Settings {
            pf,
            ..Settings::REAL
        }
    }

    #[test]
    fn a_pf_is_named_or_not() {
        assert_eq!(with(|| None).wanted_pf(), Ok(None));
        assert_eq!(with(|| Some("".into())).wanted_pf(), Ok(None));
        let pf = with(|| Some("0000:6b:00.0".into())).wanted_pf();
        assert_eq!(pf, Ok(PfAddress::new(0, 0x6b, 0, 0)));
    }

    #[test]
    fn a_wrong_name_says_where_it_is() {
        let failure = with(|| Some("6b:00.0".into())).wanted_pf().unwrap_err();
        assert_eq!(failure.errno(), libc::EINVAL);
        assert!(failure.reason().contains("QAT_IOMMU_PF"));
        assert!(failure.reason().contains("domain:bus:device.function"));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn agrees_with_the_kernel_about_the_hypervisor() {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let flags = cpuinfo
            .lines()
            .find(|line| line.starts_with("flags"))
            .unwrap();
        let bit = flags.split_whitespace().any(|flag| flag == "hypervisor");
        assert_eq!(hypervisor(), bit);
    }
}
