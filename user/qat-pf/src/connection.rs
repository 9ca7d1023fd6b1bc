// SPDX-License-Identifier: GPL-2.0
//! The socket as whole messages: takes requests apart from the stream with the descriptors they carry, and queues
//! what is sent. Nothing here waits; the server does, for input, output and signals at once.

use crate::proto::{Header, HEADER, MAX_FDS};
use anyhow::{bail, Context, Result};
use rustix::io::{Errno, IoSliceMut};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Above this many unread replies no more requests are taken.
const QUEUE: usize = 256;

pub struct Message {
    pub header: Header,
    pub payload: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

pub enum Input {
    Message(Message),
    /// Nothing more for now.
    Empty,
    /// The client has gone.
    Closed,
}

pub struct Connection {
    socket: UnixStream,
    /// The message coming in: what is there of it, and how long it will be as far as is known.
    partial: Vec<u8>,
    wanted: usize,
    header: Option<Header>,
    fds: Vec<OwnedFd>,
    /// One entry per message, so that no header is ever split: QEMU reads a header in one go.
    queue: VecDeque<Vec<u8>>,
    sent: usize,
}

impl Connection {
    pub fn new(socket: UnixStream) -> Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Connection {
            socket,
            partial: Vec::new(),
            wanted: HEADER,
            header: None,
            fds: Vec::new(),
            queue: VecDeque::new(),
            sent: 0,
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub fn wants_input(&self) -> bool {
        self.queue.len() < QUEUE
    }

    pub fn wants_output(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next message, once all of it is there.
    pub fn receive(&mut self) -> Result<Input> {
        loop {
            if self.partial.len() == self.wanted {
                if let Some(message) = self.take()? {
                    return Ok(Input::Message(message));
                }
                continue;
            }
            let have = self.partial.len();
            self.partial.resize(self.wanted, 0);
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let result = rustix::net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut self.partial[have..])],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            );
            for item in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = item {
                    self.fds.extend(fds);
                }
            }
            let count = match &result {
                Ok(message) => message.bytes,
                Err(_) => 0,
            };
            self.partial.truncate(have + count);
            match result {
                Ok(_) if count > 0 => {}
                Ok(_) | Err(Errno::CONNRESET) => return Ok(Input::Closed),
                Err(Errno::AGAIN) => return Ok(Input::Empty),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot read from QEMU's socket"),
            }
            if self.fds.len() > MAX_FDS {
                bail!("the client sent more than {MAX_FDS} descriptors with one message");
            }
        }
    }

    /// A message that has arrived whole, or None when that was its header and the rest is to come.
    fn take(&mut self) -> Result<Option<Message>> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(header) = self.partial.first_chunk().and_then(Header::parse) else {
                    bail!("the client does not speak vfio-user: bad message header");
                };
                self.wanted = header.size;
                self.header = Some(header);
                header
            }
        };
        if self.partial.len() < header.size {
            return Ok(None);
        }
        self.header = None;
        self.wanted = HEADER;
        Ok(Some(Message {
            header,
            payload: std::mem::take(&mut self.partial).split_off(HEADER),
            fds: std::mem::take(&mut self.fds),
        }))
    }

    pub fn send(&mut self, message: Vec<u8>) {
        self.queue.push_back(message);
    }

    /// Hands over what the socket takes; false if the client has gone.
    pub fn flush(&mut self) -> Result<bool> {
        while let Some(front) = self.queue.front() {
            match rustix::net::send(&self.socket, &front[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
                Err(error) => return Err(error).context("cannot write to QEMU's socket"),
            }
            if self.sent == front.len() {
                self.queue.pop_front();
                self.sent = 0;
            }
        }
        Ok(true)
    }
}
