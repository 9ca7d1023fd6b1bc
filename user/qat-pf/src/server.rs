// SPDX-License-Identifier: GPL-2.0
//! The server: the socket that QEMU connects to, and the loop that waits for requests, room to send, and signals.
//! One client, then the end.

use crate::connection::{Connection, Input, Message};
use crate::device::{Device, Request};
use crate::proto::{self, command};
use crate::signals::Signals;
use anyhow::{bail, Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Requests served before the engine gets its turn.
const BATCH: usize = 64;
/// Refusals that are put into words. A client that makes no sense must not fill a pipe that nobody reads.
const COMPLAINTS: u32 = 10;

/// The listening socket, removed when dropped.
pub struct Endpoint {
    listener: UnixListener,
    path: PathBuf,
}

impl Endpoint {
    /// Binds the path. What is there already is left alone: to ask whether a server still lives behind a socket is
    /// to become its one client.
    pub fn bind(path: &Path) -> Result<Self> {
        let listener = UnixListener::bind(path).with_context(|| {
            format!(
                "cannot listen on {}: give --socket a path that does not exist yet, in a folder you can write to",
                path.display()
            )
        })?;
        listener.set_nonblocking(true)?;
        let path = path.to_path_buf();
        Ok(Endpoint { listener, path })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Why serving ended.
pub enum End {
    Disconnected,
    Signalled,
}

impl End {
    pub fn name(&self) -> &'static str {
        match self {
            End::Disconnected => "disconnect",
            End::Signalled => "signal",
        }
    }
}

/// Serves the device to the first client until it goes or a signal ends it.
pub fn serve(endpoint: &Endpoint, signals: &Signals, device: &mut Device) -> Result<End> {
    let served = serve_client(endpoint, signals, device);
    // A mark may have come after the last request, or together with the signal to end.
    take_marks(signals, device);
    served
}

fn serve_client(endpoint: &Endpoint, signals: &Signals, device: &mut Device) -> Result<End> {
    let socket = loop {
        if wait(signals, endpoint.listener.as_fd(), PollFlags::IN, None)? {
            return Ok(End::Signalled);
        }
        match endpoint.listener.accept() {
            Ok((socket, _)) => break socket,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("cannot accept QEMU's connection"),
        }
    };
    let mut session = Session {
        connection: Connection::new(socket)?,
        pending: None,
        last_id: 0,
        greeted: false,
        complaints: 0,
    };
    loop {
        for _ in 0..BATCH {
            if !session.connection.wants_input() {
                break;
            }
            match session.connection.receive()? {
                Input::Message(message) => {
                    // A mark that was sent before the request is in by now, and counts before it.
                    take_marks(signals, device);
                    session.handle(device, message)?;
                }
                Input::Empty => break,
                Input::Closed => return Ok(End::Disconnected),
            }
        }
        take_marks(signals, device);
        session.advance(device);
        if !session.connection.flush()? {
            return Ok(End::Disconnected);
        }
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, session.connection.wants_input());
        interest.set(PollFlags::OUT, session.connection.wants_output());
        let now = Timespec::default();
        let timeout = device.running().then_some(&now);
        if wait(signals, session.connection.fd(), interest, timeout)? {
            return Ok(End::Signalled);
        }
    }
}

fn take_marks(signals: &Signals, device: &mut Device) {
    for mark in signals.marks() {
        device.mark(mark);
    }
}

/// Waits for the descriptor or the time-out; true if a signal ended the program.
fn wait(
    signals: &Signals,
    fd: BorrowedFd,
    interest: PollFlags,
    timeout: Option<&Timespec>,
) -> Result<bool> {
    let mut fds = [
        PollFd::new(signals, PollFlags::IN),
        PollFd::from_borrowed_fd(fd, interest),
    ];
    match rustix::event::poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::INTR) => Ok(!fds[0].revents().is_empty()),
        Err(error) => Err(error).context("cannot wait for QEMU"),
    }
}

struct Session {
    connection: Connection,
    /// The id of the DMA request that QEMU has not answered; there is never more than one.
    pending: Option<u16>,
    last_id: u16,
    greeted: bool,
    complaints: u32,
}

impl Session {
    fn complain(&mut self, command: u16, error: Errno) {
        self.complaints = self.complaints.saturating_add(1);
        if self.complaints <= COMPLAINTS {
            let last = if self.complaints == COMPLAINTS {
                " (no more of these lines)"
            } else {
                ""
            };
            eprintln!("qat-pf: refused the client's request {command}: {error}{last}");
        }
    }

    fn handle(&mut self, device: &mut Device, message: Message) -> Result<()> {
        let Message {
            header,
            payload,
            fds,
        } = message;
        if header.reply {
            // Replies that nobody waits for are old ones: QEMU also answers requests that a reset has outdated.
            if self.pending == Some(header.id) {
                self.pending = None;
                device.answer(&header, &payload);
            }
        } else {
            if !self.greeted && header.command != command::VERSION {
                bail!("the client does not speak vfio-user: its first message is not VERSION");
            }
            let request = Request {
                header,
                payload: &payload,
                fds,
            };
            let result = device.serve(request);
            self.greeted |= result.is_ok();
            if let Err(error) = &result {
                self.complain(header.command, *error);
            }
            if !header.no_reply {
                let reply = proto::reply(&header, result.as_deref().map_err(|error| *error));
                self.connection.send(reply);
            }
        }
        // A transfer that the table can serve is over before the guest's next register read.
        self.advance(device);
        Ok(())
    }

    fn advance(&mut self, device: &mut Device) {
        if let Some(request) = device.advance() {
            self.last_id = self.last_id.wrapping_add(1);
            self.pending = Some(self.last_id);
            self.connection.send(request.encode(self.last_id));
        }
    }
}
