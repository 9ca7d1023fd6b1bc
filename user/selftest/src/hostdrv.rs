// SPDX-License-Identifier: GPL-2.0
//! The driver of shared PFs, `tests/hostdrv`, as tests use it: memory that it holds
//! through the DMA API, a load that it keeps up in the background, transfers that it
//! makes in between, and whether the DMA API flushes the IOTLB at once or later.

use anyhow::{bail, ensure, Context as _, Result};
use std::fs;
use std::time::{Duration, Instant};

use crate::dma::pf::{Copies, Verdict};
use crate::host::Bdf;
use crate::module::{CommandFile, HOSTDRV};

/// The driver of one PF.
pub struct Driver {
    pf: Bdf,
    commands: CommandFile,
}

/// Memory that the driver has mapped.
pub struct Held {
    id: u32,
    /// Where the device sees it.
    pub dma: u64,
}

impl Driver {
    pub fn of(pf: &Bdf) -> Self {
        Self {
            pf: pf.clone(),
            commands: CommandFile::hostdrv(&pf.0),
        }
    }

    /// Runs a command whose answer is known.
    pub fn expect(&self, command: &str, want: &str) -> Result<()> {
        self.commands.expect(command, want)
    }

    pub fn run(&self, command: &str) -> Result<String> {
        self.commands.run(command)
    }

    fn hold(&self, command: &str) -> Result<Held> {
        let answer = self.run(command)?;
        let words: Vec<&str> = answer.split(' ').collect();
        let &["id", id, "dma", dma] = words.as_slice() else {
            bail!("{command}: strange answer {answer:?}");
        };
        Ok(Held {
            id: id.parse()?,
            dma: number(dma)?,
        })
    }

    /// Coherent memory.
    pub fn coherent(&self, size: usize) -> Result<Held> {
        self.hold(&format!("coherent {size}"))
    }

    /// Streaming memory, which can be taken from the device before it is freed.
    pub fn stream(&self, size: usize) -> Result<Held> {
        self.hold(&format!("stream {size}"))
    }

    pub fn fill(&self, held: &Held, byte: u8) -> Result<()> {
        self.expect(&format!("fill {} {byte}", held.id), "ok")
    }

    /// Takes streaming memory from the device.
    pub fn unmap(&self, held: &Held) -> Result<()> {
        self.expect(&format!("unmap {}", held.id), "ok")
    }

    pub fn free(&self, held: Held) -> Result<()> {
        self.expect(&format!("free {}", held.id), "ok")
    }

    /// What the device reads here, with nothing between this call and the access that a timer of
    /// the processor could do; nothing if the device says that it was refused.
    pub fn peek(&self, iova: u64) -> Result<Option<u64>> {
        let answer = self.run(&format!("peek {iova:#x}"))?;
        match answer.starts_with("refused") {
            true => Ok(None),
            false => number(&answer).map(Some),
        }
    }

    /// A load of so many threads, with buffers of up to so many bytes.
    pub fn load(&self, threads: usize, most: usize) -> Result<Load<'_>> {
        self.expect(&format!("start {threads} {most}"), "ok")?;
        Ok(Load {
            driver: self,
            running: true,
        })
    }

    /// Has the DMA API flush at once (`false`), or later (`true`). The driver may lose all that it
    /// has mapped: it is bound anew where that is the only way.
    pub fn set_lazy(&self, lazy: bool) -> Result<()> {
        let want = if lazy { "DMA-FQ" } else { "DMA" };
        let file = self.pf.path().join("iommu_group/type");
        let is = || fs::read_to_string(&file).map(|text| text.trim() == want);
        if is()? {
            return Ok(());
        }
        // Going to lazy mode works with a driver bound, going back does not.
        if fs::write(&file, want).is_err() {
            self.pf.unbind()?;
            let written = fs::write(&file, want);
            self.pf.bind(HOSTDRV)?;
            written.with_context(|| format!("cannot write {}", file.display()))?;
        }
        ensure!(is()?, "the group of {} is not {want}", self.pf.0);
        Ok(())
    }
}

fn number(text: &str) -> Result<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).with_context(|| format!("{text:?} is no number"))
}

impl Copies for Driver {
    fn copy(&self, source: u64, destination: u64, len: u64) -> Result<Verdict> {
        let command = format!("copy {source:#x} {destination:#x} {len}");
        let answer = self.run(&command)?;
        let words: Vec<&str> = answer.split(' ').collect();
        match words.as_slice() {
            ["done"] => Ok(Verdict::Done),
            ["refused", status, at] => Verdict::fault(status.parse()?, number(at)?),
            _ => bail!("{command}: strange answer {answer:?}"),
        }
    }
}

/// Threads of the driver that transfer data until this is stopped.
pub struct Load<'a> {
    driver: &'a Driver,
    running: bool,
}

impl Load<'_> {
    /// Ends it; how many transfers it made. Fails if one was lost, refused, or had wrong data.
    pub fn stop(mut self) -> Result<u64> {
        self.running = false;
        let answer = self.driver.run("stop").context("the driver's own DMA")?;
        let words: Vec<&str> = answer.split(' ').collect();
        match words.as_slice() {
            ["transfers", transfers, "bytes", _, "wrong", "0", "refused", "0", "failed", "0"] => {
                Ok(transfers.parse()?)
            }
            _ => bail!("stop: strange answer {answer:?}"),
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        if self.running {
            // The test has failed already.
            let _ = self.driver.run("stop");
        }
    }
}

/// How long tests that take their time go on: as long as that, times `QAT_IOMMU_TEST_LENGTH`.
pub fn lasting(time: Duration) -> impl Fn() -> bool {
    let length = std::env::var("QAT_IOMMU_TEST_LENGTH");
    let times = length.ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let end = Instant::now() + time * times;
    move || Instant::now() < end
}
