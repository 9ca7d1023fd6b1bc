// SPDX-License-Identifier: GPL-2.0
//! The engine against a table over a memory file, with a stand-in for QEMU that answers messages.

use super::*;
use crate::dma::tests::{memory, span, RO, RW};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Guest memory of 64 KiB behind whatever the test maps.
struct Guest {
    file: File,
    table: Table,
    engine: Engine,
    sent: Vec<DmaRequest>,
    /// IOVAs that QEMU serves by message, one to one with the file.
    by_message: std::ops::Range<u64>,
}

impl Guest {
    fn new() -> Self {
        Guest {
            file: File::from(memory(0x10000)),
            table: Table::default(),
            engine: Engine::default(),
            sent: Vec::new(),
            by_message: 0..0,
        }
    }

    fn fd(&self) -> Option<OwnedFd> {
        Some(self.file.as_fd().try_clone_to_owned().expect("dup"))
    }

    fn map(&mut self, iova: u64, size: u64, access: crate::ranges::Access, offset: u64) {
        let fd = self.fd();
        self.table
            .map(span(iova, size), access, fd, offset)
            .expect("map");
    }

    fn put(&self, at: u64, data: &[u8]) {
        self.file.write_all_at(data, at).expect("write");
    }

    fn get(&self, at: u64, size: usize) -> Vec<u8> {
        let mut data = vec![0; size];
        self.file.read_exact_at(&mut data, at).expect("read");
        data
    }

    fn run(&mut self, job: Job) -> Status {
        self.engine.start(job);
        loop {
            match self.engine.advance(Some(&self.table), true) {
                Action::Again => {}
                Action::Send(request) => {
                    self.sent.push(request.clone());
                    let reply = self.serve(&request);
                    self.engine.answer(reply.as_deref());
                }
                Action::Wait | Action::Ended => return self.engine.status,
            }
        }
    }

    fn serve(&self, request: &DmaRequest) -> Option<Vec<u8>> {
        match request {
            DmaRequest::Read { iova, count } => self
                .by_message
                .contains(iova)
                .then(|| self.get(*iova, usize::try_from(*count).expect("small"))),
            DmaRequest::Write { iova, data } => self.by_message.contains(iova).then(|| {
                self.put(*iova, data);
                Vec::new()
            }),
        }
    }
}

fn job(operation: u64, source: u64, destination: u64, length: u64) -> Job {
    Job {
        operation: Operation::from_register(operation),
        source,
        destination,
        length,
        pattern: 0x8877_6655_4433_2211,
    }
}

fn text(size: usize) -> Vec<u8> {
    (0..size)
        .map(|i| u8::try_from(i % 251).expect("small") + 1)
        .collect()
}

#[test]
fn copies_across_entries_that_are_not_neighbours_in_the_file() {
    let mut guest = Guest::new();
    guest.map(0x10_0000, 0x1000, RO, 0x3000);
    guest.map(0x10_1000, 0x1000, RO, 0x1000);
    guest.map(0x20_0000, 0x3000, RW, 0x8000);
    let data = text(0x1800);
    guest.put(0x3100, &data[..0xf00]);
    guest.put(0x1000, &data[0xf00..]);
    assert_eq!(
        guest.run(job(1, 0x10_0100, 0x20_0777, 0x1800)),
        Status::Done
    );
    assert_eq!(guest.get(0x8777, 0x1800), data);
    assert_eq!(
        (guest.get(0x8776, 1), guest.get(0x8777 + 0x1800, 1)),
        (vec![0], vec![0])
    );
    assert!(guest.sent.is_empty());
    assert_eq!(
        (guest.engine.moved, guest.engine.message_bytes),
        (0x1800, 0)
    );
    assert_eq!(guest.engine.totals.done, 1);
}

#[test]
fn fills_with_the_pattern_from_the_first_byte() {
    let mut guest = Guest::new();
    guest.map(0, 0x1000, RW, 0);
    assert_eq!(guest.run(job(2, 0, 0x103, 11)), Status::Done);
    let want = [
        0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x11, 0x22, 0x33, 0,
    ];
    assert_eq!(guest.get(0x102, 13), want);
}

