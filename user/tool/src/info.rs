// SPDX-License-Identifier: GPL-2.0
//! `qat-iommu info`: the usable PFs, and the space that a program gets by default.

use qat_iommu::{Context, Info, Mode, Pf};
use serde::Serialize;
use std::fmt::Write as _;

use crate::host::Host;
use crate::number::page_sizes;
use crate::output::{table, Output};

#[derive(Serialize)]
struct Shown {
    abi_version: u32,
    mode: &'static str,
    space: Option<u64>,
    aperture: Option<[u64; 2]>,
    page_sizes: u64,
    reserved: Vec<[u64; 2]>,
    generation: u64,
    iommu_pages: u64,
    pfs: Vec<ShownPf>,
    parameters: Parameters,
}

#[derive(Serialize)]
struct ShownPf {
    address: String,
    id: String,
    driver: Option<String>,
    space: u64,
    owned: bool,
    translated: bool,
    incomplete: bool,
    fixed: bool,
}

/// What the module was loaded with.
#[derive(Serialize)]
struct Parameters {
    ids: Option<String>,
    shared_fixed: Option<String>,
    phys: Option<String>,
    virt: Option<String>,
}

pub fn run(output: Output) -> anyhow::Result<()> {
    let info = Context::open()?.info()?;
    output.show(&shown(&Host::here(), &info), people)
}

/// A mode in one word.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::None => "none",
        Mode::Owned => "owned",
        Mode::Shared => "shared",
        Mode::Untranslated => "untranslated",
        Mode::Vm => "vm",
        _ => "unknown",
    }
}

fn shown(host: &Host, info: &Info) -> Shown {
    let range = |range: &qat_iommu::IovaRange| [range.first.get(), range.last.get()];
    let parameter = |name| {
        host.module_parameter(name)
            .filter(|value| !value.is_empty())
    };
    Shown {
        abi_version: info.abi_version,
        mode: mode_name(info.mode),
        space: info.space.map(|space| space.0),
        aperture: info.aperture.as_ref().map(range),
        page_sizes: info.page_sizes,
        reserved: info.reserved.iter().map(range).collect(),
        generation: info.generation,
        iommu_pages: info.iommu_pages,
        pfs: info.pfs.iter().map(|pf| shown_pf(host, pf)).collect(),
        parameters: Parameters {
            ids: parameter("ids"),
            shared_fixed: parameter("shared_fixed"),
            phys: parameter("phys"),
            virt: parameter("virt"),
        },
    }
}

fn shown_pf(host: &Host, pf: &Pf) -> ShownPf {
    ShownPf {
        address: pf.address.to_string(),
        id: format!("{:04x}:{:04x}", pf.vendor_id, pf.device_id),
        driver: host
            .function(pf.address)
            .and_then(|function| function.driver),
        space: pf.space.0,
        owned: pf.owned,
        translated: pf.translated,
        incomplete: pf.incomplete,
        fixed: !pf.no_fixed,
    }
}

fn people(shown: &Shown) -> String {
    let mut text = String::new();
    let mode = match shown.mode {
        "none" => "no usable PF; `qat-iommu doctor` says why",
        "owned" => "owned: PFs that are bound to qat_iommu",
        "shared" => "shared: a PF that its own driver holds",
        "untranslated" => "not translated: only IOVAs equal to the physical address",
        "vm" => "virtual machine: maps and unmaps succeed and do nothing",
        other => other,
    };
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<15}{value}");
    };
    line("mode", mode.into());
    if let Some(space) = shown.space {
        line("space", space.to_string());
    }
    if let Some([first, last]) = shown.aperture {
        line("addresses", format!("{first:#x} to {last:#x}"));
        line("page sizes", page_sizes(shown.page_sizes));
    }
    for [first, last] in &shown.reserved {
        line("reserved", format!("{first:#x} to {last:#x}"));
    }
    line("IOMMU tables", format!("{} pages", shown.iommu_pages));
    if !shown.pfs.is_empty() {
        let rows = shown.pfs.iter().map(row).collect();
        text += "\n";
        text += &table(["PF", "ID", "DRIVER", "SPACE", "STATE"], &[3], rows);
    }
    text
}

fn row(pf: &ShownPf) -> [String; 5] {
    let mut state = vec![if pf.owned { "owned" } else { "shared" }];
    state.push(if pf.translated {
        "translated"
    } else {
        "not translated"
    });
    if pf.incomplete {
        state.push("lacks some mappings (see the kernel log)");
    }
    if !pf.fixed {
        state.push("no fixed addresses");
    }
    [
        pf.address.clone(),
        pf.id.clone(),
        pf.driver.clone().unwrap_or("-".into()),
        pf.space.to_string(),
        state.join(", "),
    ]
}
