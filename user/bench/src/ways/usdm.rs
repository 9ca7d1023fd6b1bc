// SPDX-License-Identifier: GPL-2.0
//! Intel's libusdm on a container of VFIO's. It has one state per process.

use anyhow::Result;
use libloading::Library as Object;
use std::ffi::c_int;

use super::library::{open, pointer, Lookup, MapContiguous, UnmapContiguous};
use super::vfio::Container;
use super::{check, Way};
use crate::machine::Machine;
use crate::memory::Span;

type Register = unsafe extern "C" fn(c_int) -> c_int;

pub struct Libusdm {
    map: MapContiguous,
    unmap: UnmapContiguous,
    unregister: Register,
    lookup: Lookup,
    _object: Object,
    container: Container,
}

impl Libusdm {
    pub fn new(machine: &Machine) -> Result<Self> {
        let container = Container::new(&machine.usdm)?;
        let object = open(&machine.libusdm)?;
        // SAFETY: these are their prototypes.
        unsafe {
            let register = *object.get::<Register>(b"qaeRegisterDevice\0")?;
            // Twice, as with two devices: it forgets reserved ranges the first time.
            for _ in 0..2 {
                check("qaeRegisterDevice", register(container.fd()) == 0)?;
            }
            Ok(Self {
                map: *object.get(b"qaeMemMapContiguousIova\0")?,
                unmap: *object.get(b"qaeMemUnmapContiguousIova\0")?,
                unregister: *object.get(b"qaeUnregisterDevice\0")?,
                lookup: *object.get(b"qaeVirtToPhysNUMA\0")?,
                _object: object,
                container,
            })
        }
    }

    pub fn lookup(&self) -> Lookup {
        self.lookup
    }
}

impl Way for Libusdm {
    fn map(&mut self, buffer: Span, _: u64) -> Result<u64> {
        // SAFETY: buffers are memory that nothing refers to, and outlive the ways.
        let iova = unsafe { (self.map)(pointer(buffer.address), buffer.length) };
        check("libusdm's qaeMemMapContiguousIova", iova != 0)?;
        Ok(iova)
    }

    fn unmap(&mut self, buffer: Span, _: u64) -> Result<()> {
        // SAFETY: it looks at no memory of the buffer.
        let done = unsafe { (self.unmap)(pointer(buffer.address), buffer.length) };
        check("libusdm's qaeMemUnmapContiguousIova", done == 0)
    }
}

impl Drop for Libusdm {
    fn drop(&mut self) {
        for _ in 0..2 {
            // SAFETY: it takes a descriptor. What fails goes with the container.
            unsafe { (self.unregister)(self.container.fd()) };
        }
    }
}
