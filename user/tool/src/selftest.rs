// SPDX-License-Identifier: GPL-2.0
//! `qat-iommu selftest`: map and unmap buffers for each PF, and where its device can be told to
//! copy, let it: what is mapped must arrive, what is not must not.

use anyhow::{ensure, Result};
use memmap2::{MmapMut, MmapOptions};
use qat_iommu::{Access, Attach, Context, Info, Mapping, MappingMut, Mode, PfAddress, Placement};
use serde::Serialize;
use std::process::ExitCode;

use crate::host::Host;
use crate::info::mode_name;
use crate::number::count;
use crate::output::Output;
use crate::testdev::Copier;

const PAGE: usize = 4096;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only with this PF
    #[arg(long)]
    pf: Option<PfAddress>,
}

#[derive(Serialize)]
struct Report {
    mode: &'static str,
    steps: Vec<Step>,
    failed: usize,
}

#[derive(Serialize)]
struct Step {
    pf: Option<String>,
    name: &'static str,
    status: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Skipped,
    Failed,
}

type Try = fn(&Context, &Copier) -> Result<()>;

const WITH_DEVICE: [(&str, Try); 4] = [
    ("the device reads and writes what is mapped", reaches),
    (
        "the device reaches nothing after the unmap",
        refused_after_unmap,
    ),
    (
        "the device does not write what is mapped for reading",
        read_only,
    ),
    ("the device does not reach past the end", past_the_end),
];

