// SPDX-License-Identifier: GPL-2.0
//! `qat-iommu explain`: what a DMA fault was about. `line` reads what the kernel logs, `verdict`
//! decides by what was mapped at the time, `words` says it.

mod line;
mod verdict;
mod words;

use anyhow::{bail, ensure, Context as _, Result};
use serde::Serialize;
use std::io::{IsTerminal as _, Read as _};

use crate::host::Host;
use crate::output::Output;
use crate::records::Records;
use crate::{kernel_log, number};
use line::Fault;
use verdict::{Scene, Verdict};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A line of the kernel log, or an address; else standard input is read
    #[arg(value_name = "LINE|ADDRESS")]
    what: Vec<String>,
}

/// A fault and what there is to say of it.
#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    fault: Fault,
    /// How many lines told of the same.
    times: usize,
    #[serde(flatten)]
    verdict: Verdict,
}

pub fn run(arguments: &Arguments, output: Output) -> Result<()> {
    let faults = faults(&arguments.what)?;
    let host = Host::here();
    let records = Records::read(&host)?;
    let scene = Scene::new(&host, &records);
    let mut explained: Vec<Explained> = Vec::new();
    for fault in faults {
        let same = explained
            .iter_mut()
            .find(|known| known.fault.is_same(&fault));
        match same {
            Some(known) => known.times += 1,
            None => explained.push(Explained {
                verdict: scene.judge(&fault),
                fault,
                times: 1,
            }),
        }
    }
    output.show(&explained, |explained| {
        let one = |one: &Explained| words::people(&one.fault, one.times, &one.verdict);
        explained.iter().map(one).collect::<Vec<_>>().join("\n")
    })
}

/// What is to be explained.
fn faults(what: &[String]) -> Result<Vec<Fault>> {
    if let [address] = what {
        if let Ok(address) = number::parse(address) {
            return Ok(vec![Fault::at(address)]);
        }
    }
    if !what.is_empty() {
        let text = what.join(" ");
        let Some(fault) = Fault::parse(&text) else {
            bail!(
                "that is neither an address nor a fault line of DMAR, AMD-Vi or virtio-iommu; \
                 give the line as one argument, in quotes: {text}"
            );
        };
        return Ok(vec![fault]);
    }
    let lines = if std::io::stdin().is_terminal() {
        kernel_log::read()
            .context("cannot read the kernel log; use sudo, or `dmesg | qat-iommu explain`")?
    } else {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text)?;
        String::from_utf8_lossy(&text)
            .lines()
            .map(String::from)
            .collect()
    };
    let faults: Vec<Fault> = lines.iter().filter_map(|line| Fault::parse(line)).collect();
    ensure!(
        !faults.is_empty(),
        "there is no DMA fault in {}",
        number::count(lines.len(), "line")
    );
    Ok(faults)
}
