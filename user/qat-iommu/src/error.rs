// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! What can go wrong: which call, the kernel's errno, and one line for people.

use crate::{explain::explain, Attach, Iova, Phys, Placement};
use rustix::io::Errno;
use std::{fmt, path::PathBuf};

/// A call that failed. It has changed nothing.
///
/// Displayed, it is one line that says what was tried, what was wrong and what to
/// do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action}: {}", explain(.action, *.errno))]
pub struct Error {
    action: Action,
    errno: Errno,
}

/// The call that failed, and what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open the device node.
    Open {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Ask for the host's PFs and the context's space.
    Info,
    /// Choose a space.
    Attach {
        /// The one that was wanted.
        to: Attach,
    },
    /// Map a physical range.
    MapPhys {
        /// Physical address.
        phys: Phys,
        /// IOVA it was to be mapped at.
        iova: Iova,
        /// Bytes.
        length: u64,
    },
    /// Map a buffer of this process.
    MapUser {
        /// Where it begins.
        address: usize,
        /// Bytes.
        length: usize,
        /// Where it was to be mapped.
        placement: Placement,
    },
    /// Remove the mapping of a buffer of this process.
    UnmapUser {
        /// Where it begins.
        address: usize,
        /// Bytes.
        length: usize,
    },
    /// List the context's mappings.
    Query,
    /// Map or unmap several buffers at once: the batch as such is wrong.
    Batch {
        /// Buffers.
        count: usize,
    },
    /// Remove a mapping.
    Unmap {
        /// First IOVA.
        iova: Iova,
        /// Bytes.
        length: u64,
        /// One that a kernel client left behind.
        forced: bool,
    },
}

impl Error {
    pub(crate) fn new(action: Action, errno: Errno) -> Self {
        Self { action, errno }
    }

    /// The kernel's error number, as in `<errno.h>`.
    pub fn errno(&self) -> i32 {
        self.errno.raw_os_error()
    }

    /// The call that failed.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// Whether the reason is that the kernel module is not loaded.
    pub fn module_missing(&self) -> bool {
        matches!(self.action, Action::Open { .. })
            && matches!(self.errno, Errno::NOENT | Errno::NODEV | Errno::NXIO)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Open { path } => write!(f, "open {}", path.display()),
            Action::Info => f.write_str("ask for the PFs"),
            Action::Attach {
                to: Attach::Default,
            } => f.write_str("attach to the default space"),
            Action::Attach { to: Attach::Pf(pf) } => write!(f, "attach to the space of {pf}"),
            Action::MapPhys { phys, iova, length } => {
                write!(f, "map {length} bytes at physical {phys} to IOVA {iova}")
            }
            Action::MapUser {
                address,
                length,
                placement,
            } => {
                write!(f, "map the buffer of {length} bytes at {address:#x}")?;
                match placement {
                    Placement::Any => Ok(()),
                    Placement::Aligned(bytes) => write!(f, ", aligned to {bytes:#x}"),
                    Placement::Fixed(iova) => write!(f, ", at IOVA {iova}"),
                }
            }
            Action::UnmapUser { address, length } => {
                write!(f, "unmap the buffer of {length} bytes at {address:#x}")
            }
            Action::Query => f.write_str("list the mappings"),
            Action::Batch { count } => write!(f, "handle {count} buffers at once"),
            Action::Unmap { iova, length, .. } => write!(f, "unmap {length} bytes at IOVA {iova}"),
        }
    }
}
