// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The table as the calls use it.

use super::*;
use qat_iommu::Context;

fn record(address: usize, length: usize, iova: u64) -> Record {
    Record {
        address,
        length,
        iova,
        owner: Owner::Container(1),
    }
}

fn buffer(address: usize, length: usize) -> Wanted {
    Wanted::Buffer { address, length }
}

#[test]
fn what_is_taken_is_not_found_any_more() {
    let buffers = Buffers::new().unwrap();
    buffers.add([record(0x10000, 0x3000, 0x7000)]);
    assert_eq!(buffers.lookup(0x12fff), Some(0x9fff));
    for wrong in [buffer(0x10000, 0x2000), buffer(0x11000, 0x2000)] {
        assert_eq!(buffers.take(wrong, |_| true), None);
    }
    assert_eq!(buffers.lookup(0x10000), Some(0x7000));
    let taken = buffers.take(buffer(0x10000, 0x3000), |_| true).unwrap();
    assert_eq!(buffers.lookup(0x10000), None);
    assert_eq!(buffers.lookup(0x11000), None);
    buffers.add([taken]);
    assert_eq!(buffers.lookup(0x11000), Some(0x8000));
}

#[test]
fn alone_means_not_a_byte_in_common() {
    let buffers = Buffers::new().unwrap();
    assert!(buffers.add_alone(record(0x10000, 0x1000, 0x7000)));
    for (address, length) in [(0x10000, 0x1000), (0xf000, 0x2000), (0x10fff, 1)] {
        assert!(buffers.touches(address, length));
        assert!(!buffers.add_alone(record(address, length, 0x20_0000)));
    }
    assert!(!buffers.touches(0x11000, 0x1000));
    assert!(buffers.add_alone(record(0x11000, 0x1000, 0x20_0000)));
    assert_eq!(buffers.lookup(0x10fff), Some(0x7fff));
}

#[test]
fn several_are_taken_or_none() {
    let buffers = Buffers::new().unwrap();
    buffers.add([record(0x10000, 100, 0x7000), record(0x20000, 100, 0x9000)]);
    let missing = [
        buffer(0x10000, 100),
        buffer(0x20000, 100),
        buffer(0x10000, 100),
    ];
    assert_eq!(buffers.take_each(missing, |_| true), Err(2));
    assert_eq!(buffers.lookup(0x10000), Some(0x7000));
    let both = [buffer(0x20000, 100), buffer(0x10000, 100)];
    assert_eq!(buffers.take_each(both, |_| true).unwrap().len(), 2);
    assert_eq!(buffers.lookup(0x10000), None);
    assert_eq!(buffers.take_each(both, |_| true), Err(0));
}

#[test]
fn a_new_context_empties_what_the_old_one_held() {
    let context =
        || -> &'static Context { Box::leak(Box::new(Context::open_node("/dev/null").unwrap())) };
    let (old, new) = (context(), context());
    let by = |owner, address| Record {
        owner,
        ..record(address, 0x1000, address as u64 + 0x70_0000)
    };
    let buffers = Buffers::new().unwrap();
    buffers.add([
        by(Owner::Context(old), 0x1000),
        by(Owner::Context(old), 0x2000),
        by(Owner::Container(1), 0x3000),
    ]);
    assert!(buffers.lookup(0x1000).is_some());
    buffers.add([by(Owner::Context(new), 0x4000)]);
    let found = [0x1000, 0x2000, 0x3000, 0x4000].map(|address| buffers.lookup(address).is_some());
    assert_eq!(found, [false, false, true, true]);
    assert_eq!(buffers.take(buffer(0x1000, 0x1000), |_| true), None);
}

#[test]
fn a_child_finds_nothing_of_its_parent() {
    let buffers = crate::buffers().unwrap();
    buffers.add([record(0x10_0000, 0x1000, 0x7000)]);
    // Another thread may hold it at the moment of the fork.
    let held = buffers.lock();
    #[allow(unsafe_code)]
    // SAFETY: the child calls nothing but malloc and ends without unwinding.
    let status = unsafe {
        match libc::fork() {
            0 => {
                libc::alarm(20);
                let nothing = crate::lookup(0x10_0000).is_none();
                let own = crate::buffers().unwrap();
                let refused = own.take(buffer(0x10_0000, 0x1000), |_| true).is_none();
                own.add([record(0x20_0000, 0x1000, 0x9000)]);
                let found = crate::lookup(0x20_0000) == Some(0x9000);
                let still = crate::lookup(0x10_0000).is_none();
                libc::_exit(i32::from(nothing && refused && found && still))
            }
            child => {
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
                status
            }
        }
    };
    drop(held);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 1);
    assert_eq!(crate::lookup(0x10_0000), Some(0x7000));
    assert_eq!(crate::lookup(0x20_0000), None);
}
