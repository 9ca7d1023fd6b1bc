// SPDX-License-Identifier: GPL-2.0
//! The vfio-user messages, as bytes: the header, the requests a client sends, the replies to them, and the two
//! requests a device sends (DMA_READ, DMA_WRITE). Version 0.0, little endian. Nothing here touches a socket.

use rustix::io::Errno;

pub const HEADER: usize = 16;
/// The most data one message may carry, announced to the client.
pub const MAX_DATA: usize = 1 << 20;
/// The largest message there is: data behind a header and two 8-byte fields.
pub const MAX_MESSAGE: usize = MAX_DATA + HEADER + 16;
pub const MAX_FDS: usize = 8;

const REPLY: u32 = 1;
const TYPE: u32 = 0xf;
const NO_REPLY: u32 = 0x10;
const ERROR: u32 = 0x20;

pub mod command {
    pub const VERSION: u16 = 1;
    pub const DMA_MAP: u16 = 2;
    pub const DMA_UNMAP: u16 = 3;
    pub const DEVICE_GET_INFO: u16 = 4;
    pub const DEVICE_GET_REGION_INFO: u16 = 5;
    pub const DEVICE_GET_IRQ_INFO: u16 = 7;
    pub const DEVICE_SET_IRQS: u16 = 8;
    pub const REGION_READ: u16 = 9;
    pub const REGION_WRITE: u16 = 10;
    pub const DMA_READ: u16 = 11;
    pub const DMA_WRITE: u16 = 12;
    pub const DEVICE_RESET: u16 = 13;
    pub const DIRTY_PAGES: u16 = 14;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub id: u16,
    pub command: u16,
    /// Of the whole message.
    pub size: usize,
    pub reply: bool,
    pub no_reply: bool,
    /// In a reply: the request failed. 0 from the peer is still a failure.
    pub error: Option<u32>,
}

impl Header {
    /// None if the stream can no longer be trusted: a size no message has, or neither request nor reply.
    pub fn parse(bytes: &[u8; HEADER]) -> Option<Header> {
        let mut fields = Fields(bytes);
        let (id, command) = (fields.u16()?, fields.u16()?);
        let size = usize::try_from(fields.u32()?).ok()?;
        let (flags, errno) = (fields.u32()?, fields.u32()?);
        if !(HEADER..=MAX_MESSAGE).contains(&size) || flags & TYPE > REPLY {
            return None;
        }
        Some(Header {
            id,
            command,
            size,
            reply: flags & TYPE == REPLY,
            no_reply: flags & NO_REPLY != 0,
            error: (flags & ERROR != 0).then_some(errno),
        })
    }
}

/// Takes little-endian fields off the front of a payload.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// Exactly `size` bytes, the rest of the payload.
    pub fn data(self, size: u32) -> Option<&'a [u8]> {
        (u32::try_from(self.0.len()) == Ok(size)).then_some(self.0)
    }
}

