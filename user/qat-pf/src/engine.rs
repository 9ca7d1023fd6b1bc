// SPDX-License-Identifier: GPL-2.0
//! The DMA engine: one transfer at a time, in pieces. Each piece goes by the DMA table where the table holds the
//! address; where it does not, QEMU is asked to do it by message, so that the IOMMU and never our table decides what
//! is refused, and the guest logs the refusal. The engine owns no socket: `advance` says what to send next and
//! `answer` takes the reply, so register reads are served while a message is on its way.

use crate::dma::{Direction, Table};
use crate::proto::DmaRequest;

/// The longest transfer.
pub const MAX_LENGTH: u64 = 1 << 32;
/// Bytes moved through the table before others get a turn.
const SLICE: usize = 16 << 20;
/// Bytes held between source and destination.
const CHUNK: usize = 1 << 20;
/// A message never crosses one of these: an IOMMU decides for no less, and QEMU goes on after a fault within one
/// request.
const PAGE: u64 = 4096;

pub const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// One more byte of an FNV-1a sum.
pub fn fnv(sum: u64, byte: u8) -> u64 {
    (sum ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Copy,
    Fill,
    Checksum,
}

impl Operation {
    pub fn from_register(value: u64) -> Option<Self> {
        match value {
            1 => Some(Operation::Copy),
            2 => Some(Operation::Fill),
            3 => Some(Operation::Checksum),
            _ => None,
        }
    }

    fn has_source(self) -> bool {
        self != Operation::Fill
    }

    fn has_destination(self) -> bool {
        self != Operation::Checksum
    }
}

/// The parameter registers as they were when the command was written.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub operation: Option<Operation>,
    pub source: u64,
    pub destination: u64,
    pub length: u64,
    pub pattern: u64,
}

impl Job {
    /// The operation, if this can be done at all: known, not too long, and not past the last address.
    fn valid(&self) -> Option<Operation> {
        let operation = self.operation?;
        let fits = |start: u64, used: bool| {
            !used || self.length == 0 || start.checked_add(self.length - 1).is_some()
        };
        (self.length <= MAX_LENGTH
            && fits(self.source, operation.has_source())
            && fits(self.destination, operation.has_destination()))
        .then_some(operation)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Busy,
    Done,
    SourceFault,
    DestinationFault,
    Invalid,
}

impl Status {
    /// What the status register reads.
    pub fn register(self) -> u64 {
        match self {
            Status::Busy => 0,
            Status::Done => 1,
            Status::SourceFault => 2,
            Status::DestinationFault => 4,
            Status::Invalid => 8,
        }
    }
}

/// What the owner of the engine has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing is running, or the answer to the last message is awaited.
    Wait,
    /// Send this and pass the reply to `answer`.
    Send(DmaRequest),
    /// Call `advance` again after serving others.
    Again,
    /// The transfer has just ended.
    Ended,
}

#[derive(Clone, Copy)]
struct Awaited {
    direction: Direction,
    count: usize,
}

struct Transfer {
    job: Job,
    operation: Operation,
    /// Bytes that are through.
    moved: u64,
    /// Read and not yet written; the first `written` of them are.
    data: Vec<u8>,
    written: usize,
    awaited: Option<Awaited>,
    /// Whether QEMU has read or written anything by message yet. The first message is one byte, because some IOMMUs
    /// log a refusal once for every few bytes asked for.
    source_open: bool,
    destination_open: bool,
}

/// Transfers since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub done: u64,
    pub faults: u64,
    pub bytes: u64,
    pub message_bytes: u64,
}

pub struct Engine {
    transfer: Option<Transfer>,
    pub status: Status,
    pub fault_iova: u64,
    pub checksum: u64,
    /// Of the last or current transfer.
    pub moved: u64,
    pub message_bytes: u64,
    pub totals: Totals,
}

impl Default for Engine {
    fn default() -> Self {
        Engine {
            transfer: None,
            status: Status::Done,
            fault_iova: 0,
            checksum: 0,
            moved: 0,
            message_bytes: 0,
            totals: Totals::default(),
        }
    }
}

impl Engine {
    /// Ends what is running and clears the results; the totals are the server's own and stay.
    pub fn reset(&mut self) {
        *self = Engine {
            totals: self.totals,
            ..Engine::default()
        };
    }

    /// Starts a transfer; ignored while one runs.
    pub fn start(&mut self, job: Job) {
        if self.transfer.is_some() {
            return;
        }
        self.moved = 0;
        self.message_bytes = 0;
        self.fault_iova = 0;
        let Some(operation) = job.valid() else {
            self.status = Status::Invalid;
            return;
        };
        self.status = Status::Busy;
        if operation == Operation::Checksum {
            self.checksum = FNV_OFFSET;
        }
        self.transfer = Some(Transfer {
            job,
            operation,
            moved: 0,
            data: Vec::new(),
            written: 0,
            awaited: None,
            source_open: false,
            destination_open: false,
        });
    }

