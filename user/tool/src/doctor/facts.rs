// SPDX-License-Identifier: GPL-2.0
//! What more than one check wants to know, looked up once.

use qat_iommu::{Context, Info};

use crate::host::{Function, Host};

#[derive(Debug)]
pub struct Facts {
    pub host: Host,
    pub pfs: Vec<Function>,
    pub in_vm: bool,
    /// What the module says of its PFs; an error if its node cannot be used.
    pub info: Result<Info, qat_iommu::Error>,
    /// Bytes that a program is to have mapped at a time.
    pub memlock: u64,
}

impl Facts {
    pub fn gather(memlock: u64) -> Self {
        let host = Host::here();
        Self {
            pfs: host.pfs(),
            in_vm: host.in_vm(),
            info: Context::open().and_then(|context| context.info()),
            host,
            memlock,
        }
    }

    /// Whether the module leaves everything alone, because this is a VM or it was told so.
    pub fn nothing_is_done(&self) -> bool {
        match self.host.module_parameter("virt").as_deref() {
            Some("host") => false,
            Some("vm") => true,
            _ => self.in_vm,
        }
    }

    /// What the module says of one PF.
    pub fn usable(&self, pf: &Function) -> Option<&qat_iommu::Pf> {
        let info = self.info.as_ref().ok()?;
        info.pfs.iter().find(|usable| usable.address == pf.address)
    }
}
