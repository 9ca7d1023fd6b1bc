// SPDX-License-Identifier: GPL-2.0
//! QEMU's part, played against the real program: a client on the socket with a memory file as guest memory. The bytes
//! are put together here by hand, so that a mistake in the program's own encoding cannot hide itself.

#![allow(dead_code, reason = "each test program uses a part of it")]

use rustix::io::IoSlice;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::Signal;
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const VERSION: u16 = 1;
pub const DMA_MAP: u16 = 2;
pub const DMA_UNMAP: u16 = 3;
pub const GET_INFO: u16 = 4;
pub const GET_REGION_INFO: u16 = 5;
pub const GET_IRQ_INFO: u16 = 7;
pub const SET_IRQS: u16 = 8;
pub const REGION_READ: u16 = 9;
pub const REGION_WRITE: u16 = 10;
pub const DMA_READ: u16 = 11;
pub const DMA_WRITE: u16 = 12;
pub const RESET: u16 = 13;
pub const DIRTY_PAGES: u16 = 14;

pub const EEXIST: u32 = 17;
pub const EINVAL: u32 = 22;
pub const ENOSYS: u32 = 38;
pub const EOPNOTSUPP: u32 = 95;

pub const LIMIT: Duration = Duration::from_secs(20);

/// Little-endian fields in a row.
pub fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub fn message(id: u16, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(16 + payload.len()).expect("small");
    bytes(&[
        &id.to_le_bytes(),
        &command.to_le_bytes(),
        &size.to_le_bytes(),
        &flags.to_le_bytes(),
        &[0; 4],
        payload,
    ])
}

pub fn map(flags: u32, offset: u64, iova: u64, size: u64) -> Vec<u8> {
    bytes(&[
        &32u32.to_le_bytes(),
        &flags.to_le_bytes(),
        &offset.to_le_bytes(),
        &iova.to_le_bytes(),
        &size.to_le_bytes(),
    ])
}

pub fn unmap(iova: u64, size: u64) -> Vec<u8> {
    bytes(&[
        &24u32.to_le_bytes(),
        &[0; 4],
        &iova.to_le_bytes(),
        &size.to_le_bytes(),
    ])
}

pub fn access(region: u32, offset: u64, count: u32, data: &[u8]) -> Vec<u8> {
    bytes(&[
        &offset.to_le_bytes(),
        &region.to_le_bytes(),
        &count.to_le_bytes(),
        data,
    ])
}

pub struct Incoming {
    pub id: u16,
    pub command: u16,
    pub flags: u32,
    pub error: u32,
    pub payload: Vec<u8>,
}

/// One connection, to the PF or to a VF.
pub struct Wire {
    pub socket: UnixStream,
    pub next: u16,
}

/// The program and the connection to its PF.
pub struct Client {
    pub child: Child,
    pub folder: tempfile::TempDir,
    pub wire: Wire,
}

impl Deref for Client {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

pub struct Program {
    pub child: Child,
    pub folder: tempfile::TempDir,
}

impl Program {
    pub fn start() -> Self {
        Program::start_with(&[])
    }

    pub fn start_with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let child = Command::new(env!("CARGO_BIN_EXE_qat-pf"))
            .arg("--socket")
            .arg(folder.path().join("socket"))
            .arg("--record")
            .arg(folder.path().join("record.json"))
            .args(["--name", "pf3"])
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .expect("start");
        let program = Program { child, folder };
        let start = Instant::now();
        while !program.path("socket").exists() {
            assert!(start.elapsed() < LIMIT, "no socket");
            std::thread::sleep(Duration::from_millis(2));
        }
        program
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn connect(self) -> Client {
        let wire = Wire::connect(&self.path("socket"));
        Client {
            child: self.child,
            folder: self.folder,
            wire,
        }
    }
}

impl Wire {
    pub fn connect(path: &Path) -> Self {
        let start = Instant::now();
        let socket = loop {
            match UnixStream::connect(path) {
                // The path is there a moment before the program listens.
                Err(error)
                    if error.kind() == std::io::ErrorKind::ConnectionRefused
                        && start.elapsed() < LIMIT =>
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
                result => break result.expect("connect"),
            }
        };
        socket.set_read_timeout(Some(LIMIT)).expect("time-out");
        socket.set_write_timeout(Some(LIMIT)).expect("time-out");
        Wire {
            socket,
            next: 0x100,
        }
    }

