// SPDX-License-Identifier: GPL-2.0
//! System calls that only the C library offers in a usable form: fork, a signal
//! handler with a timer, secret memory, large pages at once, page faults that nobody
//! handles; and descriptors sent through sockets.

use anyhow::{bail, ensure, Context as _, Result};
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::mm::UserfaultfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::time::Duration;

/// What a forked child reports: 0 is good.
type Code = i32;

/// A file of secret memory, if the kernel has it.
pub fn memfd_secret() -> Option<OwnedFd> {
    // SAFETY: makes a new descriptor, touches nothing else.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the descriptor is new and ours alone.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A child that fork made.
pub struct Forked(libc::pid_t);

impl Forked {
    /// Forks. The child runs `act` and ends with its code; it may make system calls and access
    /// memory, but not allocate: other threads may have held the allocator's lock.
    pub fn new(act: impl FnOnce() -> Code) -> Result<Self> {
        // SAFETY: the child does only what `act` does, by the contract above, and ends.
        match unsafe { libc::fork() } {
            -1 => bail!("cannot fork"),
            0 => {
                let code = act();
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(code) }
            }
            child => Ok(Self(child)),
        }
    }

    /// Waits for its end; its code must be 0.
    pub fn wait(self) -> Result<()> {
        let code = self.code()?;
        ensure!(code == 0, "the child ended with code {code}");
        Ok(())
    }

    /// Waits for its end; its code.
    pub fn code(self) -> Result<Code> {
        let mut status = 0;
        // SAFETY: the status is written to a variable of ours.
        let waited = unsafe { libc::waitpid(self.0, &mut status, 0) };
        std::mem::forget(self);
        ensure!(waited > 0, "cannot wait for the child");
        ensure!(
            libc::WIFEXITED(status),
            "the child ended with status {status:#x}"
        );
        Ok(libc::WEXITSTATUS(status))
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        // SAFETY: it is our child, not waited for yet, so the number is its own.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Has the kernel make large pages of some memory. What it holds stays as it is.
pub fn collapse(start: *mut u8, len: usize) -> Result<(), Errno> {
    // SAFETY: nothing that a program could see changes.
    match unsafe { libc::madvise(start.cast(), len, libc::MADV_COLLAPSE) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// Becomes the program that does nothing; returns only if it cannot. Does not allocate.
pub fn become_true() -> Code {
    let arguments = [c"true".as_ptr(), std::ptr::null()];
    // SAFETY: path and list end with 0; the list is not changed.
    unsafe { libc::execv(c"/bin/true".as_ptr(), arguments.as_ptr()) };
    127
}

/// Goes on in a child of this process, in a session of its own; this process ends with success.
/// Only for programs of one thread.
pub fn daemonise() -> Result<()> {
    // SAFETY: there is one thread, so the child finds everything in order.
    match unsafe { libc::fork() } {
        -1 => bail!("cannot fork"),
        0 => {
            rustix::process::setsid()?;
            Ok(())
        }
        // SAFETY: ends this process at once, without destructors: what it has is the child's now.
        _ => unsafe { libc::_exit(0) },
    }
}

/// Sends a descriptor through a socket.
pub fn send_descriptor(socket: impl AsFd, fd: impl AsFd) -> Result<()> {
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(
        control.push(SendAncillaryMessage::ScmRights(&fds)),
        "no room for a descriptor"
    );
    let data = [IoSlice::new(b"x")];
    rustix::net::sendmsg(socket, &data, &mut control, SendFlags::empty())?;
    Ok(())
}

/// Receives a descriptor through a socket.
pub fn receive_descriptor(socket: impl AsFd) -> Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            return fds.next().context("the message has no descriptor");
        }
    }
    bail!("the message has no descriptor")
}

/// From here on this thread may read, write and end, and is killed for anything else.
pub fn sandbox() -> Result<()> {
    // SAFETY: takes no pointer.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
    ensure!(done == 0, "seccomp: {}", std::io::Error::last_os_error());
    Ok(())
}

extern "C" fn ignore(_: libc::c_int) {}

/// Has a signal whose handler does nothing interrupt this process once, after a while.
pub fn interrupt_after(delay: Duration) -> Result<()> {
    // SAFETY: all-zero is a valid value of both structures; the handler does nothing, and without
    // SA_RESTART system calls are not begun anew.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        let mut timer: libc::itimerval = std::mem::zeroed();
        timer.it_value.tv_sec = libc::time_t::try_from(delay.as_secs())?;
        timer.it_value.tv_usec = libc::suseconds_t::from(delay.subsec_micros());
        libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()) == 0
            && libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) == 0
    };
    ensure!(done, "cannot set a timer");
    Ok(())
}

/// The kernel's `struct uffdio_api`.
#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// The kernel's `struct uffdio_register`.
#[repr(C)]
struct UffdioRegister {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

const UFFD_API: u64 = 0xaa;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;
/// `_IOWR(0xaa, 0x3f, struct uffdio_api)`
const UFFDIO_API: libc::Ioctl = 0xc018_aa3f;
/// `_IOWR(0xaa, 0x00, struct uffdio_register)`
const UFFDIO_REGISTER: libc::Ioctl = 0xc020_aa00;

/// Page faults in this memory wait for as long as the descriptor is open.
pub fn hold_faults(start: *mut u8, len: usize) -> Result<OwnedFd> {
    // SAFETY: makes a new descriptor; what it is told about is memory of the caller's that nothing
    // touches any more.
    let faults = unsafe { rustix::mm::userfaultfd(UserfaultfdFlags::CLOEXEC) }?;
    let mut api = UffdioApi {
        api: UFFD_API,
        features: 0,
        ioctls: 0,
    };
    let mut register = UffdioRegister {
        start: crate::abi::address(start),
        len: u64::try_from(len)?,
        mode: UFFDIO_REGISTER_MODE_MISSING,
        ioctls: 0,
    };
    // SAFETY: both structures have the layout that the commands want.
    let done = unsafe {
        libc::ioctl(faults.as_raw_fd(), UFFDIO_API, &mut api) == 0
            && libc::ioctl(faults.as_raw_fd(), UFFDIO_REGISTER, &mut register) == 0
    };
    ensure!(done, "userfaultfd: {}", std::io::Error::last_os_error());
    Ok(faults)
}
