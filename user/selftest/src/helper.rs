// SPDX-License-Identifier: GPL-2.0
//! Second processes: this program again, doing one thing that a test needs done
//! by someone else, such as holding a mapping and then dying in some way.

pub mod user;

use anyhow::{bail, ensure, Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::FdFlags;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::abi::Context;
use crate::expect;
use crate::mem::{fresh_bytes, Buffer, PAGE};

/// How many pages it holds: it would be luck to see a single freed one again.
pub const HELD: usize = 64;

/// What the second process does.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Task {
    /// Map pages from an IOVA on and do what standard input says: `exit`, or `exec` another program
    Hold {
        #[arg(long)]
        iova: u64,
        /// An inherited descriptor instead of a context of its own
        #[arg(long)]
        fd: Option<i32>,
    },
    /// Try to map as the superuser of a user namespace of its own
    Namespace {
        #[arg(long)]
        iova: u64,
    },
    /// Play some of the fuzzer's workers
    Fuzz {
        /// What all of them share
        #[arg(long)]
        fd: i32,
        #[arg(long)]
        process: usize,
        #[arg(long)]
        plan: String,
    },
    /// Do something with buffers of its own
    User {
        /// An inherited descriptor instead of a context of its own
        #[arg(long)]
        fd: Option<i32>,
        #[command(subcommand)]
        task: user::Task,
    },
}