#[test]
fn a_fill_longer_than_a_slice_keeps_its_phase() {
    let file = File::from(memory(20 << 20));
    let mut guest = Guest::new();
    guest.file = file;
    guest.map(0, 20 << 20, RW, 0);
    let length = (17 << 20) + 3;
    assert_eq!(guest.run(job(2, 0, 5, length)), Status::Done);
    assert_eq!(guest.get(5 + (17 << 20), 4), [0x11, 0x22, 0x33, 0]);
    assert_eq!(
        guest.get(5 + (16 << 20), 8),
        0x8877_6655_4433_2211u64.to_le_bytes()
    );
}

#[test]
fn the_checksum_is_fnv_1a() {
    let mut guest = Guest::new();
    guest.map(0x5000, 0x1000, RO, 0);
    guest.put(0, b"foobar");
    assert_eq!(guest.run(job(3, 0x5000, 0, 6)), Status::Done);
    // The published test vector.
    assert_eq!(guest.engine.checksum, 0x8594_4171_f739_67e8);
    assert_eq!(guest.run(job(3, 0x5000, 0, 0)), Status::Done);
    assert_eq!(guest.engine.checksum, 0xcbf2_9ce4_8422_2325);
}

#[test]
fn a_source_fault_names_the_exact_byte_and_what_came_before_arrives() {
    let mut guest = Guest::new();
    guest.map(0x1000, 0x1000, RO, 0);
    guest.map(0x8000, 0x4000, RW, 0x8000);
    guest.put(0, &text(0x1000));
    assert_eq!(
        guest.run(job(1, 0x1f00, 0x8080, 0x200)),
        Status::SourceFault
    );
    assert_eq!(guest.engine.fault_iova, 0x2000);
    assert_eq!(guest.engine.moved, 0x100);
    assert_eq!(guest.get(0x8080, 0x100), text(0x1000)[0xf00..]);
    assert_eq!(guest.get(0x8180, 0x100), [0; 0x100]);
    assert_eq!(
        guest.sent,
        [DmaRequest::Read {
            iova: 0x2000,
            count: 1
        }]
    );
    assert_eq!(
        (guest.engine.totals.done, guest.engine.totals.faults),
        (0, 1)
    );
}

#[test]
fn a_destination_fault_names_the_exact_byte() {
    let mut guest = Guest::new();
    guest.map(0x1000, 0x2000, RO, 0);
    guest.map(0x8000, 0x1000, RW, 0x8000);
    guest.put(0, &text(0x2000));
    assert_eq!(
        guest.run(job(1, 0x1004, 0x8ff0, 0x40)),
        Status::DestinationFault
    );
    assert_eq!(guest.engine.fault_iova, 0x9000);
    assert_eq!(guest.get(0x8ff0, 0x10), text(0x2000)[4..0x14]);
    let probe = DmaRequest::Write {
        iova: 0x9000,
        data: vec![text(0x2000)[0x14]],
    };
    assert_eq!(guest.sent, [probe]);
}

#[test]
fn a_read_only_entry_is_no_destination() {
    let mut guest = Guest::new();
    guest.map(0x1000, 0x1000, RO, 0);
    assert_eq!(guest.run(job(2, 0, 0x1800, 8)), Status::DestinationFault);
    assert_eq!(guest.engine.fault_iova, 0x1800);
    assert_eq!(guest.get(0x800, 8), [0; 8]);
}

#[test]
fn where_the_table_is_silent_messages_carry_the_data() {
    let mut guest = Guest::new();
    guest.by_message = 0x1000..0x6000;
    guest.put(0x1000, &text(0x1400));
    assert_eq!(guest.run(job(1, 0x1000, 0x4800, 0x1400)), Status::Done);
    assert_eq!(guest.get(0x4800, 0x1400), text(0x1400));
    assert_eq!(guest.engine.message_bytes, 2 * 0x1400);
    for request in &guest.sent {
        let (iova, count) = match request {
            DmaRequest::Read { iova, count } => (*iova, u64::from(*count)),
            DmaRequest::Write { iova, data } => (*iova, u64::try_from(data.len()).expect("small")),
        };
        assert_eq!(
            iova / PAGE,
            (iova + count - 1) / PAGE,
            "{request:?} crosses a page"
        );
    }
}

