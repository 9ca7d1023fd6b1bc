// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Why a call failed: the errno for the program, the line for whoever asked for it
//! with `QAT_IOMMU_DEBUG=1`.

use crate::debug;
use rustix::io::Errno;

/// Why a call failed. One word, so that results that may be one are passed on at no cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(Box<Reason>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reason {
    errno: i32,
    text: String,
}

impl Failure {
    /// A failure that the library itself finds.
    #[cold]
    pub fn new(errno: i32, reason: impl Into<String>) -> Self {
        Self(Box::new(Reason {
            errno,
            text: reason.into(),
        }))
    }

    /// There is no memory for the library's own records.
    pub fn no_memory(errno: Errno) -> Self {
        Self::new(
            errno.raw_os_error(),
            "no memory for the library's own records; free some and try again",
        )
    }

    /// What the program finds in errno.
    pub fn errno(&self) -> i32 {
        self.0.errno
    }

    /// One line that says what was wrong and what to do.
    pub fn reason(&self) -> &str {
        &self.0.text
    }

    /// Prints the reason if that is wanted.
    pub(crate) fn report(&self, call: &str) {
        debug::say(&format!("{call}: {}", self.0.text));
    }
}

impl From<qat_iommu::Error> for Failure {
    #[cold]
    fn from(error: qat_iommu::Error) -> Self {
        // To the caller it is all one whether the node or the device is missing.
        let errno = if error.module_missing() {
            libc::ENODEV
        } else {
            error.errno()
        };
        Self::new(errno, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qat_iommu::Context;

    #[test]
    fn a_missing_module_is_a_missing_device() {
        let error = Context::open_node("/nonexistent/qat_iommu").unwrap_err();
        let failure = Failure::from(error);
        assert_eq!(failure.errno(), libc::ENODEV);
        assert!(failure.reason().contains("modprobe qat_iommu"));
    }

    #[test]
    fn other_errors_keep_their_number() {
        let error = Context::open_node("/dev/null").unwrap().info().unwrap_err();
        assert_eq!(Failure::from(error).errno(), libc::ENOTTY);
    }
}
