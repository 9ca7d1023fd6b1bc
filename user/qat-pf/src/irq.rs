// SPDX-License-Identifier: GPL-2.0
//! Interrupts: the event descriptors that QEMU sends with SET_IRQS, and raising an MSI-X vector by one of them.
//! Masking and the vector table are QEMU's.

use crate::config::MSIX_VECTORS;
use crate::proto::Fields;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// VFIO's interrupt types for PCI: INTx, MSI, MSI-X, error, request.
pub const TYPES: u32 = 5;
pub const MSIX: u32 = 2;
const ERROR: u32 = 3;

const DATA_NONE: u32 = 1 << 0;
const DATA_BOOL: u32 = 1 << 1;
const DATA_EVENTFD: u32 = 1 << 2;
const ACTION_TRIGGER: u32 = 1 << 5;

/// How many interrupts there are of a type; None for an unknown type.
pub fn count(index: u32) -> Option<u32> {
    match index {
        MSIX => Some(u32::from(MSIX_VECTORS)),
        // Never raised, but QEMU warns of a device that has none.
        ERROR => Some(1),
        _ => (index < TYPES).then_some(0),
    }
}

type Vectors = [Option<OwnedFd>; MSIX_VECTORS as usize];

#[derive(Default)]
pub struct Irqs {
    msix: Vectors,
}

impl Irqs {
    /// Handles a SET_IRQS payload with its descriptors.
    pub fn set(&mut self, payload: &[u8], fds: Vec<OwnedFd>) -> Result<(), Errno> {
        let mut fields = Fields(payload);
        let mut field = || fields.u32().ok_or(Errno::INVAL);
        let (_argsz, flags, index, start, number) =
            (field()?, field()?, field()?, field()?, field()?);
        let have = count(index).ok_or(Errno::INVAL)?;
        let end = start.checked_add(number).filter(|&end| end <= have);
        let end = end.ok_or(Errno::INVAL)?;
        let data = flags & !ACTION_TRIGGER;
        // Nothing here can be masked by message.
        if flags & ACTION_TRIGGER == 0 || !matches!(data, DATA_NONE | DATA_BOOL | DATA_EVENTFD) {
            return Err(Errno::INVAL);
        }
        if data == DATA_EVENTFD && !fds.is_empty() && u32::try_from(fds.len()) != Ok(number) {
            return Err(Errno::INVAL);
        }
        if index != MSIX {
            return Ok(());
        }
        if data == DATA_NONE && number == 0 {
            self.msix = Default::default();
            return Ok(());
        }
        let wanted = match data {
            DATA_BOOL => fields.data(number).ok_or(Errno::INVAL)?,
            _ => &[],
        };
        let mut fds = fds.into_iter();
        for (place, vector) in (start..end).enumerate() {
            let vector = usize::try_from(vector).map_err(|_| Errno::INVAL)?;
            match data {
                DATA_EVENTFD => self.msix[vector] = fds.next().map(nonblocking).transpose()?,
                DATA_BOOL if wanted[place] == 0 => {}
                _ => self.raise(vector),
            }
        }
        Ok(())
    }

    /// Raises a vector, if the guest has set it up.
    pub fn raise(&self, vector: usize) {
        if let Some(Some(fd)) = self.msix.get(vector) {
            // A full counter means that QEMU has one pending already.
            let _ = rustix::io::write(fd, &1u64.to_le_bytes());
        }
    }
}

/// A descriptor that cannot hold the server up, whatever the client sent.
fn nonblocking(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{eventfd, EventfdFlags};
    use std::os::fd::AsFd;

    fn payload(flags: u32, index: u32, start: u32, number: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = [20, flags, index, start, number]
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .collect();
        bytes.extend(data);
        bytes
    }

    fn event() -> (OwnedFd, OwnedFd) {
        let ours = eventfd(0, EventfdFlags::NONBLOCK).expect("eventfd");
        let theirs = ours.as_fd().try_clone_to_owned().expect("dup");
        (ours, theirs)
    }

    fn seen(fd: &OwnedFd) -> u64 {
        let mut value = [0; 8];
        match rustix::io::read(fd, &mut value) {
            Ok(_) => u64::from_le_bytes(value),
            Err(_) => 0,
        }
    }

    #[test]
    fn a_vector_is_set_raised_and_taken_away() {
        let mut irqs = Irqs::default();
        let (ours, theirs) = event();
        irqs.raise(1);
        let set = payload(DATA_EVENTFD | ACTION_TRIGGER, MSIX, 1, 1, &[]);
        assert_eq!(irqs.set(&set, vec![theirs]), Ok(()));
        irqs.raise(0);
        assert_eq!(seen(&ours), 0);
        irqs.raise(1);
        assert_eq!(seen(&ours), 1);
        let by_message = payload(DATA_BOOL | ACTION_TRIGGER, MSIX, 0, 3, &[1, 1, 0]);
        assert_eq!(irqs.set(&by_message, vec![]), Ok(()));
        assert_eq!(seen(&ours), 1);
        assert_eq!(irqs.set(&set, vec![]), Ok(()));
        irqs.raise(1);
        assert_eq!(seen(&ours), 0);
    }

    #[test]
    fn disabling_forgets_all_vectors() {
        let mut irqs = Irqs::default();
        let (ours, theirs) = event();
        let set = payload(DATA_EVENTFD | ACTION_TRIGGER, MSIX, 0, 1, &[]);
        assert_eq!(irqs.set(&set, vec![theirs]), Ok(()));
        let disable = payload(DATA_NONE | ACTION_TRIGGER, MSIX, 0, 0, &[]);
        assert_eq!(irqs.set(&disable, vec![]), Ok(()));
        irqs.raise(0);
        assert_eq!(seen(&ours), 0);
    }

    #[test]
    fn nonsense_is_refused() {
        let mut irqs = Irqs::default();
        let (_ours, theirs) = event();
        let trigger = DATA_EVENTFD | ACTION_TRIGGER;
        let bad = [
            payload(trigger, MSIX, 4, 1, &[]),
            payload(trigger, MSIX, u32::MAX, 2, &[]),
            payload(trigger, 9, 0, 0, &[]),
            payload(DATA_EVENTFD, MSIX, 0, 1, &[]),
            payload(DATA_NONE | (1 << 3), MSIX, 0, 1, &[]),
            payload(DATA_NONE | DATA_BOOL | ACTION_TRIGGER, MSIX, 0, 1, &[]),
            payload(DATA_BOOL | ACTION_TRIGGER, MSIX, 0, 2, &[1]),
            payload(trigger, MSIX, 0, 1, &[])[..19].to_vec(),
        ];
        for payload in bad {
            assert_eq!(irqs.set(&payload, vec![]), Err(Errno::INVAL), "{payload:?}");
        }
        let two = payload(trigger, MSIX, 0, 2, &[]);
        assert_eq!(irqs.set(&two, vec![theirs]), Err(Errno::INVAL));
    }
}
