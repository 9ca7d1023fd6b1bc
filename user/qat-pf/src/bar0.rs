// SPDX-License-Identifier: GPL-2.0
//! The registers of BAR 0: 8 bytes each, also reached as two halves of 4. This file owns the ones that the guest
//! writes and the map of all of them; the values of the others come from the engine, the table and the recorder.

use crate::config::BAR0_SIZE;
use crate::dma::Table;
use crate::engine::{Engine, Job, Operation, MAX_LENGTH};
use crate::record::Recorder;

/// "QATPFDMA", read as bytes.
pub const MAGIC: u64 = u64::from_le_bytes(*b"QATPFDMA");

mod register {
    pub const MAGIC: u64 = 0x00;
    pub const SOURCE: u64 = 0x08;
    pub const DESTINATION: u64 = 0x10;
    pub const LENGTH: u64 = 0x18;
    pub const COMMAND: u64 = 0x20;
    pub const STATUS: u64 = 0x28;
    pub const FAULT_IOVA: u64 = 0x30;
    pub const PATTERN: u64 = 0x38;
    pub const CHECKSUM: u64 = 0x40;
    pub const MAX_LENGTH: u64 = 0x48;
    pub const MARK: u64 = 0x50;
    pub const PROBE: u64 = 0x58;
    pub const PROBE_FLAGS: u64 = 0x60;
    pub const RANGES: u64 = 0x68;
    pub const BYTES: u64 = 0x70;
    pub const DONE: u64 = 0x78;
    pub const FAULTS: u64 = 0x80;
    pub const MOVED: u64 = 0x88;
    pub const MESSAGE_BYTES: u64 = 0x90;
    pub const ADDED: u64 = 0x98;
    pub const ENTRIES: u64 = 0xa0;
}

/// What the registers show of the rest of the device.
pub struct View<'a> {
    pub engine: &'a Engine,
    pub table: &'a Table,
    pub recorder: &'a Recorder,
}

/// What a write asks of the rest of the device.
#[derive(Debug)]
pub enum Effect {
    None,
    Start(Job),
    Mark(u64),
}

/// The registers that hold what was written.
#[derive(Default)]
pub struct Bar0 {
    source: u64,
    destination: u64,
    length: u64,
    command: u64,
    pattern: u64,
    probe: u64,
}

impl Bar0 {
    /// Fills `data` from `offset` on; false outside the BAR.
    pub fn read(&self, offset: u64, data: &mut [u8], view: &View) -> bool {
        if !inside(offset, data.len()) {
            return false;
        }
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let skip = usize::try_from(at % 8).unwrap_or(0);
            let bytes = self.value(at - at % 8, view).to_le_bytes();
            let count = rest.len().min(8 - skip);
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&bytes[skip..skip + count]);
            at += 8 - at % 8;
            rest = later;
        }
        true
    }

    /// None outside the BAR. Only whole registers and their halves are taken; other widths change nothing.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        if !inside(offset, data.len()) {
            return None;
        }
        let register = offset - offset % 8;
        let high = offset % 8 == 4;
        if let Ok(value) = <[u8; 8]>::try_from(data).map(u64::from_le_bytes) {
            if offset == register {
                return Some(self.set(register, |_| value, true));
            }
        } else if let Ok(half) = <[u8; 4]>::try_from(data).map(u32::from_le_bytes) {
            if offset == register || high {
                let shift = if high { 32 } else { 0 };
                let keep = !(u64::from(u32::MAX) << shift);
                let merge = |old: u64| old & keep | (u64::from(half) << shift);
                return Some(self.set(register, merge, !high));
            }
        }
        Some(Effect::None)
    }

    /// `low`: the write covers the lower half, which is what starts a command.
    fn set(&mut self, register: u64, merge: impl Fn(u64) -> u64, low: bool) -> Effect {
        let latch = match register {
            register::SOURCE => &mut self.source,
            register::DESTINATION => &mut self.destination,
            register::LENGTH => &mut self.length,
            register::PATTERN => &mut self.pattern,
            register::PROBE => &mut self.probe,
            register::COMMAND => &mut self.command,
            register::MARK if low => return Effect::Mark(merge(0)),
            _ => return Effect::None,
        };
        *latch = merge(*latch);
        if register == register::COMMAND && low {
            return Effect::Start(self.job());
        }
        Effect::None
    }

    fn job(&self) -> Job {
        Job {
            operation: Operation::from_register(self.command),
            source: self.source,
            destination: self.destination,
            length: self.length,
            pattern: self.pattern,
        }
    }

    fn value(&self, register: u64, view: &View) -> u64 {
        match register {
            register::MAGIC => MAGIC,
            register::SOURCE => self.source,
            register::DESTINATION => self.destination,
            register::LENGTH => self.length,
            register::COMMAND => self.command,
            register::STATUS => view.engine.status.register(),
            register::FAULT_IOVA => view.engine.fault_iova,
            register::PATTERN => self.pattern,
            register::CHECKSUM => view.engine.checksum,
            register::MAX_LENGTH => MAX_LENGTH,
            register::MARK => view.recorder.marked(),
            register::PROBE => self.probe,
            register::PROBE_FLAGS => {
                let access = view.table.access(self.probe);
                u64::from(access.read) | (u64::from(access.write) << 1)
            }
            register::RANGES => count(view.table.reach().list().len()),
            register::BYTES => u64::try_from(view.table.bytes()).unwrap_or(u64::MAX),
            register::DONE => view.engine.totals.done,
            register::FAULTS => view.engine.totals.faults,
            register::MOVED => view.engine.moved,
            register::MESSAGE_BYTES => view.engine.message_bytes,
            register::ADDED => view.recorder.maps_since_mark(),
            register::ENTRIES => count(view.table.entries()),
            _ => 0,
        }
    }
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

