// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The life of the process's context, on device nodes that every machine has. Each
//! test has a node of its own, by which its descriptors are counted.
#![allow(unsafe_code)]

use super::*;
use crate::Settings;
use rustix::fs::{fcntl_getfl, fcntl_setfl, OFlags};
use std::{
    cell::RefCell,
    fs,
    os::fd::{AsFd, AsRawFd, RawFd},
    panic::{catch_unwind, AssertUnwindSafe},
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        Barrier,
    },
    thread,
};

fn process(node: &'static str) -> Process {
    Process::new(Settings {
        node,
        pf: || None,
        in_vm: || false,
    })
}

fn context(process: &Process) -> &'static Context {
    match process.reach() {
        Ok(Reach::Module(context)) => context,
        other => panic!("no context: {other:?}"),
    }
}

fn number(context: &Context) -> RawFd {
    context.as_fd().as_raw_fd()
}

fn descriptors(node: &str) -> usize {
    let node = fs::canonicalize(node).unwrap();
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter(|entry| {
            let link = fs::read_link(entry.as_ref().unwrap().path());
            link.is_ok_and(|link| link == node)
        })
        .count()
}

/// Runs `body` in a child, which is killed after 20 seconds, and returns its exit
/// status; `None` if a signal ended it.
fn in_child(body: impl FnOnce() -> i32) -> Option<i32> {
    // SAFETY: the child calls nothing that another thread's locks could stop but
    // malloc, which the C library keeps usable, and ends without unwinding.
    unsafe {
        match libc::fork() {
            0 => {
                libc::alarm(20);
                libc::_exit(catch_unwind(AssertUnwindSafe(body)).unwrap_or(99))
            }
            child => {
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
                libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
            }
        }
    }
}

/// An exit status that says which of the facts does not hold, from 1 up.
fn first_false(facts: &[bool]) -> i32 {
    let first = facts.iter().position(|fact| !fact);
    first.map_or(0, |index| i32::try_from(index).unwrap() + 1)
}

#[test]
fn threads_share_one_context() {
    /// No thread gets past opening before all have opened: seven come too late.
    static OPENED: Barrier = Barrier::new(8);
    let node = "/dev/zero";
    let process = Process::new(Settings {
        node,
        pf: || {
            OPENED.wait();
            None
        },
        in_vm: || false,
    });
    let numbers: Vec<RawFd> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| number(context(&process))))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(numbers.iter().all(|n| *n == numbers[0]), "{numbers:?}");
    assert_eq!(descriptors(node), 1);
}

#[test]
fn a_child_has_a_context_of_its_own() {
    let node = "/dev/full";
    let process = process(node);
    // Marks the open file, which a child's copy of the descriptor shares.
    let flags = fcntl_getfl(context(&process)).unwrap();
    fcntl_setfl(context(&process), flags | OFlags::NONBLOCK).unwrap();

    let status = in_child(|| {
        let own = context(&process);
        let inherited = fcntl_getfl(own).unwrap().contains(OFlags::NONBLOCK);
        first_false(&[
            !inherited,
            number(context(&process)) == number(own),
            descriptors(node) == 1,
        ])
    });
    assert_eq!(status, Some(0));

    let flags = fcntl_getfl(context(&process)).unwrap();
    assert!(flags.contains(OFlags::NONBLOCK), "the parent's is the same");
    assert_eq!(descriptors(node), 1);
}

#[test]
fn a_child_of_a_busy_parent_is_not_stuck() {
    let process = process("/dev/null");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    context(&process);
                }
            });
        }
        for _ in 0..50 {
            let status = in_child(|| i32::from(process.reach().is_err()));
            if status != Some(0) {
                stop.store(true, Ordering::Relaxed);
            }
            assert_eq!(status, Some(0));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_closed_descriptor_is_replaced_and_a_foreign_one_left_alone() {
    let node = "/dev/urandom";
    // In a child: other tests would get the number between close and dup2.
    let status = in_child(|| {
        let process = process(node);
        let first = number(context(&process));
        let other = fs::File::open("/dev/null").unwrap();
        // SAFETY: what a program does that closes descriptors it does not know of.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), first) }, first);

        let second = number(context(&process));
        let foreign = fs::read_link(format!("/proc/self/fd/{first}")).unwrap();

        // SAFETY: as above.
        assert_eq!(unsafe { libc::close(second) }, 0);
        first_false(&[
            second != first,
            foreign == Path::new("/dev/null"),
            context(&process).is_intact(),
            descriptors(node) == 1,
        ])
    });
    assert_eq!(status, Some(0));
}

#[test]
fn without_the_module_it_depends_on_the_machine() {
    let settings = Settings {
        node: "/nonexistent/qat_iommu",
        pf: || None,
        in_vm: || false,
    };
    let failure = Process::new(settings).reach().unwrap_err();
    assert_eq!(failure.errno(), libc::ENODEV);
    let in_vm = Settings {
        in_vm: || true,
        ..settings
    };
    let reach = Process::new(in_vm).reach();
    assert!(matches!(reach, Ok(Reach::NothingToDo)), "{reach:?}");
}

#[test]
fn other_reasons_are_failures_in_a_vm_too() {
    let process = Process::new(Settings {
        node: "/proc/self/mem/not-a-directory",
        pf: || None,
        in_vm: || true,
    });
    assert_eq!(process.reach().unwrap_err().errno(), libc::ENOTDIR);
}

#[test]
fn a_pf_that_cannot_be_chosen_leaves_nothing_open() {
    let node = "/dev/random";
    let wrong = Process::new(Settings {
        node,
        pf: || Some("6b:00.0".into()),
        in_vm: || false,
    });
    assert_eq!(wrong.reach().unwrap_err().errno(), libc::EINVAL);
    let absent = Process::new(Settings {
        node,
        pf: || Some("0000:6b:00.0".into()),
        in_vm: || false,
    });
    assert!(absent.reach().is_err());
    assert_eq!(descriptors(node), 0);
}

#[test]
fn a_call_is_made_again_when_the_descriptor_was_closed() {
    // In a child: other tests would get the number.
    let status = in_child(|| {
        let process = process("/dev/null");
        let first = number(context(&process));
        let used = RefCell::new(Vec::new());
        let call = |context: &'static Context| {
            used.borrow_mut().push(number(context));
            let result = context.info();
            if used.borrow().len() == 1 {
                // SAFETY: what a program does that closes descriptors it does not know of.
                assert_eq!(unsafe { libc::close(number(context)) }, 0);
                // The number is in use again, by something else.
                std::mem::forget(fs::File::open("/dev/zero").unwrap());
            }
            result
        };
        let refused = process.attempt(call).unwrap_err().errno();
        let used = used.borrow();
        let calls = used.len();
        let call = |_| -> Result<(), qat_iommu::Error> { Ok(()) };
        first_false(&[
            refused == libc::ENOTTY,
            calls == 2,
            used[0] == first,
            used[1] != first,
            process.attempt(call).is_ok(),
        ])
    });
    assert_eq!(status, Some(0));
}

#[test]
fn without_the_module_nothing_can_be_mapped() {
    for in_vm in [|| true, || false] {
        let process = Process::new(Settings {
            node: "/nonexistent/qat_iommu",
            pf: || None,
            in_vm,
        });
        let failure = process.attempt(|context| context.info()).unwrap_err();
        assert_eq!(failure.errno(), libc::ENODEV);
        assert!(failure.reason().contains("modprobe"));
    }
}