fn message(id: u16, command: u16, flags: u32, errno: u32, parts: &[&[u8]]) -> Vec<u8> {
    let size = HEADER + parts.iter().map(|part| part.len()).sum::<usize>();
    debug_assert!(size <= MAX_MESSAGE);
    let mut bytes = Vec::with_capacity(size);
    bytes.extend(id.to_le_bytes());
    bytes.extend(command.to_le_bytes());
    bytes.extend(u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(errno.to_le_bytes());
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// The answer to a request: its payload, or the error and nothing else.
pub fn reply(to: &Header, result: Result<&[u8], Errno>) -> Vec<u8> {
    match result {
        Ok(payload) => message(to.id, to.command, REPLY, 0, &[payload]),
        Err(errno) => message(
            to.id,
            to.command,
            REPLY | ERROR,
            errno.raw_os_error().unsigned_abs(),
            &[],
        ),
    }
}

/// What the device asks of the client when it cannot reach memory by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DmaRequest {
    Read { iova: u64, count: u32 },
    Write { iova: u64, data: Vec<u8> },
}

impl DmaRequest {
    pub fn encode(&self, id: u16) -> Vec<u8> {
        match self {
            DmaRequest::Read { iova, count } => message(
                id,
                command::DMA_READ,
                0,
                0,
                &[&iova.to_le_bytes(), &u64::from(*count).to_le_bytes()],
            ),
            DmaRequest::Write { iova, data } => {
                let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
                message(
                    id,
                    command::DMA_WRITE,
                    0,
                    0,
                    &[&iova.to_le_bytes(), &count.to_le_bytes(), data],
                )
            }
        }
    }
}

/// The data of a DMA_READ reply: behind the address and the count.
pub fn dma_read_data(payload: &[u8]) -> Option<&[u8]> {
    payload.get(16..)
}

/// Payload of the VERSION reply. QEMU takes page sizes as a mask and hands it on to a virtual IOMMU, so all of them
/// from 4 KiB up are offered.
pub fn version() -> Vec<u8> {
    let mut payload = vec![0; 4];
    let capabilities = serde_json::json!({"capabilities": {
        "max_msg_fds": MAX_FDS,
        "max_data_xfer_size": MAX_DATA,
        "pgsizes": !0xfffu64,
    }});
    payload.extend(capabilities.to_string().into_bytes());
    payload.push(0);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: &[u8]) -> Header {
        let head = bytes.first_chunk().expect("a header");
        Header::parse(head).expect("a valid header")
    }

    #[test]
    fn a_reply_names_its_request() {
        let request = Header {
            id: 0x1234,
            command: command::REGION_READ,
            size: 32,
            reply: false,
            no_reply: false,
            error: None,
        };
        let good = reply(&request, Ok(b"abcd"));
        assert_eq!(good.len(), 20);
        assert_eq!(&good[..4], [0x34, 0x12, 9, 0]);
        let head = header(&good);
        assert!(head.reply && head.error.is_none() && head.size == 20);

        let bad = reply(&request, Err(Errno::EXIST));
        assert_eq!(bad.len(), HEADER);
        assert_eq!(header(&bad).error, Some(17));
    }

    #[test]
    fn dma_requests_have_the_documented_layout() {
        let read = DmaRequest::Read {
            iova: 0x1122_3344_5566_7788,
            count: 7,
        }
        .encode(5);
        assert_eq!(read.len(), 32);
        assert_eq!(header(&read).command, command::DMA_READ);
        assert_eq!(read[16..24], 0x1122_3344_5566_7788u64.to_le_bytes());
        assert_eq!(read[24..32], 7u64.to_le_bytes());

        let write = DmaRequest::Write {
            iova: 0x1000,
            data: b"xyz".to_vec(),
        }
        .encode(6);
        assert_eq!(header(&write).size, 35);
        assert_eq!(write[24..32], 3u64.to_le_bytes());
        assert_eq!(&write[32..], b"xyz");
    }

    #[test]
    fn headers_that_cannot_be_followed_are_refused() {
        let good = message(1, command::DEVICE_RESET, 0, 0, &[]);
        let with = |at: usize, value: u32| {
            let mut bytes = *good.first_chunk::<HEADER>().expect("a header");
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            Header::parse(&bytes)
        };
        assert!(with(4, 16).is_some());
        assert!(with(4, 15).is_none());
        assert!(with(4, 0).is_none());
        assert!(with(4, u32::MAX).is_none());
        assert!(with(8, 2).is_none());
        assert!(with(8, NO_REPLY).is_some_and(|h| h.no_reply && !h.reply));
    }

    #[test]
    fn fields_run_out_instead_of_panicking() {
        let mut fields = Fields(&[1, 0, 0, 0, 2]);
        assert_eq!(fields.u32(), Some(1));
        assert_eq!(fields.u64(), None);
        assert_eq!(Fields(&[1, 2]).data(3), None);
        assert_eq!(Fields(&[1, 2]).data(2), Some(&[1, 2][..]));
        assert_eq!(dma_read_data(&[0; 15]), None);
    }

    #[test]
    fn the_version_reply_is_json_with_a_final_nul() {
        let payload = version();
        assert_eq!(payload[..4], [0; 4]);
        let (nul, json) = payload[4..].split_last().expect("text");
        assert_eq!(*nul, 0);
        let value: serde_json::Value = serde_json::from_slice(json).expect("json");
        assert_eq!(value["capabilities"]["pgsizes"], 0xffff_ffff_ffff_f000u64);
        assert_eq!(value["capabilities"]["max_data_xfer_size"], 1 << 20);
    }
}
