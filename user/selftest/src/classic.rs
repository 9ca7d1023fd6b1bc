// SPDX-License-Identifier: GPL-2.0
//! The C program of `c/classic.c`, running: the classic calls as any program
//! makes them, one line in, one line out.

use anyhow::{ensure, Context as _, Result};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::host::Host;

/// The running program.
pub struct Classic {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Classic {
    pub fn start(host: &Host) -> Result<Self> {
        let path = host.tree.join("build/test/classic");
        let mut child = Command::new(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", path.display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("its output is a pipe")?;
        Ok(Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    /// The answer to one line.
    pub fn ask(&mut self, line: &str) -> Result<String> {
        let stdin = self.stdin.as_mut().context("its input is open")?;
        writeln!(stdin, "{line}").context("the C program has ended")?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer)?;
        ensure!(!answer.is_empty(), "{line}: the C program ended");
        Ok(answer.trim().to_owned())
    }

    /// One line whose answer is known.
    pub fn expect(&mut self, line: &str, want: &str) -> Result<()> {
        let got = self.ask(line)?;
        ensure!(got == want, "{line}: expected {want:?}, got {got:?}");
        Ok(())
    }

    pub fn map(&mut self, phys: u64, iova: u64, size: u64, want: &str) -> Result<()> {
        self.expect(&format!("map {phys:#x} {iova:#x} {size:#x}"), want)
    }

    pub fn unmap(&mut self, iova: u64, size: u64, want: &str) -> Result<()> {
        self.expect(&format!("unmap {iova:#x} {size:#x}"), want)
    }

    /// Has it return from main.
    pub fn end(mut self) -> Result<()> {
        drop(self.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the C program ended with {status}");
        Ok(())
    }
}

impl Drop for Classic {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
