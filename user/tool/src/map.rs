// SPDX-License-Identifier: GPL-2.0
//! `qat-iommu map`: a mapping that lasts while a command runs, or until a signal.

use anyhow::{ensure, Context as _, Result};
use clap::ValueEnum;
use memmap2::{MmapMut, MmapOptions};
use qat_iommu::{Access, Attach, Context, Iova, MappingMut, PfAddress, Phys, Placement};
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::number::{parse, parse_size, size};
use crate::output::Output;
use crate::signals;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Arguments {
    /// Map the physical range from this address on (root)
    #[arg(long, value_name = "ADDRESS", value_parser = parse, group = "what", requires = "size")]
    phys: Option<u64>,
    /// Map a fresh buffer of this program, of this size, at an IOVA that the kernel chooses
    #[arg(long, value_name = "SIZE", value_parser = parse_size, group = "what")]
    user: Option<u64>,
    /// How much of the physical range
    #[arg(long, value_parser = parse_size, conflicts_with = "user")]
    size: Option<u64>,
    /// Where the PFs are to see it; a physical range is seen at its own address otherwise
    #[arg(long, value_name = "ADDRESS", value_parser = parse)]
    iova: Option<u64>,
    /// What the PFs may do with it
    #[arg(long, value_enum, default_value = "rw")]
    access: Allowed,
    /// Map the buffer in the space of this PF (a physical range goes into every space)
    #[arg(long, conflicts_with = "phys")]
    pf: Option<PfAddress>,
    /// Take a buffer of huge pages
    #[arg(long, conflicts_with = "phys")]
    huge: bool,
    /// What to run meanwhile
    #[arg(last = true)]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Allowed {
    /// Read
    R,
    /// Write
    W,
    /// Read and write
    Rw,
}

impl From<Allowed> for Access {
    fn from(allowed: Allowed) -> Self {
        match allowed {
            Allowed::R => Access::Read,
            Allowed::W => Access::Write,
            Allowed::Rw => Access::ReadWrite,
        }
    }
}

#[derive(Serialize)]
struct Mapped {
    iova: u64,
    size: u64,
    phys: Option<u64>,
    pid: u32,
}

pub fn run(arguments: &Arguments, output: Output) -> Result<ExitCode> {
    // Before anything is mapped, so that no signal ends this unseen.
    let mut ended = signals::catch()?;
    let context = Context::open()?;
    match (arguments.phys, arguments.user) {
        (Some(phys), _) => {
            let length = arguments.size.unwrap_or_default();
            let iova = Iova::new(arguments.iova.unwrap_or(phys));
            let mapped =
                context.map_phys(Phys::new(phys), iova, length, arguments.access.into())?;
            let shown = shown(iova, mapped, Some(phys));
            let status = hold(arguments, &shown, &mut ended, output);
            context.unmap(iova, length)?;
            status
        }
        (None, user) => map_buffer(
            arguments,
            &context,
            user.unwrap_or_default(),
            &mut ended,
            output,
        ),
    }
}

fn map_buffer(
    arguments: &Arguments,
    context: &Context,
    length: u64,
    ended: &mut signal_hook::iterator::Signals,
    output: Output,
) -> Result<ExitCode> {
    if let Some(pf) = arguments.pf {
        context.attach(Attach::Pf(pf))?;
    }
    let mut buffer = allocate(length, arguments.huge)?;
    let placement = arguments
        .iova
        .map_or(Placement::Any, |iova| Placement::Fixed(Iova::new(iova)));
    let mapping = MappingMut::new(context, &mut buffer, arguments.access.into(), placement)?;
    let shown = shown(mapping.iova(), length, None);
    let status = hold(arguments, &shown, ended, output);
    mapping.unmap()?;
    status
}

fn allocate(length: u64, huge: bool) -> Result<MmapMut> {
    ensure!(length > 0, "a buffer has at least 1 byte");
    let mut options = MmapOptions::new();
    options.len(usize::try_from(length)?);
    if huge {
        options.huge(Some(21));
    }
    let hint = if huge {
        "; reserve huge pages with `echo N > /proc/sys/vm/nr_hugepages`"
    } else {
        ""
    };
    options
        .map_anon()
        .with_context(|| format!("no buffer of {} to be had{hint}", size(length)))
}

fn shown(iova: Iova, size: u64, phys: Option<u64>) -> Mapped {
    Mapped {
        iova: iova.get(),
        size,
        phys,
        pid: std::process::id(),
    }
}

/// Tells of the mapping and keeps it for as long as it is wanted; the command's status.
fn hold(
    arguments: &Arguments,
    mapped: &Mapped,
    ended: &mut signal_hook::iterator::Signals,
    output: Output,
) -> Result<ExitCode> {
    let command = arguments.command.split_first();
    if command.is_none() || output.is_json() {
        output.show(mapped, |mapped| {
            let until = format!("until this program (pid {}) gets a signal", mapped.pid);
            format!(
                "{} at IOVA {:#x}, {until}\n",
                size(mapped.size),
                mapped.iova
            )
        })?;
    }
    let Some((program, rest)) = command else {
        ended.forever().next();
        return Ok(ExitCode::SUCCESS);
    };
    let mut child = Command::new(program);
    child.args(rest);
    child.env("QAT_IOMMU_IOVA", format!("{:#x}", mapped.iova));
    child.env("QAT_IOMMU_SIZE", format!("{:#x}", mapped.size));
    if let Some(phys) = mapped.phys {
        child.env("QAT_IOMMU_PHYS", format!("{phys:#x}"));
    }
    let child = child.spawn();
    let mut child = child.with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // A signal that is meant to end this program ends the command, and so this program.
        let pid = rustix::process::Pid::from_child(&child);
        if let Some(signal) = signals::within(ended, Duration::from_millis(20)) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    };
    // As a shell does: 128 and the signal's number.
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(ExitCode::from(
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255),
    ))
}
