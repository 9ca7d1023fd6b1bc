// SPDX-License-Identifier: GPL-2.0
//! The registers of a PF's BAR 0 and a VF's window: 8 bytes each, also reached as two halves of 4. This file owns the
//! ones that the guest writes and the map of all of them; the values of the others come from the engine, the table and
//! the recorder.

use crate::dma::Table;
use crate::engine::{fnv, Engine, Job, Operation, FNV_OFFSET, MAX_LENGTH};
use crate::ranges::Range;
use crate::record::Recorder;

/// All of them, read and written by offset; what lies behind the last reads 0.
pub const SIZE: u64 = 4096;

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
    pub const LIST: u64 = 0xa8;
    pub const LIST_DIGEST: u64 = 0xb0;
    pub const LIST_INDEX: u64 = 0xb8;
    pub const LIST_IOVA: u64 = 0xc0;
    pub const LIST_SIZE: u64 = 0xc8;
    pub const LIST_ACCESS: u64 = 0xd0;
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
    /// Take a list of what the table holds now.
    List,
}

/// The registers that hold what was written.
#[derive(Default)]
pub struct Registers {
    source: u64,
    destination: u64,
    length: u64,
    command: u64,
    pattern: u64,
    probe: u64,
    /// The table as it was when the list was last taken, and which range of it is shown.
    list: Vec<Range>,
    index: u64,
}

impl Registers {
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
            register::LIST_INDEX => &mut self.index,
            register::COMMAND => &mut self.command,
            register::MARK if low => return Effect::Mark(merge(0)),
            register::LIST if low => return Effect::List,
            _ => return Effect::None,
        };
        *latch = merge(*latch);
        if register == register::COMMAND && low {
            return Effect::Start(self.job());
        }
        Effect::None
    }

    /// Keeps a list, to be looked through while the table goes on changing.
    pub fn keep(&mut self, list: Vec<Range>) {
        self.list = list;
        self.index = 0;
    }

    /// The shown range of the list.
    fn shown(&self) -> Option<&Range> {
        usize::try_from(self.index)
            .ok()
            .and_then(|index| self.list.get(index))
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
                access_bits(access.read, access.write)
            }
            register::RANGES => count(view.table.reach().list().len()),
            register::BYTES => u64::try_from(view.table.bytes()).unwrap_or(u64::MAX),
            register::DONE => view.engine.totals.done,
            register::FAULTS => view.engine.totals.faults,
            register::MOVED => view.engine.moved,
            register::MESSAGE_BYTES => view.engine.message_bytes,
            register::ADDED => view.recorder.maps_since_mark(),
            register::ENTRIES => count(view.table.entries()),
            register::LIST => count(self.list.len()),
            register::LIST_DIGEST => digest(&self.list),
            register::LIST_INDEX => self.index,
            register::LIST_IOVA => self.shown().map_or(0, |range| range.iova),
            register::LIST_SIZE => self.shown().map_or(0, size_register),
            register::LIST_ACCESS => self.shown().map_or(0, access_register),
            _ => 0,
        }
    }
}

fn access_bits(read: bool, write: bool) -> u64 {
    u64::from(read) | (u64::from(write) << 1)
}

fn access_register(range: &Range) -> u64 {
    access_bits(range.read, range.write)
}

/// All 2^64 addresses are 0.
fn size_register(range: &Range) -> u64 {
    u64::try_from(range.size).unwrap_or(0)
}

/// FNV-1a over the three values of each range as they can be read here.
fn digest(list: &[Range]) -> u64 {
    list.iter().fold(FNV_OFFSET, |sum, range| {
        [range.iova, size_register(range), access_register(range)]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .fold(sum, fnv)
    })
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

fn inside(offset: u64, size: usize) -> bool {
    offset
        .checked_add(count(size))
        .is_some_and(|end| end <= SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dma::tests::{memory, span, RO, RW};

    fn read(bar: &Registers, offset: u64, size: usize, table: &Table) -> Option<Vec<u8>> {
        let view = View {
            engine: &Engine::default(),
            table,
            recorder: &Recorder::new(String::new(), String::new()),
        };
        let mut data = vec![0xee; size];
        bar.read(offset, &mut data, &view).then_some(data)
    }

    fn read64(bar: &Registers, offset: u64, table: &Table) -> u64 {
        let data = read(bar, offset, 8, table).expect("inside");
        u64::from_le_bytes(data.try_into().expect("eight"))
    }

    #[test]
    fn the_magic_reads_as_text_in_any_width() {
        let (bar, table) = (Registers::default(), Table::default());
        assert_eq!(read(&bar, 0, 8, &table).expect("inside"), b"QATPFDMA");
        assert_eq!(read(&bar, 4, 4, &table).expect("inside"), b"FDMA");
        assert_eq!(read(&bar, 3, 1, &table).expect("inside"), b"P");
        let across = read(&bar, 6, 4, &table).expect("inside");
        assert_eq!(across, b"MA\0\0");
    }

    #[test]
    fn halves_make_a_whole() {
        let (mut bar, table) = (Registers::default(), Table::default());
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
        let mut bar = Registers::default();
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
        let (mut bar, mut table) = (Registers::default(), Table::default());
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
    fn a_list_stays_while_the_table_changes() {
        let (mut bar, mut table) = (Registers::default(), Table::default());
        assert_eq!(
            (read64(&bar, 0xa8, &table), read64(&bar, 0xc8, &table)),
            (0, 0)
        );
        assert_eq!(read64(&bar, 0xb0, &table), 0xcbf2_9ce4_8422_2325);
        table
            .map(span(0x1000, 0x1000), RO, Some(memory(0x1000)), 0)
            .expect("map");
        table
            .map(span(0x2000, 0x3000), RW, Some(memory(0x3000)), 0)
            .expect("map");
        assert!(matches!(
            bar.write(0xa8, &1u64.to_le_bytes()),
            Some(Effect::List)
        ));
        bar.keep(table.reach().list());
        table.unmap(crate::ranges::Span::ALL);
        assert_eq!(read64(&bar, 0xa8, &table), 2);
        let mut seen = vec![];
        for index in 0..3u64 {
            bar.write(0xb8, &index.to_le_bytes()).expect("inside");
            let words = [0xc0, 0xc8, 0xd0].map(|offset| read64(&bar, offset, &table));
            seen.push(words);
        }
        assert_eq!(seen, [[0x1000, 0x1000, 1], [0x2000, 0x3000, 3], [0; 3]]);
        let expected = seen[..2]
            .iter()
            .flatten()
            .flat_map(|word| word.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| {
                (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            });
        assert_eq!(read64(&bar, 0xb0, &table), expected);
        // Taken again, it shows what is there now, from the beginning.
        bar.keep(table.reach().list());
        assert_eq!(
            (read64(&bar, 0xa8, &table), read64(&bar, 0xb8, &table)),
            (0, 0)
        );
    }

    #[test]
    fn read_only_registers_stay_and_the_mark_is_an_effect() {
        let (mut bar, table) = (Registers::default(), Table::default());
        for offset in [0x00, 0x28, 0x30, 0x40, 0x48, 0x60, 0x68, 0xb0, 0xc0, 0xff8] {
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
        let (mut bar, table) = (Registers::default(), Table::default());
        assert!(read(&bar, SIZE - 4, 8, &table).is_none());
        assert!(read(&bar, u64::MAX, 8, &table).is_none());
        assert!(bar.write(SIZE, &[0; 8]).is_none());
        assert!(bar.write(u64::MAX - 3, &[0; 8]).is_none());
        assert!(read(&bar, 0, 4096, &table).is_some());
    }
}