#[test]
fn a_message_transfer_that_runs_into_a_refused_page_stops_there() {
    let mut guest = Guest::new();
    guest.by_message = 0x1000..0x3000;
    assert_eq!(guest.run(job(3, 0x2ff0, 0, 0x100)), Status::SourceFault);
    assert_eq!(guest.engine.fault_iova, 0x3000);
    assert_eq!(guest.run(job(2, 0, 0x2ff8, 0x10)), Status::DestinationFault);
    assert_eq!(guest.engine.fault_iova, 0x3000);
    assert_eq!(
        guest.get(0x2ff8, 0x10)[..8],
        0x8877_6655_4433_2211u64.to_le_bytes()
    );
}

#[test]
fn busy_until_the_answer_and_commands_meanwhile_are_ignored() {
    let mut engine = Engine::default();
    let table = Table::default();
    assert_eq!(engine.status, Status::Done);
    engine.start(job(3, 0x1000, 0, 1));
    assert!(matches!(
        engine.advance(Some(&table), true),
        Action::Send(_)
    ));
    assert_eq!(engine.advance(Some(&table), true), Action::Wait);
    engine.start(job(2, 0, 0x9000, 1));
    assert_eq!(engine.status, Status::Busy);
    assert!(!engine.answer(Some(b"a")));
    assert_eq!(engine.advance(Some(&table), true), Action::Ended);
    assert_eq!(engine.status, Status::Done);
    // FNV-1a of "a".
    assert_eq!(engine.checksum, 0xaf63_dc4c_8601_ec8c);
    assert!(!engine.answer(Some(b"late")));
}

#[test]
fn a_read_reply_of_the_wrong_size_is_a_fault() {
    let mut engine = Engine::default();
    engine.start(job(3, 0x1000, 0, 4));
    assert!(matches!(
        engine.advance(Some(&Table::default()), true),
        Action::Send(_)
    ));
    assert!(engine.answer(Some(b"too long")));
    assert_eq!(
        (engine.status, engine.fault_iova),
        (Status::SourceFault, 0x1000)
    );
}

#[test]
fn without_bus_mastering_nothing_moves_and_nothing_is_sent() {
    let mut guest = Guest::new();
    guest.map(0, 0x1000, RW, 0);
    guest.engine.start(job(2, 0, 0x10, 8));
    assert_eq!(
        guest.engine.advance(Some(&guest.table), false),
        Action::Ended
    );
    assert_eq!(guest.engine.status, Status::DestinationFault);
    assert_eq!(guest.engine.fault_iova, 0x10);
    assert_eq!(guest.get(0x10, 8), [0; 8]);
    guest.engine.start(job(1, 0x20, 0x10, 8));
    assert_eq!(
        guest.engine.advance(Some(&guest.table), false),
        Action::Ended
    );
    assert_eq!(
        (guest.engine.status, guest.engine.fault_iova),
        (Status::SourceFault, 0x20)
    );
}

#[test]
fn impossible_jobs_are_refused() {
    let mut guest = Guest::new();
    assert_eq!(guest.run(job(0, 0, 0, 1)), Status::Invalid);
    assert_eq!(guest.run(job(4, 0, 0, 1)), Status::Invalid);
    assert_eq!(guest.run(job(2, 0, 0, MAX_LENGTH + 1)), Status::Invalid);
    assert_eq!(guest.run(job(3, u64::MAX, 0, 2)), Status::Invalid);
    assert_eq!(guest.run(job(1, 0, u64::MAX - 1, 3)), Status::Invalid);
    assert!(guest.sent.is_empty());
    assert_eq!(guest.run(job(3, u64::MAX, 0, 1)), Status::SourceFault);
    assert_eq!(guest.engine.fault_iova, u64::MAX);
    assert_eq!(guest.run(job(1, 0, 0, 0)), Status::Done);
}

#[test]
fn reset_ends_a_transfer_and_keeps_the_totals() {
    let mut guest = Guest::new();
    assert_eq!(guest.run(job(3, 0, 0, 1)), Status::SourceFault);
    guest.engine.start(job(3, 0x1000, 0, 1));
    assert!(matches!(
        guest.engine.advance(Some(&guest.table), true),
        Action::Send(_)
    ));
    guest.engine.reset();
    assert_eq!(guest.engine.status, Status::Done);
    assert!(!guest.engine.answer(Some(b"x")));
    assert_eq!(guest.engine.advance(Some(&guest.table), true), Action::Wait);
    assert_eq!(guest.engine.totals.faults, 1);
}