fn inside(offset: u64, size: usize) -> bool {
    offset
        .checked_add(count(size))
        .is_some_and(|end| end <= BAR0_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dma::tests::{memory, span, RO, RW};

    fn read(bar: &Bar0, offset: u64, size: usize, table: &Table) -> Option<Vec<u8>> {
        let view = View {
            engine: &Engine::default(),
            table,
            recorder: &Recorder::new(String::new(), String::new()),
        };
        let mut data = vec![0xee; size];
        bar.read(offset, &mut data, &view).then_some(data)
    }

    fn read64(bar: &Bar0, offset: u64, table: &Table) -> u64 {
        let data = read(bar, offset, 8, table).expect("inside");
        u64::from_le_bytes(data.try_into().expect("eight"))
    }

    #[test]
    fn the_magic_reads_as_text_in_any_width() {
        let (bar, table) = (Bar0::default(), Table::default());
        assert_eq!(read(&bar, 0, 8, &table).expect("inside"), b"QATPFDMA");
        assert_eq!(read(&bar, 4, 4, &table).expect("inside"), b"FDMA");
        assert_eq!(read(&bar, 3, 1, &table).expect("inside"), b"P");
        let across = read(&bar, 6, 4, &table).expect("inside");
        assert_eq!(across, b"MA\0\0");
    }

    #[test]
    fn halves_make_a_whole() {
        let (mut bar, table) = (Bar0::default(), Table::default());
        assert!(matches!(
            bar.write(0x08, &0x5566_7788u32.to_le_bytes()),
            Some(Effect::None)
        ));
        assert!(matches!(
            bar.write(0x0c, &0x1122_3344u32.to_le_bytes()),
            Some(Effect::None)
        ));
        assert_eq!(read64(&bar, 0x08, &table), 0x1122_3344_5566_7788);
        bar.write(0x08, &[0xff; 2]).expect("inside");
        bar.write(0x0a, &[0xff; 4]).expect("inside");
        bar.write(0x04, &[0xff; 8]).expect("inside");
        assert_eq!(read64(&bar, 0x08, &table), 0x1122_3344_5566_7788);
    }

    #[test]
    fn the_lower_half_of_the_command_starts_with_the_registers_of_that_moment() {
        let mut bar = Bar0::default();
        for (offset, value) in [(0x08, 1u64), (0x10, 2), (0x18, 3), (0x38, 4)] {
            bar.write(offset, &value.to_le_bytes()).expect("inside");
        }
        assert!(matches!(bar.write(0x24, &[0; 4]), Some(Effect::None)));
        let Some(Effect::Start(job)) = bar.write(0x20, &1u32.to_le_bytes()) else {
            panic!("not started");
        };
        assert_eq!(job.operation, Some(Operation::Copy));
        assert_eq!(
            (job.source, job.destination, job.length, job.pattern),
            (1, 2, 3, 4)
        );
        let Some(Effect::Start(job)) = bar.write(0x20, &9u64.to_le_bytes()) else {
            panic!("not started");
        };
        assert_eq!(job.operation, None);
    }

    #[test]
    fn the_table_can_be_looked_into() {
        let (mut bar, mut table) = (Bar0::default(), Table::default());
        table
            .map(span(0x1000, 0x1000), RO, Some(memory(0x1000)), 0)
            .expect("map");
        table
            .map(span(0x2000, 0x1000), RW, Some(memory(0x1000)), 0)
            .expect("map");
        table
            .map(span(0x3000, 0x1000), RW, Some(memory(0x1000)), 0)
            .expect("map");
        for (address, flags) in [(0xfffu64, 0), (0x1000, 1), (0x2fff, 3), (0x4000, 0)] {
            bar.write(0x58, &address.to_le_bytes()).expect("inside");
            assert_eq!(read64(&bar, 0x60, &table), flags, "{address:#x}");
        }
        assert_eq!(read64(&bar, 0x68, &table), 2);
        assert_eq!(read64(&bar, 0x70, &table), 0x3000);
        assert_eq!(read64(&bar, 0xa0, &table), 3);
    }

    #[test]
    fn read_only_registers_stay_and_the_mark_is_an_effect() {
        let (mut bar, table) = (Bar0::default(), Table::default());
        for offset in [0x00, 0x28, 0x30, 0x40, 0x48, 0x60, 0x68, 0xff8] {
            let before = read64(&bar, offset, &table);
            assert!(matches!(bar.write(offset, &[0xff; 8]), Some(Effect::None)));
            assert_eq!(read64(&bar, offset, &table), before, "{offset:#x}");
        }
        assert!(matches!(
            bar.write(0x50, &1u64.to_le_bytes()),
            Some(Effect::Mark(1))
        ));
        assert!(matches!(
            bar.write(0x50, &2u32.to_le_bytes()),
            Some(Effect::Mark(2))
        ));
    }

    #[test]
    fn nothing_outside_the_bar() {
        let (mut bar, table) = (Bar0::default(), Table::default());
        assert!(read(&bar, BAR0_SIZE - 4, 8, &table).is_none());
        assert!(read(&bar, u64::MAX, 8, &table).is_none());
        assert!(bar.write(BAR0_SIZE, &[0; 8]).is_none());
        assert!(bar.write(u64::MAX - 3, &[0; 8]).is_none());
        assert!(read(&bar, 0, 4096, &table).is_some());
    }
}
