// SPDX-License-Identifier: GPL-2.0
//! One function of the device, the PF or a VF: answers the client's requests out of its parts (configuration space,
//! registers, DMA table, engine, interrupts, recorder). It owns no socket: requests go in, replies and DMA requests
//! come out.

use crate::config::{self, ConfigSpace, PciId};
use crate::dma::{Mapped, Table};
use crate::engine::{Action, Engine};
use crate::irq::{self, Irqs};
use crate::proto::{self, command, DmaRequest, Fields, Header};
use crate::ranges::{Access, Span};
use crate::record::{Record, Recorder};
use crate::registers::{self, Registers, View};
use rustix::io::Errno;
use std::ops::Range;
use std::os::fd::OwnedFd;

/// VFIO's regions for PCI: six BARs, the ROM, configuration space, VGA.
const REGIONS: u32 = 9;
const BAR0: u32 = 0;
const BAR2: u32 = 2;
const CONFIG: u32 = 7;

const DEVICE_RESET: u32 = 1 << 0;
const DEVICE_PCI: u32 = 1 << 1;
const REGION_READ_WRITE: u32 = 3;
const IRQ_EVENTFD: u32 = 1 << 0;
const IRQ_NORESIZE: u32 = 1 << 3;
const MAP_READ: u32 = 1 << 0;
const MAP_WRITE: u32 = 1 << 1;
const UNMAP_ALL: u32 = 1 << 1;

/// The vector raised when a transfer ends.
const DONE_VECTOR: usize = 0;

/// A request with the descriptors that came along.
pub struct Request<'a> {
    pub header: Header,
    pub payload: &'a [u8],
    pub fds: Vec<OwnedFd>,
}

/// How transfers may move data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through the DMA table, and by message where it lets nothing through.
    Table,
    /// By message alone, for an IOMMU whose DMA_MAPs cannot be trusted. The table is still kept for the record.
    Messages,
}

/// Which function it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The PF, with so many VFs, and with or without interrupts.
    Physical {
        vfs: u16,
        msix: bool,
    },
    Virtual,
}

impl Kind {
    fn config(self, id: PciId) -> ConfigSpace {
        match self {
            Kind::Physical { vfs, msix } => ConfigSpace::physical(id, vfs, msix),
            Kind::Virtual => ConfigSpace::virtual_function(id),
        }
    }
}

pub struct Device {
    kind: Kind,
    id: PciId,
    way: Way,
    config: ConfigSpace,
    registers: Registers,
    table: Table,
    engine: Engine,
    irqs: Irqs,
    recorder: Recorder,
    /// QEMU has realized it, and what comes now comes from the guest.
    settled: bool,
    /// A VF answers only while the PF has turned it on; always true of the PF.
    enabled: bool,
    /// A transfer that yielded wants to go on.
    running: bool,
    /// QEMU has not answered what `advance` returned last. A reset does not call it back.
    pending: bool,
}

impl Device {
    pub fn new(name: String, id: PciId, kind: Kind, way: Way) -> Self {
        Device {
            kind,
            id,
            way,
            config: kind.config(id),
            registers: Registers::default(),
            table: Table::default(),
            engine: Engine::default(),
            irqs: Irqs::default(),
            recorder: Recorder::new(name, id.to_string()),
            settled: false,
            enabled: kind != Kind::Virtual,
            running: false,
            pending: false,
        }
    }

    /// A client has come, and plugs in a new device as far as it knows. Only the account goes on.
    pub fn plugged(&mut self) {
        self.config = self.kind.config(self.id);
        self.table = Table::default();
        self.irqs = Irqs::default();
        self.settled = false;
        self.pending = false;
        self.reset();
    }

    /// The client has gone, and its transfer with it.
    pub fn unplugged(&mut self) {
        self.pending = false;
        self.reset();
    }

    /// How many VFs this PF has turned on.
    pub fn vfs_enabled(&self) -> u16 {
        self.config.vfs_enabled()
    }

    /// The PF turns this VF on or off. Off, it is as if it were not there, and its transfer ends unfinished.
    pub fn enable(&mut self, enabled: bool) {
        if self.enabled != enabled {
            self.enabled = enabled;
            self.reset();
        }
    }

    /// Whether the guest gets no answer.
    fn hidden(&self) -> bool {
        self.settled && !self.enabled
    }