/// Runs one task; the second process ends with it.
pub fn run(task: &Task) -> Result<()> {
    match task {
        Task::Hold { iova, fd } => hold(*iova, *fd),
        Task::Namespace { iova } => namespace(*iova),
        Task::Fuzz { fd, process, plan } => crate::fuzz::second(*fd, *process, plan),
        Task::User { fd, task } => user::run(task, *fd),
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Bytes as both processes write them in a line.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn heard() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// The descriptor that the parent left open.
fn inherited(number: i32) -> Result<OwnedFd> {
    ensure!(number > 2, "not a descriptor of its own");
    // SAFETY: the parent made this descriptor for this process alone; the standard streams are
    // excluded above, and nothing else is open yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn hold(iova: u64, fd: Option<i32>) -> Result<()> {
    let context = match fd {
        None => Context::open()?,
        Some(number) => inherited(number)?.into(),
    };
    let size = u64::try_from(PAGE)?;
    let mut pages = Vec::new();
    let mut addresses = Vec::new();
    for index in 0..HELD {
        let page = Buffer::page()?;
        page.write(0, &fresh_bytes(PAGE));
        let place = iova + u64::try_from(index)? * size;
        expect::succeeds("map", context.map(page.phys(), place, size))?;
        addresses.push(format!("{:x}", page.phys()));
        pages.push(page);
    }
    say(&addresses.join(" "))?;

    match heard()?.as_str() {
        "exec" => {
            // What is sent before this answer might be read by this program still.
            say("next")?;
            bail!("exec: {}", Command::new("cat").exec())
        }
        // Without running destructors: the kernel cleans up.
        _ => std::process::exit(0),
    }
}

fn namespace(iova: u64) -> Result<()> {
    let context = Context::open()?;
    let page = Buffer::page()?;
    // SAFETY: only the user namespace changes; no descriptor table is parted from another's.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER) }
        .context("cannot make a user namespace")?;
    let answer = context.map(page.phys(), iova, u64::try_from(PAGE)?);
    say(&answer.map_or_else(expect::name, |_| "success".to_owned()))
}

/// A running second process.
pub struct Helper {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// The physical addresses of the pages that it mapped.
    pub phys: Vec<u64>,
}

impl Helper {
    /// Starts one with these arguments; `inherited` stays open in it.
    fn start(arguments: &[String], inherited: Option<BorrowedFd<'_>>) -> Result<Self> {
        if let Some(fd) = inherited {
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        let spawned = Command::new("/proc/self/exe")
            .arg("helper")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        if let Some(fd) = inherited {
            rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC)?;
        }
        let mut child = spawned.context("cannot start a second process")?;
        let stdin = child.stdin.take().context("its input is a pipe")?;
        let stdout = child.stdout.take().context("its output is a pipe")?;
        Ok(Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            phys: Vec::new(),
        })
    }

    /// One that holds mappings of pages from `iova` on.
    pub fn holding(iova: u64) -> Result<Self> {
        Self::holding_through(iova, None)
    }

    /// The same through a descriptor of this process.
    pub fn holding_through(iova: u64, context: Option<&Context>) -> Result<Self> {
        let mut arguments = vec!["hold".to_owned(), "--iova".to_owned(), iova.to_string()];
        if let Some(context) = context {
            arguments.extend(["--fd".to_owned(), context.number().to_string()]);
        }
        let mut helper = Self::start(&arguments, context.map(AsFd::as_fd))?;
        let line = helper.line().context("the second process could not map")?;
        helper.phys = line
            .split(' ')
            .map(|address| u64::from_str_radix(address, 16))
            .collect::<Result<_, _>>()?;
        Ok(helper)
    }

    /// One that does something with buffers of its own, through a context of its own or this one.
    pub fn doing(task: &user::Task, context: Option<&Context>) -> Result<Self> {
        Self::doing_with(task, context.map(AsFd::as_fd))
    }

    /// The same with a descriptor of another kind, for tasks that want one.
    pub fn doing_with(task: &user::Task, fd: Option<BorrowedFd<'_>>) -> Result<Self> {
        let mut arguments = vec!["user".to_owned()];
        if let Some(fd) = fd {
            arguments.extend(["--fd".to_owned(), fd.as_raw_fd().to_string()]);
        }
        arguments.extend(task.arguments());
        Self::start(&arguments, fd)
    }

    /// One that tries something by itself and says `ok` if all went as it should.
    pub fn succeeds(task: &user::Task, context: Option<&Context>) -> Result<()> {
        let mut helper = Self::doing(task, context)?;
        expect::equal("the second process", helper.line()?.as_str(), "ok")?;
        helper.wait()
    }

    /// Its next line, as hexadecimal numbers.
    pub fn numbers(&mut self) -> Result<Vec<u64>> {
        let line = self.line()?;
        let numbers = line.split(' ').map(|word| u64::from_str_radix(word, 16));
        Ok(numbers.collect::<Result<_, _>>()?)
    }

    /// What mapping says to the superuser of a user namespace.
    pub fn map_in_namespace(iova: u64) -> Result<String> {
        let arguments = [
            "namespace".to_owned(),
            "--iova".to_owned(),
            iova.to_string(),
        ];
        let mut helper = Self::start(&arguments, None)?;
        let answer = helper.line()?;
        helper.wait()?;
        Ok(answer)
    }

    /// Its next line.
    pub fn line(&mut self) -> Result<String> {
        if self.stdout.buffer().is_empty() {
            let patience = Timespec {
                tv_sec: 120,
                tv_nsec: 0,
            };
            let mut wanted = [PollFd::new(self.stdout.get_ref(), PollFlags::IN)];
            let ready = rustix::event::poll(&mut wanted, Some(&patience))?;
            ensure!(ready > 0, "the second process does not answer");
        }
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(
            !line.is_empty(),
            "the second process ended without an answer"
        );
        Ok(line.trim().to_owned())
    }

    /// Sends it a line.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}").context("the second process is gone")
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it has ended by itself.
    pub fn wait(mut self) -> Result<()> {
        self.ended()
    }

    /// The same, for one that has left a process of its own behind, which has its streams.
    pub fn ended(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "the second process ended with {status}");
        Ok(())
    }

    /// Waits for its end; the signal that ended it, if one did.
    pub fn signal(mut self) -> Result<Option<i32>> {
        Ok(self.child.wait()?.signal())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Already waited for, or a test that failed: nothing may stay behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
