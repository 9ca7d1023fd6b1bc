// SPDX-License-Identifier: GPL-2.0
//! Who may look: the superuser alone. Nobody writes, and who reads keeps the module.

use anyhow::Result;
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::abi::Context;
use crate::credentials::{apart, become_nobody};
use crate::expect;
use crate::host::Host;
use crate::ktap::{list_tests, Test};
use crate::module::{self, QAT_IOMMU};
use crate::watching::{fdinfo, path, LISTINGS};

pub fn tests() -> Vec<Test<Host>> {
    list_tests![
        only_the_superuser_reads,
        there_is_nothing_else,
        who_reads_keeps_the_module,
    ]
}

fn only_the_superuser_reads(_: &Host) -> Result<()> {
    let open = |name: &str, write: bool| {
        let file = File::options().read(!write).write(write).open(path(name));
        file.map(drop)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    for name in LISTINGS {
        let about = fs::metadata(path(name))?;
        expect::equal(name, about.mode() & 0o7777, 0o400)?;
        expect::equal("its owner", about.uid(), 0)?;
        expect::succeeds(name, open(name, false))?;
        apart(|| {
            become_nobody()?;
            expect::fails("reading as nobody", open(name, false), Errno::ACCESS)
        })?;
    }
    // One's own context is one's own to look at, and another's is not.
    let context = Context::open()?;
    fdinfo(&context).map(drop)?;
    apart(|| {
        become_nobody()?;
        let other = fs::read_to_string("/proc/1/fdinfo/0");
        expect::holds("nobody reads another's fdinfo", other.is_err())
    })
}

fn there_is_nothing_else(_: &Host) -> Result<()> {
    let mut found: Vec<String> = fs::read_dir(crate::watching::FOLDER)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    found.sort();
    let mut known = LISTINGS.map(str::to_owned);
    known.sort();
    expect::equal("files", found, known.to_vec())
}

fn who_reads_keeps_the_module(_: &Host) -> Result<()> {
    for name in LISTINGS {
        let file = File::open(path(name))?;
        let removed = module::unload(QAT_IOMMU);
        expect::holds("the module cannot be removed", removed.is_err())?;
        drop(file);
    }
    Ok(())
}