    /// Does what can be done now. Without a table everything goes by message.
    pub fn advance(&mut self, table: Option<&Table>, bus_master: bool) -> Action {
        let Some(mut transfer) = self.transfer.take() else {
            return Action::Wait;
        };
        if transfer.awaited.is_some() {
            self.transfer = Some(transfer);
            return Action::Wait;
        }
        let mut budget = SLICE;
        loop {
            if transfer.finished() {
                return self.end(&transfer, Status::Done);
            }
            let direction = transfer.direction();
            // A function without bus mastering sends no request at all.
            if !bus_master {
                return self.fault(&transfer, direction);
            }
            if budget == 0 {
                self.transfer = Some(transfer);
                return Action::Again;
            }
            let wanted = transfer.wanted(budget);
            let at = transfer.address(direction);
            let Some(run) = table.and_then(|table| table.run(at, direction)) else {
                let request = transfer.request(direction, at, wanted);
                self.transfer = Some(transfer);
                return Action::Send(request);
            };
            let count = run.limit(wanted);
            let result = match direction {
                Direction::Read => {
                    let mut data = vec![0; count];
                    let result = run.read(&mut data);
                    transfer.data = data;
                    result
                }
                Direction::Write => {
                    run.write(&transfer.data[transfer.written..transfer.written + count])
                }
            };
            if result.is_err() {
                return self.fault(&transfer, direction);
            }
            budget -= count;
            self.account(&mut transfer, direction, count);
        }
    }

    /// The reply to the message that `advance` asked for: the data of a read, nothing for a write, None if QEMU
    /// refused. True if that ended the transfer.
    pub fn answer(&mut self, reply: Option<&[u8]>) -> bool {
        let Some(mut transfer) = self.transfer.take() else {
            return false;
        };
        let Some(Awaited { direction, count }) = transfer.awaited.take() else {
            self.transfer = Some(transfer);
            return false;
        };
        let accepted = match (direction, reply) {
            (Direction::Read, Some(data)) if data.len() == count => {
                transfer.data = data.to_vec();
                transfer.source_open = true;
                true
            }
            (Direction::Write, Some(_)) => {
                transfer.destination_open = true;
                true
            }
            _ => false,
        };
        if !accepted {
            self.fault(&transfer, direction);
            return true;
        }
        self.message_bytes += u64::try_from(count).unwrap_or(0);
        self.account(&mut transfer, direction, count);
        self.transfer = Some(transfer);
        false
    }

    /// Books `count` bytes that were just read or written.
    fn account(&mut self, transfer: &mut Transfer, direction: Direction, count: usize) {
        match (direction, transfer.operation) {
            (Direction::Read, Operation::Checksum) => {
                let data = transfer.data.iter().copied();
                self.checksum = data.fold(self.checksum, fnv);
                transfer.data.clear();
                transfer.moved += u64::try_from(count).unwrap_or(0);
            }
            (Direction::Read, _) => transfer.written = 0,
            (Direction::Write, _) => {
                transfer.written += count;
                transfer.moved += u64::try_from(count).unwrap_or(0);
                if transfer.written == transfer.data.len() {
                    transfer.data.clear();
                    transfer.written = 0;
                }
            }
        }
        self.moved = transfer.moved;
    }

    fn fault(&mut self, transfer: &Transfer, direction: Direction) -> Action {
        self.fault_iova = transfer.address(direction);
        self.end(
            transfer,
            match direction {
                Direction::Read => Status::SourceFault,
                Direction::Write => Status::DestinationFault,
            },
        )
    }

    fn end(&mut self, transfer: &Transfer, status: Status) -> Action {
        self.status = status;
        self.totals.bytes += transfer.moved;
        self.totals.message_bytes += self.message_bytes;
        match status {
            Status::Done => self.totals.done += 1,
            _ => self.totals.faults += 1,
        }
        Action::Ended
    }
}

impl Transfer {
    fn finished(&self) -> bool {
        self.moved == self.job.length
    }

    /// Whether the next piece is read or written. A fill's data is made here, never read.
    fn direction(&mut self) -> Direction {
        if self.operation == Operation::Fill && self.data.is_empty() {
            self.data = self.filling();
        }
        if self.data.is_empty() {
            Direction::Read
        } else {
            Direction::Write
        }
    }

    fn filling(&self) -> Vec<u8> {
        let pattern = self.job.pattern.to_le_bytes();
        // Pieces may have any length; the pattern counts from the transfer's first byte.
        let phase = usize::try_from(self.moved % 8).unwrap_or(0);
        pattern
            .into_iter()
            .cycle()
            .skip(phase)
            .take(self.remaining())
            .collect()
    }

    /// Bytes to go, as far as one chunk holds them.
    fn remaining(&self) -> usize {
        usize::try_from(self.job.length - self.moved).map_or(CHUNK, |rest| rest.min(CHUNK))
    }

    fn wanted(&self, budget: usize) -> usize {
        let piece = if self.data.is_empty() {
            self.remaining()
        } else {
            self.data.len() - self.written
        };
        piece.min(budget)
    }

    /// The address of the next byte. `start` checked that none lies past the last address.
    fn address(&self, direction: Direction) -> u64 {
        let start = match direction {
            Direction::Read => self.job.source,
            Direction::Write => self.job.destination,
        };
        start + self.moved
    }

    fn request(&mut self, direction: Direction, iova: u64, wanted: usize) -> DmaRequest {
        let open = match direction {
            Direction::Read => self.source_open,
            Direction::Write => self.destination_open,
        };
        let in_page = usize::try_from(PAGE - iova % PAGE).unwrap_or(1);
        let count = if open { wanted.min(in_page) } else { 1 };
        self.awaited = Some(Awaited { direction, count });
        match direction {
            Direction::Read => DmaRequest::Read {
                iova,
                count: u32::try_from(count).unwrap_or(1),
            },
            Direction::Write => DmaRequest::Write {
                iova,
                data: self.data[self.written..self.written + count].to_vec(),
            },
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
