// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The calls on a backend that does as it is told, and on the module where it is not.

use super::*;
use crate::Module;
use qat_iommu_capi_core::{Process, Settings};
use std::sync::{
    atomic::{AtomicU64, AtomicUsize, Ordering},
    Barrier, Mutex,
};

/// Maps upwards from 1 GiB, and fails to unmap as it is told.
#[derive(Default)]
struct Fake {
    next: AtomicU64,
    live: AtomicUsize,
    together: Option<Barrier>,
    error: Mutex<Option<NotUnmapped>>,
}

impl Backend for Fake {
    fn map(&self, request: &Request) -> Result<(u64, Owner), Failure> {
        if let Some(barrier) = &self.together {
            barrier.wait();
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        let length = u64::try_from(request.length).unwrap();
        let next = self.next.fetch_add(length, Ordering::Relaxed);
        Ok(((1 << 30) + next, Owner::Container(1)))
    }

    fn unmap(&self, _: &Record) -> Result<(), NotUnmapped> {
        if let Some(error) = self.error.lock().unwrap().take() {
            return Err(error);
        }
        self.live.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}

fn request(address: usize, alone: bool) -> Request {
    Request {
        address,
        length: 0x2000,
        access: Access::ReadWrite,
        placement: Placement::Any,
        alone,
    }
}

fn target(address: usize, length: usize) -> Wanted {
    Wanted::Buffer { address, length }
}

#[test]
fn maps_and_unmaps_exactly() {
    let (buffers, fake) = (Buffers::new().unwrap(), Fake::default());
    let iova = map(&buffers, &fake, &request(0x10000, true)).unwrap();
    assert_eq!(buffers.lookup(0x11fff), Some(iova + 0x1fff));
    for wrong in [target(0x10000, 0x1000), target(0x11000, 0x1000)] {
        let failure = unmap(&buffers, &fake, wrong, |_| true).unwrap_err();
        assert_eq!(failure.errno(), ENOENT);
    }
    assert_eq!(buffers.lookup(0x11fff), Some(iova + 0x1fff));
    let right = target(0x10000, 0x2000);
    assert_eq!(unmap(&buffers, &fake, right, |_| true), Ok(()));
    assert_eq!(buffers.lookup(0x10000), None);
    let failure = unmap(&buffers, &fake, right, |_| true).unwrap_err();
    assert_eq!(failure.errno(), ENOENT);
    assert_eq!(fake.live.into_inner(), 0);
}

#[test]
fn the_same_buffer_twice_for_those_who_do_not_mind() {
    let (buffers, fake) = (Buffers::new().unwrap(), Fake::default());
    let first = map(&buffers, &fake, &request(0x10000, false)).unwrap();
    let second = map(&buffers, &fake, &request(0x10000, false)).unwrap();
    assert_eq!(buffers.lookup(0x10000), Some(second));
    let failure = map(&buffers, &fake, &request(0x11000, true)).unwrap_err();
    assert_eq!(failure.errno(), EEXIST);
    unmap(&buffers, &fake, target(0x10000, 0x2000), |_| true).unwrap();
    assert_eq!(buffers.lookup(0x10000), Some(first));
    assert_eq!(fake.live.into_inner(), 1);
}

#[test]
fn of_two_threads_that_map_one_buffer_one_succeeds() {
    let buffers = Buffers::new().unwrap();
    let fake = Fake {
        together: Some(Barrier::new(2)),
        ..Fake::default()
    };
    let map = || map(&buffers, &fake, &request(0x10000, true));
    let results = std::thread::scope(|scope| {
        let threads = [scope.spawn(map), scope.spawn(map)];
        threads.map(|thread| thread.join().unwrap())
    });
    let iova = results.iter().find_map(|result| result.as_ref().ok());
    let failure = results.iter().find_map(|result| result.as_ref().err());
    assert_eq!(failure.unwrap().errno(), EEXIST);
    assert_eq!(buffers.lookup(0x10000), iova.copied());
    assert_eq!(fake.live.into_inner(), 1);
}

#[test]
fn what_stays_mapped_stays_in_the_table() {
    let (buffers, fake) = (Buffers::new().unwrap(), Fake::default());
    let failure = || Failure::new(libc::EINTR, "not now");
    for (error, stays, other) in [
        (NotUnmapped::Kept(failure()), true, true),
        (NotUnmapped::Gone(failure()), false, true),
        (NotUnmapped::AllGone(failure()), false, false),
    ] {
        map(&buffers, &fake, &request(0x10000, true)).unwrap();
        map(&buffers, &fake, &request(0x20000, true)).unwrap();
        *fake.error.lock().unwrap() = Some(error.clone());
        let result = unmap(&buffers, &fake, target(0x10000, 0x2000), |_| true);
        assert_eq!(result, Err(failure()));
        assert_eq!(buffers.lookup(0x10000).is_some(), stays, "{error:?}");
        assert_eq!(buffers.lookup(0x20000).is_some(), other, "{error:?}");
        buffers.take_all(|_| true);
    }
}

#[test]
fn without_the_module_nothing_is_entered() {
    let process = Process::new(Settings {
        node: "/nonexistent",
        pf: || None,
        in_vm: || true,
    });
    let buffers = Buffers::new().unwrap();
    let module = Module(&process);
    let failure = map(&buffers, &module, &request(0x10000, true)).unwrap_err();
    assert_eq!(failure.errno(), libc::ENODEV);
    assert_eq!(buffers.lookup(0x10000), None);

    let missing = Wanted::Range {
        iova: 0x1000,
        length: 1,
    };
    let (failure, index) = module.unmap_batch(&buffers, [missing]).unwrap_err();
    assert_eq!((failure.errno(), index), (ENOENT, Some(0)));
    assert_eq!(module.unmap_batch(&buffers, []), Ok(()));
}
