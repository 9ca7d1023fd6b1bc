// SPDX-License-Identifier: GPL-2.0
//! What a test expects, said so that a failure names what was wanted and what
//! came instead.

use anyhow::{bail, Result};
use rustix::io::Errno;
use std::fmt::Debug;

/// The call succeeded; its value.
pub fn succeeds<T>(what: &str, result: Result<T, Errno>) -> Result<T> {
    match result {
        Ok(value) => Ok(value),
        Err(got) => bail!("{what}: expected success, got {}", name(got)),
    }
}

/// The call failed with exactly this error.
pub fn fails<T: Debug>(what: &str, result: Result<T, Errno>, want: Errno) -> Result<()> {
    match result {
        Err(got) if got == want => Ok(()),
        Err(got) => bail!("{what}: expected {}, got {}", name(want), name(got)),
        Ok(value) => bail!("{what}: expected {}, got success ({value:x?})", name(want)),
    }
}

/// Two values are equal.
pub fn equal<T: PartialEq + Debug>(what: &str, got: T, want: T) -> Result<()> {
    if got != want {
        bail!("{what}: expected {want:#x?}, got {got:#x?}");
    }
    Ok(())
}

/// Something is true.
pub fn holds(what: &str, truth: bool) -> Result<()> {
    if !truth {
        bail!("not true: {what}");
    }
    Ok(())
}

/// The name that people know an error by.
pub fn name(error: Errno) -> String {
    let name = match error {
        Errno::ACCESS => "EACCES",
        Errno::ADDRINUSE => "EADDRINUSE",
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::TOOBIG => "E2BIG",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::FAULT => "EFAULT",
        Errno::INVAL => "EINVAL",
        Errno::IO => "EIO",
        Errno::NODEV => "ENODEV",
        Errno::NOENT => "ENOENT",
        Errno::NOMEM => "ENOMEM",
        Errno::NOSPC => "ENOSPC",
        Errno::NOTTY => "ENOTTY",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::OVERFLOW => "EOVERFLOW",
        Errno::PERM => "EPERM",
        Errno::RANGE => "ERANGE",
        other => return format!("errno {} ({other})", other.raw_os_error()),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_error_than_the_expected_one_fails() {
        let wrong: Result<(), Errno> = Err(Errno::INVAL);
        let error = fails("map", wrong, Errno::EXIST).unwrap_err();
        assert_eq!(error.to_string(), "map: expected EEXIST, got EINVAL");
        assert!(fails("map", Err::<(), _>(Errno::EXIST), Errno::EXIST).is_ok());
    }

    #[test]
    fn success_is_not_an_error() {
        let error = fails("map", Ok(16u64), Errno::EXIST).unwrap_err();
        assert_eq!(error.to_string(), "map: expected EEXIST, got success (10)");
    }

    #[test]
    fn unequal_values_are_shown() {
        let error = equal("mapped", 4096u64, 8192).unwrap_err();
        assert_eq!(error.to_string(), "mapped: expected 0x2000, got 0x1000");
    }
}
