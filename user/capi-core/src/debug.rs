// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Lines on stderr for those who set `QAT_IOMMU_DEBUG=1`.

use std::{
    ffi::OsStr,
    io::{self, Write},
};

/// Prints one line if that is wanted.
pub fn say(text: &str) {
    if wanted(std::env::var_os("QAT_IOMMU_DEBUG").as_deref()) {
        warn(text);
    }
}

/// Prints one line whether it is wanted or not: for what makes a program go wrong
/// without any call failing.
pub fn warn(text: &str) {
    // It is no concern of the program's when there is nowhere to print to.
    let _ = RawStderr.write_all(line(text).as_bytes());
}

fn wanted(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| !value.is_empty() && value != "0")
}

fn line(text: &str) -> String {
    format!("libqat_iommu: {text}\n")
}

/// stderr without the standard library's lock, which another thread may have held
/// at the moment of a fork.
struct RawStderr;

impl Write for RawStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_the_library() {
        assert_eq!(line("the size is 0"), "libqat_iommu: the size is 0\n");
    }

    #[test]
    fn lines_are_for_those_who_ask() {
        assert!(wanted(Some("1".as_ref())));
        for value in [None, Some("".as_ref()), Some("0".as_ref())] {
            assert!(!wanted(value));
        }
    }
}