    /// Serves one request and returns the payload of its reply.
    pub fn serve(&mut self, request: Request) -> Result<Vec<u8>, Errno> {
        let Request {
            header,
            payload,
            fds,
        } = request;
        let mut fields = Fields(payload);
        match header.command {
            command::VERSION => version(&mut fields),
            command::DMA_MAP => {
                let result = self.dma_map(&mut fields, fds);
                if result.is_err() {
                    self.recorder.refused();
                }
                result.map(|()| Vec::new())
            }
            command::DMA_UNMAP => self.dma_unmap(&mut fields).map(|()| payload.to_vec()),
            command::DEVICE_GET_INFO => {
                Ok(words(&[16, DEVICE_RESET | DEVICE_PCI, REGIONS, irq::TYPES]))
            }
            command::DEVICE_GET_REGION_INFO => self.region_info(&mut fields),
            command::DEVICE_GET_IRQ_INFO => self.irq_info(&mut fields),
            command::DEVICE_SET_IRQS => self.irqs.set(payload, fds).map(|()| Vec::new()),
            command::REGION_READ => self.region_read(&mut fields),
            command::REGION_WRITE => self.region_write(fields),
            command::DEVICE_RESET => {
                if !self.settled {
                    self.settled = true;
                    self.config.settle();
                }
                self.reset();
                Ok(Vec::new())
            }
            // Migration is not for this device; QEMU is never told otherwise.
            command::DIRTY_PAGES => Err(Errno::OPNOTSUPP),
            _ => Err(Errno::NOSYS),
        }
    }

    fn dma_map(&mut self, fields: &mut Fields, fds: Vec<OwnedFd>) -> Result<(), Errno> {
        let (_argsz, flags) = (u32_of(fields)?, u32_of(fields)?);
        let (offset, span) = (u64_of(fields)?, span_of(fields)?);
        if fds.len() > 1 || flags & !(MAP_READ | MAP_WRITE) != 0 {
            return Err(Errno::INVAL);
        }
        let access = Access {
            read: flags & MAP_READ != 0,
            write: flags & MAP_WRITE != 0,
        };
        let fd = fds.into_iter().next();
        if self.table.map(span, access, fd, offset)? == Mapped::Added {
            self.recorder.mapped(span, access);
        }
        Ok(())
    }

    fn dma_unmap(&mut self, fields: &mut Fields) -> Result<(), Errno> {
        let (_argsz, flags) = (u32_of(fields)?, u32_of(fields)?);
        let span = match flags {
            0 => span_of(fields)?,
            UNMAP_ALL => Span::ALL,
            _ => return Err(Errno::INVAL),
        };
        self.table.unmap(span);
        self.recorder.unmapped();
        Ok(())
    }

    fn region_read(&mut self, fields: &mut Fields) -> Result<Vec<u8>, Errno> {
        let (offset, region, count) = (u64_of(fields)?, u32_of(fields)?, u32_of(fields)?);
        let size = self.access_size(region, offset, count)?;
        let mut reply = access_reply(region, offset, count);
        let start = reply.len();
        reply.resize(start + size, 0);
        let data = &mut reply[start..];
        match region {
            _ if self.hidden() => data.fill(0xff),
            CONFIG => {
                let at = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
                data.copy_from_slice(self.config.read(at, size).ok_or(Errno::INVAL)?);
                if let Some((part, register)) = self.in_window(at, size) {
                    self.read_registers(register, &mut data[part])?;
                }
            }
            BAR0 => self.read_registers(offset, data)?,
            // BAR 2: QEMU has the vector table; no interrupt is ever pending here.
            _ => {}
        }
        Ok(reply)
    }

    fn read_registers(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let view = View {
            engine: &self.engine,
            table: &self.table,
            recorder: &self.recorder,
        };
        if self.registers.read(offset, data, &view) {
            Ok(())
        } else {
            Err(Errno::INVAL)
        }
    }

    /// The part of an access to a VF's configuration space that falls into its window, and the register it begins at.
    fn in_window(&self, at: usize, size: usize) -> Option<(Range<usize>, u64)> {
        let first = at.max(config::WINDOW);
        let end = (at + size).min(config::WINDOW + config::WINDOW_SIZE);
        let register = u64::try_from(first - config::WINDOW).ok()?;
        (self.kind == Kind::Virtual && first < end).then(|| (first - at..end - at, register))
    }

    fn region_write(&mut self, mut fields: Fields) -> Result<Vec<u8>, Errno> {
        let (offset, region, count) = (
            u64_of(&mut fields)?,
            u32_of(&mut fields)?,
            u32_of(&mut fields)?,
        );
        let size = self.access_size(region, offset, count)?;
        let data = fields.data(count).ok_or(Errno::INVAL)?;
        match region {
            _ if self.hidden() => {}
            CONFIG => {
                let at = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
                match self.config.write(at, data).ok_or(Errno::INVAL)? {
                    config::Effect::Reset => self.reset(),
                    config::Effect::None => {}
                }
                if let Some((part, register)) = self.in_window(at, size) {
                    self.write_registers(register, &data[part])?;
                }
            }
            BAR0 => self.write_registers(offset, data)?,
            // BAR 2: writes to the vector table end in QEMU.
            _ => {}
        }
        Ok(access_reply(region, offset, count))
    }

    fn write_registers(&mut self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        match self.registers.write(offset, data).ok_or(Errno::INVAL)? {
            registers::Effect::Start(job) => {
                self.engine.start(job);
                self.running = true;
            }
            registers::Effect::Mark(value) => self.mark(value),
            registers::Effect::List => self.registers.keep(self.table.reach().list()),
            registers::Effect::None => {}
        }
        Ok(())
    }

