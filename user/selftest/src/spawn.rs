// SPDX-License-Identifier: GPL-2.0
//! Starting programs while other threads close contexts. Between fork and exec a new
//! process has a copy of every open file, so that a file closed at that moment would
//! live on a little; here the two exclude each other.

use std::io;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

static FORKING: Mutex<()> = Mutex::new(());

/// Runs a program to its end; what it said.
pub fn output(command: &mut Command) -> io::Result<Output> {
    let child = {
        let _forking = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
        // Returns when the new program has begun, and has none of our files any more.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?
    };
    child.wait_with_output()
}

/// Runs `act`, which forks and waits for the child, while nobody closes anything.
pub fn alone<T>(act: impl FnOnce() -> T) -> T {
    let _forking = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
    act()
}

/// Closes what the value holds, for good.
pub fn close<T>(value: T) {
    let _forking = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
    drop(value);
}
