// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Which VFIO container the process has registered, and how often: once per device. As
//! in libusdm there is one at a time.

use crate::{container::Container, vfio::ContainerFd};
use libc::{EBUSY, EINVAL};
use qat_iommu_capi_buffers::{Backend, Buffers, NotUnmapped};
use qat_iommu_capi_core::{say, Failure};
use rustix::io::Errno;
use std::{
    os::fd::RawFd,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex, MutexGuard, PoisonError,
    },
};

#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
    /// There has been one.
    ever: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Arc<Container>>,
    /// Devices that have registered the current one.
    devices: u32,
    /// Containers so far: a number is never used again.
    numbers: u64,
}

impl Registry {
    /// The registered container.
    pub(crate) fn current(&self) -> Option<Arc<Container>> {
        if !self.ever() {
            return None;
        }
        self.lock().current.clone()
    }

    /// Whether there has been one at any time.
    #[inline]
    pub(crate) fn ever(&self) -> bool {
        self.ever.load(Ordering::Acquire)
    }

    /// Registers a container for one more device.
    pub(crate) fn register(&self, buffers: &Buffers, fd: RawFd) -> Result<(), Failure> {
        let wanted = ContainerFd::new(fd).map_err(|errno| not_open(fd, errno))?;
        let mut state = self.lock();
        self.ever.store(true, Ordering::Release);
        if let Some(current) = &state.current {
            if current.fd() == wanted {
                current.refresh();
                state.devices += 1;
                return Ok(());
            }
            if current.fd().is_intact() {
                return Err(Failure::new(
                    EBUSY,
                    format!(
                        "another VFIO container, descriptor {}, is registered; unregister it first",
                        current.fd().number()
                    ),
                ));
            }
            // The program has closed it.
            buffers.take_all(|owner| owner == current.owner());
        }
        state.numbers += 1;
        state.current = Some(Arc::new(Container::new(state.numbers, wanted)));
        state.devices = 1;
        Ok(())
    }

    /// Unregisters a container for one device; with the last one its mappings go.
    pub(crate) fn unregister(&self, buffers: &Buffers, fd: RawFd) -> Result<(), Failure> {
        let mut state = self.lock();
        let current = state.current.clone();
        let Some(current) = current.filter(|current| current.fd().number() == fd) else {
            return Err(Failure::new(
                EINVAL,
                format!("descriptor {fd} is not a registered VFIO container"),
            ));
        };
        state.devices -= 1;
        if state.devices == 0 {
            state.current = None;
            drop(state);
            release(buffers, &current);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unmaps what was mapped in a container that nobody will ask for any more.
fn release(buffers: &Buffers, container: &Container) {
    for record in buffers.take_all(|owner| owner == container.owner()) {
        match container.unmap(&record) {
            Ok(()) => {}
            // Closed before it was unregistered: they went with it.
            Err(NotUnmapped::AllGone(_)) => break,
            Err(NotUnmapped::Kept(failure) | NotUnmapped::Gone(failure)) => {
                say(&format!("qaeUnregisterDevice: {}", failure.reason()));
            }
        }
    }
}

fn not_open(fd: RawFd, errno: Errno) -> Failure {
    Failure::new(
        errno.raw_os_error(),
        format!("{fd} is not the descriptor of an open VFIO container"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use qat_iommu_capi_buffers::{Owner, Record};
    use std::{fs::File, os::fd::AsRawFd};

    fn errno(result: Result<(), Failure>) -> i32 {
        result.unwrap_err().errno()
    }

    #[test]
    fn one_container_for_any_number_of_devices() {
        let (registry, buffers) = (Registry::default(), Buffers::new().unwrap());
        let (one, other) = (File::open("/dev/null"), File::open("/dev/zero"));
        let (one, other) = (one.unwrap(), other.unwrap());
        let (one, other) = (one.as_raw_fd(), other.as_raw_fd());
        assert_eq!(errno(registry.unregister(&buffers, one)), EINVAL);
        assert!(registry.current().is_none());
        registry.register(&buffers, one).unwrap();
        registry.register(&buffers, one).unwrap();
        assert_eq!(errno(registry.register(&buffers, other)), EBUSY);
        assert_eq!(errno(registry.unregister(&buffers, other)), EINVAL);
        registry.unregister(&buffers, one).unwrap();
        assert_eq!(registry.current().unwrap().fd().number(), one);
        registry.unregister(&buffers, one).unwrap();
        assert!(registry.current().is_none());
        registry.register(&buffers, other).unwrap();
        assert_eq!(registry.current().unwrap().owner(), Owner::Container(2));
        assert_eq!(errno(registry.register(&buffers, -1)), libc::EBADF);
    }

    #[test]
    fn mappings_go_with_the_registration() {
        let (registry, buffers) = (Registry::default(), Buffers::new().unwrap());
        let file = File::open("/dev/null").unwrap();
        let fd = file.as_raw_fd();
        registry.register(&buffers, fd).unwrap();
        registry.register(&buffers, fd).unwrap();
        let record = |address, owner| Record {
            address,
            length: 0x1000,
            iova: 0x20_0000,
            owner,
        };
        buffers.add([
            record(0x1000, Owner::Container(1)),
            record(0x2000, Owner::Container(9)),
        ]);
        registry.unregister(&buffers, fd).unwrap();
        assert!(buffers.lookup(0x1000).is_some());
        registry.unregister(&buffers, fd).unwrap();
        assert!(buffers.lookup(0x1000).is_none());
        assert!(buffers.lookup(0x2000).is_some());
    }

    #[test]
    fn a_closed_container_gives_way() {
        let (registry, buffers) = (Registry::default(), Buffers::new().unwrap());
        let (one, other) = (File::open("/dev/null"), File::open("/dev/zero"));
        let (one, other) = (one.unwrap(), other.unwrap());
        registry.register(&buffers, one.as_raw_fd()).unwrap();
        buffers.add([Record {
            address: 0x1000,
            length: 0x1000,
            iova: 0x20_0000,
            owner: Owner::Container(1),
        }]);
        rustix::io::dup2(&other, &mut std::mem::ManuallyDrop::new(one.into())).unwrap();
        registry.register(&buffers, other.as_raw_fd()).unwrap();
        assert!(buffers.lookup(0x1000).is_none());
    }
}