    /// Past the handshake.
    pub fn greeted(path: &Path) -> Self {
        let mut wire = Wire::connect(path);
        let hello = b"\0\0\0\0{\"capabilities\":{\"max_msg_fds\":16,\"write_multiple\":true}}\0";
        let reply = wire.ask(VERSION, hello, &[]).expect("version");
        assert_eq!(reply[..4], [0; 4]);
        assert_eq!(reply.last(), Some(&0));
        wire
    }
}

pub fn finish(mut child: Child) -> Output {
    let start = Instant::now();
    while child.try_wait().expect("wait").is_none() {
        if start.elapsed() > LIMIT {
            child.kill().expect("kill");
            panic!("the program hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().expect("output")
}

pub fn signal(child: &Child, signal: Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("signal");
}

/// Stops the program and waits until it stands.
pub fn stop(child: &Child) {
    signal(child, Signal::STOP);
    let start = Instant::now();
    let stat = format!("/proc/{}/stat", child.id());
    while !std::fs::read_to_string(&stat)
        .expect("stat")
        .contains(") T ")
    {
        assert!(start.elapsed() < LIMIT, "it does not stop");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn record_in(folder: &tempfile::TempDir) -> serde_json::Value {
    let text = std::fs::read(folder.path().join("record.json")).expect("a record");
    serde_json::from_slice(&text).expect("json")
}

impl Client {
    /// Connected and past the handshake.
    pub fn new() -> Self {
        Client::greet(Program::start())
    }

    pub fn greet(program: Program) -> Self {
        let wire = Wire::greeted(&program.path("socket"));
        Client {
            child: program.child,
            folder: program.folder,
            wire,
        }
    }

    /// Connected to a VF of the program, past the handshake.
    pub fn virtual_function(&self, index: usize) -> Wire {
        Wire::greeted(&self.folder.path().join(format!("socket.vf{index}")))
    }

    pub fn leave(self) -> (Output, serde_json::Value) {
        drop(self.wire);
        let output = finish(self.child);
        (output, record_in(&self.folder))
    }
}

impl Wire {
    pub fn send(&mut self, message: &[u8], fds: &[BorrowedFd]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let parts = [IoSlice::new(message)];
        let sent = rustix::net::sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent.expect("send"), message.len());
    }

    pub fn receive(&mut self) -> Incoming {
        let mut head = [0; 16];
        self.socket.read_exact(&mut head).expect("a message");
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four"));
        let half = |at: usize| u16::from_le_bytes(head[at..at + 2].try_into().expect("two"));
        let mut payload = vec![0; usize::try_from(word(4)).expect("small") - 16];
        self.socket.read_exact(&mut payload).expect("a payload");
        Incoming {
            id: half(0),
            command: half(2),
            flags: word(8),
            error: word(12),
            payload,
        }
    }

    /// Sends a request and takes the next message for its reply.
    pub fn ask(
        &mut self,
        command: u16,
        payload: &[u8],
        fds: &[BorrowedFd],
    ) -> Result<Vec<u8>, u32> {
        self.next = self.next.wrapping_add(1);
        let id = self.next;
        self.send(&message(id, command, 0, payload), fds);
        let reply = self.receive();
        assert_eq!(
            (reply.id, reply.command, reply.flags & 0xf),
            (id, command, 1)
        );
        if reply.flags & 0x20 == 0 {
            Ok(reply.payload)
        } else {
            assert!(reply.payload.is_empty());
            Err(reply.error)
        }
    }

    /// A DMA request of the device, which must be the next message.
    pub fn dma_request(&mut self) -> (u16, u16, u64, u64, Vec<u8>) {
        let Incoming {
            id,
            command,
            flags,
            payload,
            ..
        } = self.receive();
        assert_eq!(flags & 0xf, 0, "a request");
        let word = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().expect("eight"));
        (id, command, word(0), word(8), payload[16..].to_vec())
    }

    pub fn read(&mut self, offset: u64) -> u64 {
        let reply = self
            .ask(REGION_READ, &access(0, offset, 8, &[]), &[])
            .expect("read");
        assert_eq!(reply[..16], access(0, offset, 8, &[]));
        u64::from_le_bytes(reply[16..].try_into().expect("eight"))
    }

    pub fn write(&mut self, offset: u64, value: u64) {
        let payload = access(0, offset, 8, &value.to_le_bytes());
        let reply = self.ask(REGION_WRITE, &payload, &[]).expect("write");
        assert_eq!(reply, payload[..16]);
    }

    pub fn bus_master(&mut self) {
        self.ask(REGION_WRITE, &access(7, 4, 2, &[6, 0]), &[])
            .expect("command register");
    }

    pub fn start(&mut self, command: u64, source: u64, destination: u64, length: u64) {
        self.write(0x08, source);
        self.write(0x10, destination);
        self.write(0x18, length);
        self.write(0x20, command);
    }

    pub fn map(
        &mut self,
        ram: &File,
        flags: u32,
        offset: u64,
        iova: u64,
        size: u64,
    ) -> Result<Vec<u8>, u32> {
        self.ask(DMA_MAP, &map(flags, offset, iova, size), &[ram.as_fd()])
    }
}

pub fn memory(size: u64) -> File {
    let fd = rustix::fs::memfd_create("ram", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    rustix::fs::ftruncate(&fd, size).expect("size");
    File::from(fd)
}

/// A range of a record that can be read and written.
pub fn range(iova: u64, size: u64) -> serde_json::Value {
    serde_json::json!({"iova": iova, "size": size, "read": true, "write": true})
}
