// SPDX-License-Identifier: GPL-2.0
//! What the machine has to measure with: one device for each way, and the libraries. Who is bound
//! to which driver is scripts/guest/bench-init's to decide.

use std::path::{Path, PathBuf};

#[derive(Debug, Clone, clap::Args)]
pub struct Machine {
    /// PCI address of a device whose configuration space marks what is counted
    #[arg(long, default_value = "")]
    pub counter: String,
    /// PCI address of the device for VFIO type1
    #[arg(long, default_value = "")]
    pub type1: String,
    /// PCI address of the device for libusdm
    #[arg(long, default_value = "")]
    pub usdm: String,
    /// PCI address of the device for iommufd
    #[arg(long, default_value = "")]
    pub iommufd: String,
    /// Our library
    #[arg(long, default_value = "libqat_iommu.so.0")]
    pub libqat_iommu: PathBuf,
    /// Intel's
    #[arg(long, default_value = "/lib/libusdm.so.0")]
    pub libusdm: PathBuf,
}

impl Machine {
    pub fn has_vfio(&self) -> bool {
        !self.type1.is_empty() && Path::new("/dev/vfio/vfio").exists()
    }

    pub fn has_iommufd(&self) -> bool {
        !self.iommufd.is_empty() && Path::new("/dev/iommu").exists()
    }

    pub fn has_floor(&self) -> bool {
        Path::new("/dev/qat_floor").exists()
    }

    pub fn has_kernel_client(&self) -> bool {
        Path::new(crate::classic::KERNEL_CLIENT).exists()
    }
}
