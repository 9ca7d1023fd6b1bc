// SPDX-License-Identifier: GPL-2.0
//! Facts about the machine that the tests run in: what it was booted as, which
//! PFs are there, what memory and how many physical address bits it has, and
//! binding and unbinding a PF through sysfs.

use anyhow::{bail, ensure, Context as _, Result};
use qat_iommu_uapi as uapi;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::abi::{self, Context};
use crate::expect;

const DEVICES: &str = "/sys/bus/pci/devices";
/// A maker of devices, as PCI numbers them.
const INTEL: u16 = 0x8086;
/// The module's own PCI driver.
pub const OWN_DRIVER: &str = "qat_iommu";

/// The virtual IOMMU of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Iommu {
    Intel,
    IntelFs,
    Amd,
    Virtio,
    None,
}

/// What holds the PFs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PfState {
    Owned,
    Shared,
    Unbound,
}

/// What the PFs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    Pf,
    Edu,
}

impl Device {
    /// Whether a PF may have these ids.
    fn has(self, ids: (u16, u16)) -> bool {
        ids == self.ids() || (self == Self::Pf && ids == (INTEL, 0x4942))
    }

    /// Vendor and device id of the first.
    pub fn ids(self) -> (u16, u16) {
        match self {
            Self::Pf => (INTEL, 0x4940),
            Self::Edu => (0x1234, 0x11e8),
        }
    }
}

/// How the machine was booted, told by whoever booted it.
#[derive(Clone, Debug, clap::Args)]
pub struct Host {
    /// The machine's IOMMU
    #[arg(long, value_enum, default_value = "intel")]
    pub iommu: Iommu,
    /// What holds the PFs
    #[arg(long, value_enum, default_value = "owned")]
    pub pf_state: PfState,
    /// How many PFs there are
    #[arg(long, default_value_t = 1)]
    pub pfs: usize,
    /// What the PFs are
    #[arg(long, value_enum, default_value = "pf")]
    pub device: Device,
    /// The machine looks like a virtual machine
    #[arg(long)]
    pub guest: bool,
    /// Devices of the kernel's own drivers are not translated (iommu=pt)
    #[arg(long)]
    pub passthrough: bool,
    /// The top of the project's tree
    #[arg(long, default_value = ".")]
    pub tree: PathBuf,
}

impl Host {
    /// Whether the PF's accesses are translated.
    pub fn translated(&self) -> bool {
        self.iommu != Iommu::None && !(self.passthrough && self.pf_state == PfState::Shared)
    }

    /// Whether ranges at fixed IOVAs can be mapped.
    pub fn takes_fixed(&self) -> bool {
        !(self.iommu == Iommu::Virtio && self.pf_state == PfState::Shared)
    }

