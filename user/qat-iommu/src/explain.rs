// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The reason of each errno in plain words, with what to do about it: the glossary
//! of the C header, from the caller's side.

use crate::{page_size, Action, Attach, Placement};
use qat_iommu_uapi as uapi;
use rustix::io::Errno;

/// The reason why `action` failed with `errno`, the errno's name at its end.
pub(crate) fn explain(action: &Action, errno: Errno) -> String {
    let (name, reason) = reason(action, errno);
    match name {
        Some(name) => format!("{reason} ({name})"),
        None => format!("{reason} (errno {})", errno.raw_os_error()),
    }
}

fn reason(action: &Action, errno: Errno) -> (Option<&'static str>, String) {
    let general = general(errno);
    let name = general.map(|(name, _)| name);
    let particular = match action {
        Action::Open { .. } => open(errno).map(String::from),
        Action::Attach { to } => attach(*to, errno),
        Action::MapUser {
            address,
            length,
            placement,
        } => map_user(*address, *length, *placement, errno),
        Action::UnmapUser { .. } if errno == Errno::NOENT => Some(
            "this process has no mapping of exactly that buffer; give the address and the \
             size of the map"
                .into(),
        ),
        Action::UnmapUser { length: 0, .. } if errno == Errno::INVAL => {
            Some("the size is 0; give at least 1 byte".into())
        }
        Action::Batch { .. } if errno == Errno::TOOBIG => Some(format!(
            "a batch has at most {} buffers; split it",
            uapi::QAT_IOMMU_BATCH_MAX
        )),
        Action::Unmap { forced: true, .. } if errno != Errno::INVAL => forced(errno),
        _ if errno == Errno::INVAL => invalid(action, page_size()),
        _ => None,
    };
    let reason = particular
        .or_else(|| general.map(|(_, reason)| reason.into()))
        .unwrap_or_else(|| "the kernel gives a reason that this version does not know".into());
    (name, reason)
}

fn open(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => {
            "the kernel module is not loaded; load it with `modprobe qat_iommu`"
        }
        Errno::ACCESS | Errno::PERM => {
            "this user may not open it; run as root, or join the group qat-iommu"
        }
        _ => return None,
    })
}

fn attach(to: Attach, errno: Errno) -> Option<String> {
    match (errno, to) {
        (Errno::NODEV, Attach::Pf(pf)) => Some(format!(
            "there is no usable QAT PF at {pf}; `qat-iommu info` lists those there are"
        )),
        (Errno::NODEV, Attach::Default) => Some(
            "there is no usable QAT PF, or several shared ones leave no default; \
             `qat-iommu info` lists them, name one"
                .into(),
        ),
        _ => None,
    }
}

fn map_user(address: usize, length: usize, placement: Placement, errno: Errno) -> Option<String> {
    let page = page_size();
    let text = match (errno, placement) {
        (Errno::INVAL, _) if length == 0 => "the size is 0; give at least 1 byte".into(),
        (Errno::INVAL, Placement::Aligned(bytes)) => format!(
            "the alignment {bytes:#x} is not a power of two of at least {page:#x}; give 0 to \
             leave it to the kernel"
        ),
        (Errno::INVAL, Placement::Fixed(iova)) => format!(
            "IOVA {iova} and address {address:#x} are not at the same offset within a page; \
             choose an IOVA that is"
        ),
        (Errno::FAULT, _) => "the buffer cannot be pinned: part of it is not mapped, not \
             accessible (writable, where the device may write), a device's, or of a file \
             that is mapped writable; use anonymous, shared or huge page memory"
            .into(),
        (Errno::NOMEM, _) => "the buffer exceeds what this process may lock (`ulimit -l`), or \
             the kernel is out of memory; raise RLIMIT_MEMLOCK or free some"
            .into(),
        (Errno::PERM, Placement::Fixed(_)) => {
            "a fixed IOVA needs CAP_SYS_RAWIO; run as root, or leave the IOVA to the kernel".into()
        }
        (Errno::PERM, _) => "the PF is not translated, so that IOVAs are physical addresses, \
             which need CAP_SYS_RAWIO; run as root"
            .into(),
        (Errno::OPNOTSUPP, _) => "the IOMMU cannot do it (read-only pages), or the PF is not \
             translated and the buffer is not physically contiguous; use a huge page, or map \
             for read and write"
            .into(),
        (Errno::INTR, _) => "a signal ended the call, nothing is mapped; call again".into(),
        _ => return None,
    };
    Some(text)
}