    /// Function level reset. What the IOMMU lets the device reach, and QEMU's descriptors, are not the function's.
    fn reset(&mut self) {
        self.config.reset();
        self.config.set_pending(self.pending);
        self.registers = Registers::default();
        self.engine.reset();
        self.running = false;
    }

    /// Takes the engine a step on and returns what it wants sent, if anything.
    pub fn advance(&mut self) -> Option<DmaRequest> {
        self.running = false;
        let table = match self.way {
            Way::Table => Some(&self.table),
            Way::Messages => None,
        };
        match self.engine.advance(table, self.config.bus_master()) {
            Action::Wait => None,
            Action::Again => {
                self.running = true;
                None
            }
            Action::Ended => {
                self.irqs.raise(DONE_VECTOR);
                None
            }
            Action::Send(request) => {
                self.set_pending(true);
                Some(request)
            }
        }
    }

    /// The reply to what `advance` returned last.
    pub fn answer(&mut self, header: &Header, payload: &[u8]) {
        self.set_pending(false);
        let good = header.error.is_none();
        let data = match header.command {
            command::DMA_READ => proto::dma_read_data(payload).filter(|_| good),
            _ => good.then_some(payload),
        };
        if self.engine.answer(data) {
            self.irqs.raise(DONE_VECTOR);
        }
        self.running = true;
    }

    fn set_pending(&mut self, pending: bool) {
        self.pending = pending;
        self.config.set_pending(pending);
    }

    /// Whether `advance` should be called without waiting for a message.
    pub fn running(&self) -> bool {
        self.running
    }

    /// Sets a mark in the record: by the mark register, or by signal.
    pub fn mark(&mut self, value: u64) {
        self.recorder.mark(value, &self.table, self.engine.totals);
    }

    pub fn record(&self, ended: &'static str) -> Record {
        self.recorder.finish(ended, &self.table, self.engine.totals)
    }
}

impl Device {
    fn region_size(&self, region: u32) -> Option<u64> {
        match (region, self.kind) {
            (CONFIG, _) => u64::try_from(config::SIZE).ok(),
            (BAR0, Kind::Physical { .. }) => Some(config::BAR0_SIZE),
            (BAR2, Kind::Physical { msix: true, .. }) => Some(config::BAR2_SIZE),
            _ => (region < REGIONS).then_some(0),
        }
    }

    fn region_info(&self, fields: &mut Fields) -> Result<Vec<u8>, Errno> {
        let (_argsz, _flags, index) = (u32_of(fields)?, u32_of(fields)?, u32_of(fields)?);
        let size = self.region_size(index).ok_or(Errno::INVAL)?;
        let flags = if size == 0 { 0 } else { REGION_READ_WRITE };
        let mut reply = words(&[32, flags, index, 0]);
        reply.extend(size.to_le_bytes());
        reply.extend(0u64.to_le_bytes());
        Ok(reply)
    }

    fn irq_info(&self, fields: &mut Fields) -> Result<Vec<u8>, Errno> {
        let (_argsz, _flags, index) = (u32_of(fields)?, u32_of(fields)?, u32_of(fields)?);
        let mut count = irq::count(index).ok_or(Errno::INVAL)?;
        if index == irq::MSIX && !matches!(self.kind, Kind::Physical { msix: true, .. }) {
            count = 0;
        }
        Ok(words(&[16, IRQ_EVENTFD | IRQ_NORESIZE, index, count]))
    }

    /// The size of a region access that lies inside its region.
    fn access_size(&self, region: u32, offset: u64, count: u32) -> Result<usize, Errno> {
        let end = offset.checked_add(u64::from(count));
        let size = self.region_size(region).ok_or(Errno::INVAL)?;
        match (end, usize::try_from(count)) {
            (Some(end), Ok(count)) if end <= size => Ok(count),
            _ => Err(Errno::INVAL),
        }
    }
}

fn u32_of(fields: &mut Fields) -> Result<u32, Errno> {
    fields.u32().ok_or(Errno::INVAL)
}

fn u64_of(fields: &mut Fields) -> Result<u64, Errno> {
    fields.u64().ok_or(Errno::INVAL)
}

fn span_of(fields: &mut Fields) -> Result<Span, Errno> {
    let (first, size) = (u64_of(fields)?, u64_of(fields)?);
    Span::new(first, size).ok_or(Errno::INVAL)
}

fn words(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn version(fields: &mut Fields) -> Result<Vec<u8>, Errno> {
    // Any minor version includes 0, which is what the reply says.
    match (fields.u16(), fields.u16()) {
        (Some(0), Some(_)) => Ok(proto::version()),
        _ => Err(Errno::INVAL),
    }
}

fn access_reply(region: u32, offset: u64, count: u32) -> Vec<u8> {
    let mut reply = offset.to_le_bytes().to_vec();
    reply.extend(words(&[region, count]));
    reply
}