    /// Every PF, by address.
    pub fn all_pfs(&self) -> Result<Vec<Bdf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(DEVICES).context("no PCI in this machine")? {
            let path = entry?.path();
            let is_vf = path.join("physfn").exists();
            if !is_vf && self.device.has(ids(&path)?) {
                let name = path.file_name().context("a device has a name")?;
                found.push(Bdf(name.to_string_lossy().into_owned()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Some device of Intel's that is no PF and that no driver holds.
    pub fn other_intel_device(&self) -> Result<Bdf> {
        for entry in fs::read_dir(DEVICES)? {
            let path = entry?.path();
            let name = path.file_name().context("a device has a name")?;
            let device = Bdf(name.to_string_lossy().into_owned());
            let ids = ids(&path)?;
            if ids.0 == INTEL && !self.device.has(ids) && device.driver().is_none() {
                return Ok(device);
            }
        }
        bail!("every device of Intel's in this machine has a driver")
    }

    /// The first PF.
    pub fn pf(&self) -> Result<Bdf> {
        self.all_pfs()?.into_iter().next().with_context(|| {
            let (vendor, device) = self.device.ids();
            format!("this machine has no device {vendor:04x}:{device:04x}")
        })
    }
}

fn ids(device: &Path) -> Result<(u16, u16)> {
    let read = |file: &str| -> Result<u16> {
        let text = fs::read_to_string(device.join(file))?;
        parse_id(&text).with_context(|| format!("strange {file} of {}", device.display()))
    };
    Ok((read("vendor")?, read("device")?))
}

fn parse_id(text: &str) -> Option<u16> {
    u16::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

/// The address of a PCI function, as sysfs writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bdf(pub String);

impl Bdf {
    pub fn path(&self) -> PathBuf {
        Path::new(DEVICES).join(&self.0)
    }

    /// The driver that holds it.
    pub fn driver(&self) -> Option<String> {
        let link = fs::read_link(self.path().join("driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    /// The driver that it is kept for.
    pub fn wanted_driver(&self) -> Result<Option<String>> {
        let text = fs::read_to_string(self.path().join("driver_override"))?;
        let name = text.trim();
        Ok((name != "(null)" && !name.is_empty()).then(|| name.to_owned()))
    }

    /// Takes it from its driver.
    pub fn unbind(&self) -> Result<()> {
        let driver = self
            .driver()
            .with_context(|| format!("{} has no driver", self.0))?;
        fs::write(format!("/sys/bus/pci/drivers/{driver}/unbind"), &self.0)
            .with_context(|| format!("cannot unbind {} from {driver}", self.0))
    }

    /// Gives it to a driver, and waits until that holds it.
    pub fn bind(&self, driver: &str) -> Result<()> {
        let path = self.path().join("driver_override");
        fs::write(&path, driver).with_context(|| format!("cannot write {}", path.display()))?;
        if self.driver().as_deref() != Some(driver) {
            fs::write(format!("/sys/bus/pci/drivers/{driver}/bind"), &self.0)
                .with_context(|| format!("cannot bind {} to {driver}", self.0))?;
        }
        self.wait_for(driver)
    }

    /// Waits until a driver holds it.
    pub fn wait_for(&self, driver: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.driver().as_deref() != Some(driver) {
            ensure!(
                Instant::now() < deadline,
                "{} is held by {:?}, not by {driver}",
                self.0,
                self.driver()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Segment, bus, device and function, as the interface writes them.
    pub fn numbers(&self) -> Result<(u32, u8, u8, u8)> {
        parse_bdf(&self.0).with_context(|| format!("strange address {}", self.0))
    }

    /// Chooses its space for a context; the number of the space.
    pub fn attach(&self, context: &Context) -> Result<u64> {
        let (segment, bus, device, function) = self.numbers()?;
        let mut request = uapi::qat_iommu_attach {
            flags: 0,
            segment,
            bus,
            device,
            function,
            ..abi::attach_request()
        };
        let answer = context.ioctl(uapi::QAT_IOMMU_ATTACH, &mut request);
        expect::succeeds(&format!("ATTACH to {}", self.0), answer)?;
        Ok(request.space)
    }

    /// The physical range of its first BAR.
    pub fn bar0(&self) -> Result<RangeInclusive<u64>> {
        let text = fs::read_to_string(self.path().join("resource"))?;
        parse_resource(&text).with_context(|| format!("{} has no BAR 0", self.0))
    }
}

fn parse_bdf(text: &str) -> Option<(u32, u8, u8, u8)> {
    let (segment, rest) = text.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    Some((
        u32::from_str_radix(segment, 16).ok()?,
        u8::from_str_radix(bus, 16).ok()?,
        u8::from_str_radix(device, 16).ok()?,
        u8::from_str_radix(function, 16).ok()?,
    ))
}

fn parse_resource(text: &str) -> Option<RangeInclusive<u64>> {
    let mut words = text.lines().next()?.split_whitespace();
    let mut number = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let (first, last) = (number()?, number()?);
    (last > first).then_some(first..=last)
}

/// The ranges of system memory, in order.
pub fn ram() -> Result<Vec<RangeInclusive<u64>>> {
    let text = fs::read_to_string("/proc/iomem").context("cannot read /proc/iomem")?;
    let ranges = parse_ram(&text);
    ensure!(
        ranges.iter().any(|range| *range.end() != 0),
        "/proc/iomem hides the addresses; run as root"
    );
    Ok(ranges)
}

fn parse_ram(text: &str) -> Vec<RangeInclusive<u64>> {
    text.lines()
        .filter_map(|line| {
            let (range, what) = line.split_once(" : ")?;
            // Inner ranges are indented.
            if what != "System RAM" || range.starts_with(' ') {
                return None;
            }
            let (first, last) = range.split_once('-')?;
            let first = u64::from_str_radix(first, 16).ok()?;
            Some(first..=u64::from_str_radix(last, 16).ok()?)
        })
        .collect()
}

/// How many bits a physical address of this processor has.
pub fn physical_bits() -> Result<u32> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    parse_physical_bits(&text).context("/proc/cpuinfo does not tell the address sizes")
}

fn parse_physical_bits(text: &str) -> Option<u32> {
    let line = text
        .lines()
        .find(|line| line.starts_with("address sizes"))?;
    let (_, value) = line.split_once(':')?;
    value.trim().split_once(' ')?.0.parse().ok()
}

/// The kernel's log as it stands.
pub fn kernel_log() -> Result<String> {
    let output = std::process::Command::new("dmesg")
        .output()
        .context("cannot run dmesg")?;
    if !output.status.success() {
        bail!("dmesg: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A line for the kernel log.
pub fn say(text: &str) -> Result<()> {
    fs::write("/dev/kmsg", text).context("cannot write to the kernel log")
}

/// What the kernel logs while something is done.
pub fn logged<T>(act: impl FnOnce() -> Result<T>) -> Result<(T, String)> {
    let mark = format!("qat-iommu-selftest mark {:?}", Instant::now());
    say(&mark)?;
    let value = act()?;
    let log = kernel_log()?;
    let new = log.rsplit_once(&mark).map_or("", |(_, new)| new);
    Ok((value, new.to_owned()))
}

/// The mode of the default space.
pub fn mode() -> Result<u32> {
    Ok(Context::open()?.info()?.fixed.mode)
}

/// The name of a mode.
pub fn mode_name(mode: u32) -> &'static str {
    match mode {
        uapi::QAT_IOMMU_MODE_NONE => "none",
        uapi::QAT_IOMMU_MODE_OWNED => "owned",
        uapi::QAT_IOMMU_MODE_SHARED => "shared",
        uapi::QAT_IOMMU_MODE_UNTRANSLATED => "untranslated",
        uapi::QAT_IOMMU_MODE_VM => "VM",
        _ => "unknown",
    }
}

/// The default space is in this mode.
pub fn expect_mode(want: u32) -> Result<()> {
    let got = mode()?;
    ensure!(
        got == want,
        "INFO: expected mode {}, got {} ({got})",
        mode_name(want),
        mode_name(got)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_sysfs_writes_them() {
        assert_eq!(parse_bdf("0000:01:1f.7"), Some((0, 1, 0x1f, 7)));
        assert_eq!(parse_bdf("10001:ff:00.0"), Some((0x10001, 0xff, 0, 0)));
        assert_eq!(parse_bdf("01:00.0"), None);
        assert_eq!(parse_bdf("0000:01:1f"), None);
        assert_eq!(parse_id("0x8086\n"), Some(0x8086));
        assert_eq!(parse_id("8086"), None);
    }

    #[test]
    fn only_outer_ram_ranges_count() {
        let text = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n\
                    00100000-3ffdefff : System RAM\n  01000000-01ffffff : Kernel code\n\
                    fec00000-fec003ff : IOAPIC 0\n";
        assert_eq!(parse_ram(text), [0x1000..=0x9fbff, 0x10_0000..=0x3ffd_efff]);
    }

    #[test]
    fn physical_bits_come_first() {
        let text = "flags : fpu\naddress sizes\t: 40 bits physical, 48 bits virtual\n";
        assert_eq!(parse_physical_bits(text), Some(40));
        assert_eq!(parse_physical_bits("flags : fpu\n"), None);
    }

    #[test]
    fn a_missing_bar_is_noticed() {
        let text = "0x00000000fe800000 0x00000000fe8fffff 0x0000000000040200\n";
        assert_eq!(parse_resource(text), Some(0xfe80_0000..=0xfe8f_ffff));
        let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
        assert_eq!(parse_resource(none), None);
    }
}