fn forced(errno: Errno) -> Option<String> {
    Some(match errno {
        Errno::NOENT => "no kernel client has a mapping of exactly this range; `qat-iommu list` \
             shows those that were left behind (a program's mappings go when it ends)"
            .into(),
        Errno::PERM => {
            "releasing what a kernel client mapped needs CAP_SYS_RAWIO; run as root".into()
        }
        _ => return None,
    })
}

/// Which of the arguments is the invalid one.
fn invalid(action: &Action, page: u64) -> Option<String> {
    let (phys, iova, length) = match *action {
        Action::MapPhys { phys, iova, length } => (phys.get(), iova, length),
        Action::Unmap { iova, length, .. } => (0, iova, length),
        _ => return None,
    };
    let hint = "allocate the buffer page aligned (aligned_alloc or mmap; plain malloc is not)";
    if phys % page != 0 {
        Some(format!(
            "the physical address is not a multiple of {page}; {hint}"
        ))
    } else if iova.get() % page != 0 {
        Some(format!("the IOVA is not a multiple of {page}; {hint}"))
    } else if length == 0 {
        Some("the size is 0; give at least 1 byte".into())
    } else {
        None
    }
}

/// Name and meaning of every errno that the interface documents, and of those that
/// opening a file can give.
fn general(errno: Errno) -> Option<(&'static str, &'static str)> {
    Some(match errno {
        Errno::ACCESS => (
            "EACCES",
            "user space may not map that physical memory; by default only system RAM, \
             load the module with phys=any for more",
        ),
        Errno::ADDRINUSE => (
            "EADDRINUSE",
            "the kernel's DMA API uses that IOVA for a shared PF; use another IOVA, \
             or bind the PF with `qat-iommu bind`",
        ),
        Errno::ADDRNOTAVAIL => (
            "EADDRNOTAVAIL",
            "that IOVA cannot be honoured: it is reserved, or kept from a shared PF \
             (module parameter shared_fixed=), or the PF is not translated and the IOVA \
             is not the physical address; `qat-iommu info` shows which",
        ),
        Errno::TOOBIG => (
            "E2BIG",
            "the module is older than this library; load the module of this version",
        ),
        Errno::BADF => (
            "EBADF",
            "the descriptor of the device was closed by another part of the program; \
             keep it open",
        ),
        Errno::BUSY => (
            "EBUSY",
            "the context still has mappings in its space; unmap them first",
        ),
        Errno::EXIST => (
            "EEXIST",
            "part of that IOVA range is mapped already; unmap it first, \
             `qat-iommu list` shows it",
        ),
        Errno::FAULT => ("EFAULT", "a pointer is bad; this is an error of the caller"),
        Errno::INVAL => (
            "EINVAL",
            "the module takes an argument to be invalid; load the module of this version",
        ),
        Errno::INTR => (
            "EINTR",
            "a signal ended the call; the program is being ended",
        ),
        Errno::IO => (
            "EIO",
            "the IOMMU did not do exactly what was asked; do not use the memory again, \
             `dmesg` has the details",
        ),
        Errno::MFILE => (
            "EMFILE",
            "the process has too many open files; close some or raise `ulimit -n`",
        ),
        Errno::NFILE => (
            "ENFILE",
            "the system has too many open files; raise the sysctl fs.file-max",
        ),
        Errno::NODEV => (
            "ENODEV",
            "there is no usable QAT PF, or the chosen one is gone; \
             `qat-iommu doctor` says what to do",
        ),
        Errno::NOENT => (
            "ENOENT",
            "this process has no mapping of exactly that range; give the IOVA and the \
             size of the map",
        ),
        Errno::NOMEM => (
            "ENOMEM",
            "the kernel has no memory left for it; free some and try again",
        ),
        Errno::NOSPC => (
            "ENOSPC",
            "no free range of IOVAs is large enough; unmap something, or ask for less \
             alignment",
        ),
        Errno::NOTTY => (
            "ENOTTY",
            "the device does not know the command; load the module of this version",
        ),
        Errno::NXIO => ("ENXIO", "there is no such device; load the module again"),
        Errno::OPNOTSUPP => (
            "EOPNOTSUPP",
            "the IOMMU cannot do it (read-only pages, or fixed IOVAs of a shared PF \
             behind virtio-iommu); `qat-iommu bind` the PF, or map for read and write",
        ),
        Errno::OVERFLOW => (
            "EOVERFLOW",
            "the range wraps around at 2^64; check address and size",
        ),
        Errno::PERM => (
            "EPERM",
            "physical addresses need CAP_SYS_RAWIO and a kernel that is not locked down; \
             run as root",
        ),
        Errno::RANGE => (
            "ERANGE",
            "the range ends beyond the IOVAs of the space or beyond the processor's \
             physical addresses; `qat-iommu info` shows the limits",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::{Action, Attach, Error, Iova, Phys, Placement};
    use rustix::io::Errno;

    fn map(phys: u64, iova: u64, length: u64) -> Action {
        Action::MapPhys {
            phys: Phys::new(phys),
            iova: Iova::new(iova),
            length,
        }
    }

    fn text(action: Action, errno: Errno) -> String {
        Error::new(action, errno).to_string()
    }

    #[test]
    fn invalid_arguments_are_named() {
        let page = crate::page_size();
        let phys = text(map(page + 16, page + 16, 100), Errno::INVAL);
        assert!(phys.contains("the physical address is not"), "{phys}");
        assert!(phys.contains("aligned_alloc") && phys.ends_with("(EINVAL)"));
        let iova = text(map(page, page + 16, 100), Errno::INVAL);
        assert!(iova.contains("the IOVA is not"), "{iova}");
        let size = text(map(page, page, 0), Errno::INVAL);
        assert!(size.contains("the size is 0"), "{size}");
        let other = text(map(page, page, 100), Errno::INVAL);
        assert!(other.contains("module of this version"), "{other}");
    }

    #[test]
    fn the_same_errno_means_different_things() {
        let open = || Action::Open {
            path: "/dev/qat_iommu".into(),
        };
        let pf = "0000:6b:00.0".parse().unwrap();
        assert!(text(open(), Errno::ACCESS).contains("group qat-iommu"));
        assert!(text(map(0, 0, 1), Errno::ACCESS).contains("phys=any"));
        assert!(text(open(), Errno::NOENT).contains("modprobe"));
        assert!(text(map(0, 0, 1), Errno::NOENT).contains("no mapping of exactly"));
        let attach = text(Action::Attach { to: Attach::Pf(pf) }, Errno::NODEV);
        assert!(
            attach.contains("no usable QAT PF at 0000:6b:00.0"),
            "{attach}"
        );
        let default = Action::Attach {
            to: Attach::Default,
        };
        assert!(text(default, Errno::NODEV).contains("leave no default"));
        let buffer = |placement| Action::MapUser {
            address: 0x7000_0000,
            length: 4096,
            placement,
        };
        let limit = text(buffer(Placement::Any), Errno::NOMEM);
        assert!(limit.contains("ulimit -l"), "{limit}");
        let rawio = text(buffer(Placement::Fixed(Iova::new(0x1000))), Errno::PERM);
        assert!(rawio.contains("at IOVA 0x1000") && rawio.contains("fixed IOVA needs"));
        let batch = Action::Batch { count: 70_000 };
        assert!(text(batch, Errno::TOOBIG).contains("at most 65536"));
    }

    #[test]
    fn every_documented_errno_has_a_line_with_its_name() {
        let glossary = include_str!("../../../include/uapi/linux/qat_iommu.h");
        let mut names = 0;
        for number in 1..200 {
            let errno = Errno::from_raw_os_error(number);
            let Some((name, reason)) = super::general(errno) else {
                continue;
            };
            let line = text(map(0x1000, 0x1000, 1), errno);
            assert!(line.contains(reason) && line.ends_with(&format!("({name})")));
            assert!(!line.contains('\n') && !line.contains("  "), "{line}");
            names += usize::from(glossary.contains(&format!(" *  {name} ")));
        }
        let documented = glossary
            .lines()
            .filter(|line| line.starts_with(" *  E") && line.len() > 16)
            .count();
        assert!(documented > 15, "{documented}");
        assert_eq!(names, documented);
    }

    #[test]
    fn unknown_errnos_keep_their_number() {
        let line = text(map(0x1000, 0x1000, 1), Errno::from_raw_os_error(131));
        assert!(line.ends_with("(errno 131)"), "{line}");
    }

    #[test]
    fn the_line_says_what_was_tried() {
        let line = text(map(0x1_0000_0000, 0x2000, 5000), Errno::EXIST);
        assert!(
            line.starts_with("cannot map 5000 bytes at physical 0x100000000 to IOVA 0x2000: "),
            "{line}"
        );
    }
}
