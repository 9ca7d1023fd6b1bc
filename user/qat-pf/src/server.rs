// SPDX-License-Identifier: GPL-2.0
//! The server: a socket for each function, which QEMU connects to as to a device of its own, and the loop that waits
//! for requests, room to send, and signals. One client each at a time; once all have gone, the end, or the wait for
//! the next.

use crate::connection::{Connection, Input, Message};
use crate::device::{Device, Request};
use crate::proto::{self, command};
use crate::signals::Signals;
use anyhow::{bail, Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
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

/// A function with its socket.
struct Function {
    endpoint: Endpoint,
    device: Device,
    session: Option<Session>,
}

/// The PF and then its VFs.
pub struct Card {
    functions: Vec<Function>,
    /// Somebody has connected.
    used: bool,
}

impl Card {
    pub fn new(functions: impl IntoIterator<Item = (Endpoint, Device)>) -> Self {
        let functions = functions.into_iter();
        Card {
            functions: functions
                .map(|(endpoint, device)| Function {
                    endpoint,
                    device,
                    session: None,
                })
                .collect(),
            used: false,
        }
    }

    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.functions.iter().map(|function| &function.device)
    }

    /// Serves until a signal ends it, or unless it is to `stay` until every client has gone.
    pub fn serve(&mut self, signals: &Signals, stay: bool) -> Result<End> {
        let served = self.serve_clients(signals, stay);
        // A mark may have come after the last request, or together with the signal to end.
        self.take_marks(signals);
        served
    }

    fn serve_clients(&mut self, signals: &Signals, stay: bool) -> Result<End> {
        loop {
            let Some(ready) = self.wait(signals)? else {
                return Ok(End::Signalled);
            };
            for (index, ready) in ready.into_iter().enumerate() {
                if ready {
                    self.turn(index, signals)?;
                }
            }
            if self.used && !stay && self.functions.iter().all(|f| f.session.is_none()) {
                return Ok(End::Disconnected);
            }
        }
    }

    /// Waits until there is something to do; None if a signal ends the program.
    fn wait(&self, signals: &Signals) -> Result<Option<Vec<bool>>> {
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        fds.extend(self.functions.iter().map(Function::interest));
        let running = |function: &Function| function.device.running();
        let now = Timespec::default();
        let timeout = self.functions.iter().any(running).then_some(&now);
        match rustix::event::poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for QEMU"),
        }
        let mut events = fds.iter().map(|fd| !fd.revents().is_empty());
        if events.next() == Some(true) {
            return Ok(None);
        }
        let ready = events
            .zip(&self.functions)
            .map(|(event, function)| event || running(function));
        Ok(Some(ready.collect()))
    }

    /// Lets one function do what it can without waiting.
    fn turn(&mut self, index: usize, signals: &Signals) -> Result<()> {
        let function = &mut self.functions[index];
        if function.session.is_none() {
            function.accept()?;
            self.used |= function.session.is_some();
            return Ok(());
        }
        for _ in 0..BATCH {
            let function = &mut self.functions[index];
            let Some(message) = function.receive()? else {
                break;
            };
            // A mark that was sent before the request is in by now, and counts before it.
            self.take_marks(signals);
            self.functions[index].handle(message)?;
            // Before the reply: the guest may look for the VFs as soon as it has it.
            self.enable_vfs();
        }
        self.take_marks(signals);
        self.functions[index].finish_turn()?;
        self.enable_vfs();
        Ok(())
    }

    fn enable_vfs(&mut self) {
        if let Some((physical, virtuals)) = self.functions.split_first_mut() {
            let enabled = usize::from(physical.device.vfs_enabled());
            for (index, function) in virtuals.iter_mut().enumerate() {
                function.device.enable(index < enabled);
            }
        }
    }

    fn take_marks(&mut self, signals: &Signals) {
        for mark in signals.marks() {
            for function in &mut self.functions {
                function.device.mark(mark);
            }
        }
    }
}

impl Function {
    fn interest(&self) -> PollFd<'_> {
        let Some(session) = &self.session else {
            return PollFd::from_borrowed_fd(self.endpoint.listener.as_fd(), PollFlags::IN);
        };
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, session.connection.wants_input());
        interest.set(PollFlags::OUT, session.connection.wants_output());
        PollFd::from_borrowed_fd(session.connection.fd(), interest)
    }

    fn accept(&mut self) -> Result<()> {
        match self.endpoint.listener.accept() {
            Ok((socket, _)) => {
                self.device.plugged();
                self.session = Some(Session::new(socket)?);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("cannot accept QEMU's connection"),
        }
    }

    /// The next message, if there is one.
    fn receive(&mut self) -> Result<Option<Message>> {
        let Some(session) = self.session.as_mut() else {
            return Ok(None);
        };
        if !session.connection.wants_input() {
            return Ok(None);
        }
        match session.connection.receive()? {
            Input::Message(message) => Ok(Some(message)),
            Input::Empty => Ok(None),
            Input::Closed => {
                self.close();
                Ok(None)
            }
        }
    }

    fn handle(&mut self, message: Message) -> Result<()> {
        match &mut self.session {
            Some(session) => session.handle(&mut self.device, message),
            None => Ok(()),
        }
    }

    fn finish_turn(&mut self) -> Result<()> {
        if let Some(session) = &mut self.session {
            session.advance(&mut self.device);
            if !session.connection.flush()? {
                self.close();
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        self.session = None;
        self.device.unplugged();
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
    fn new(socket: UnixStream) -> Result<Self> {
        Ok(Session {
            connection: Connection::new(socket)?,
            pending: None,
            last_id: 0,
            greeted: false,
            complaints: 0,
        })
    }

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