pub fn run(arguments: &Arguments, output: Output) -> Result<ExitCode> {
    let info = Context::open()?.info()?;
    if let Some(pf) = arguments.pf {
        let usable = info.pfs.iter().any(|usable| usable.address == pf);
        ensure!(usable, "{pf} is no usable PF; `qat-iommu info` lists them");
    }
    let mut steps = Vec::new();
    if info.pfs.is_empty() {
        steps.push(no_pf(&info)?);
    }
    let wanted = |pf: &&qat_iommu::Pf| arguments.pf.is_none_or(|wanted| wanted == pf.address);
    for pf in info.pfs.iter().filter(wanted) {
        of_pf(pf, &mut steps);
    }
    let failed = steps
        .iter()
        .filter(|step| step.status == Outcome::Failed)
        .count();
    let report = Report {
        mode: mode_name(info.mode),
        steps,
        failed,
    };
    output.show(&report, people)?;
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn no_pf(info: &Info) -> Result<Step> {
    ensure!(
        info.mode == Mode::Vm,
        "there is no usable PF; `qat-iommu doctor` says why"
    );
    Ok(Step {
        pf: None,
        name: "a virtual machine",
        status: Outcome::Skipped,
        text: Some("calls succeed and do nothing here".into()),
    })
}

fn of_pf(pf: &qat_iommu::Pf, steps: &mut Vec<Step>) {
    let mut done = |name, result: Result<Option<String>>| {
        let (status, text) = match result {
            Ok(None) => (Outcome::Ok, None),
            Ok(reason) => (Outcome::Skipped, reason),
            Err(error) => (Outcome::Failed, Some(format!("{error:#}"))),
        };
        let pf = Some(pf.address.to_string());
        steps.push(Step {
            pf,
            name,
            status,
            text,
        });
    };
    let context = || -> Result<Context> {
        let context = Context::open()?;
        context.attach(Attach::Pf(pf.address))?;
        Ok(context)
    };
    if !pf.translated {
        let why = "its accesses are not translated: there is nothing to map".to_owned();
        return done("map and unmap buffers", Ok(Some(why)));
    }
    done(
        "map and unmap buffers",
        context()
            .and_then(|context| round_trip(&context))
            .map(|()| None),
    );

    let copier = match copier(pf) {
        Ok(Ok(copier)) => copier,
        Ok(Err(reason)) => return done("real DMA", Ok(Some(reason))),
        Err(error) => return done("real DMA", Err(error)),
    };
    for (name, attempt) in WITH_DEVICE {
        done(
            name,
            context()
                .and_then(|context| attempt(&context, &copier))
                .map(|()| None),
        );
    }
}

/// The device behind a PF, or why there is none to be used.
fn copier(pf: &qat_iommu::Pf) -> Result<Result<Copier, String>> {
    let host = Host::here();
    if !pf.owned {
        return Ok(Err("its own driver uses the device".into()));
    }
    if host.lockdown().is_some() {
        return Ok(Err(
            "the kernel is locked down: registers cannot be mapped".into()
        ));
    }
    let Some(function) = host.function(pf.address) else {
        return Ok(Err("it is gone".into()));
    };
    let copier = Copier::open(&host, &function)?;
    Ok(copier.ok_or("this PF cannot be told to copy; only test devices can".into()))
}

fn buffer(pages: usize, byte: u8) -> Result<MmapMut> {
    let mut buffer = MmapOptions::new().len(pages * PAGE).map_anon()?;
    buffer.fill(byte);
    Ok(buffer)
}

fn round_trip(context: &Context) -> Result<()> {
    for pages in [1, 3, 256] {
        let mut bytes = buffer(pages, 1)?;
        let mapping = MappingMut::new(context, &mut bytes, Access::ReadWrite, Placement::Any)?;
        let listed = context.mappings().collect::<Result<Vec<_>, _>>()?;
        let here = listed.iter().any(|one| one.iovas.contains(mapping.iova()));
        ensure!(
            here,
            "a buffer that is mapped at {} is not listed",
            mapping.iova()
        );
        let (iova, length) = (mapping.iova(), u64::try_from(mapping.len())?);
        mapping.unmap()?;
        ensure!(
            context.unmap(iova, length).is_err(),
            "a second unmap at {iova} was not refused"
        );
    }
    Ok(())
}

/// What the first byte of a page is after the device has copied another page over it.
fn copied(mapping: &MappingMut, copier: &Copier, from: u64, to: u64) -> Result<Vec<u8>> {
    copier.copy(from, to, u64::try_from(PAGE)?)?;
    let mut seen = vec![0; PAGE];
    mapping.copy_out(0, &mut seen);
    Ok(seen)
}

fn reaches(context: &Context, copier: &Copier) -> Result<()> {
    let (source, mut target) = (buffer(1, 0x5a)?, buffer(1, 0)?);
    let source = Mapping::new(context, &source, Placement::Any)?;
    let target = MappingMut::new(context, &mut target, Access::ReadWrite, Placement::Any)?;
    let seen = copied(&target, copier, source.iova().get(), target.iova().get())?;
    let wrong = seen.iter().filter(|byte| **byte != 0x5a).count();
    ensure!(wrong == 0, "{wrong} of {PAGE} bytes did not arrive");
    Ok(())
}

fn refused_after_unmap(context: &Context, copier: &Copier) -> Result<()> {
    let (mut source, mut target) = (buffer(1, 0x5a)?, buffer(1, 0x11)?);
    let source = MappingMut::new(context, &mut source, Access::ReadWrite, Placement::Any)?;
    let target = MappingMut::new(context, &mut target, Access::ReadWrite, Placement::Any)?;
    let (from, to) = (source.iova().get(), target.iova().get());
    source.unmap()?;
    // Of a source that is refused, edu makes zeros.
    let seen = copied(&target, copier, from, to)?;
    ensure!(!seen.contains(&0x5a), "the device still read the buffer");
    Ok(())
}

fn read_only(context: &Context, copier: &Copier) -> Result<()> {
    let (source, mut target) = (buffer(1, 0x5a)?, buffer(1, 0x11)?);
    let source = Mapping::new(context, &source, Placement::Any)?;
    let target = match MappingMut::new(context, &mut target, Access::Read, Placement::Any) {
        Ok(mapping) => mapping,
        // Some IOMMUs cannot; then they say so.
        Err(error) if error.errno() == rustix::io::Errno::OPNOTSUPP.raw_os_error() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let seen = copied(&target, copier, source.iova().get(), target.iova().get())?;
    ensure!(
        seen.iter().all(|byte| *byte == 0x11),
        "the device wrote a buffer that it may only read"
    );
    Ok(())
}

fn past_the_end(context: &Context, copier: &Copier) -> Result<()> {
    let (source, mut target) = (buffer(1, 0x5a)?, buffer(2, 0x11)?);
    let source = Mapping::new(context, &source, Placement::Any)?;
    let (first, second) = target.split_at_mut(PAGE);
    let target = MappingMut::new(context, first, Access::ReadWrite, Placement::Any)?;
    let beyond = target.iova().get() + u64::try_from(PAGE)?;
    let other = context
        .mappings()
        .flatten()
        .any(|one| one.iovas.contains(qat_iommu::Iova::new(beyond)));
    if !other {
        copied(&target, copier, source.iova().get(), beyond)?;
        ensure!(
            second.iter().all(|byte| *byte == 0x11),
            "the device wrote past the end"
        );
    }
    Ok(())
}

fn people(report: &Report) -> String {
    let mut text = String::new();
    for step in &report.steps {
        let word = match step.status {
            Outcome::Ok => "  ok  ",
            Outcome::Skipped => " skip ",
            Outcome::Failed => " FAIL ",
        };
        let pf = step
            .pf
            .as_deref()
            .map(|pf| format!("{pf}: "))
            .unwrap_or_default();
        let why = step
            .text
            .as_deref()
            .map(|text| format!(": {text}"))
            .unwrap_or_default();
        text += &format!("[{word}] {pf}{}{why}\n", step.name);
    }
    text + &format!("{}\n", count(report.failed, "failure"))
}
