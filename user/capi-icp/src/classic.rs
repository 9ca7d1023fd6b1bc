// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! What the classic calls do, for any process: the module decides, and where there
//! is none a virtual machine has nothing to do.

use libc::{EINVAL, ENOENT, EOVERFLOW};
use qat_iommu::{page_size, round_up, Access, Iova, Phys};
use qat_iommu_capi_buffers::{is_module, unmap as unmap_buffer, Module, Wanted, BUFFERS};
use qat_iommu_capi_core::{keeping_errno, Failure, Process, Reach};

/// Rounds up to the unit of mapping, which is the kernel's page where the module
/// cannot be asked.
pub(crate) fn remap_size(process: &Process, bytes: usize) -> Result<usize, Failure> {
    if bytes == 0 {
        return Err(Failure::new(EINVAL, "the size is 0; give at least 1 byte"));
    }
    let granule = match process.reach() {
        Ok(Reach::Module(context)) => context.info().map(|info| info.granule()).ok(),
        Ok(Reach::NothingToDo) | Err(_) => None,
    };
    round_up(length(bytes), granule.unwrap_or_else(page_size))
        .and_then(|rounded| usize::try_from(rounded).ok())
        .ok_or_else(overflow)
}

#[inline]
pub(crate) fn map(process: &Process, phaddr: u64, iova: u64, bytes: usize) -> Result<(), Failure> {
    let (phys, iova, length) = (Phys::new(phaddr), Iova::new(iova), length(bytes));
    process
        .attempt_if_any(move |context| context.map_phys(phys, iova, length, Access::ReadWrite))?;
    Ok(())
}

#[inline]
pub(crate) fn unmap(process: &Process, iova: u64, bytes: usize) -> Result<(), Failure> {
    let buffers = BUFFERS.get_even_inherited();
    if buffers.is_some_and(|buffers| !buffers.is_empty()) {
        match unmap_as_buffer(process, iova, bytes) {
            Err(failure) if failure.errno() == ENOENT => {}
            Ok(false) => {}
            result => return result.map(drop),
        }
    }
    process.attempt_if_any(move |context| context.unmap(Iova::new(iova), length(bytes)))?;
    Ok(())
}

/// The module takes the IOVAs of buffers as well: the table must not keep what goes. Few programs
/// have both kinds of mappings, so this is kept out of the way of those that have one.
///
/// `false` in a child that has no buffers of its own.
#[inline(never)]
fn unmap_as_buffer(process: &Process, iova: u64, bytes: usize) -> Result<bool, Failure> {
    let Some(buffers) = BUFFERS.get() else {
        return Ok(false);
    };
    let wanted = Wanted::Pages {
        iova,
        length: bytes,
    };
    keeping_errno(|| unmap_buffer(buffers, &Module(process), wanted, is_module))?;
    Ok(true)
}

/// usize has at most 64 bits wherever Linux runs.
fn length(bytes: usize) -> u64 {
    bytes as u64
}

#[cold]
fn overflow() -> Failure {
    Failure::new(
        EOVERFLOW,
        "the size is too large to be rounded up to pages; check how it was computed",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use libc::{ENODEV, ENOTTY};
    use qat_iommu_capi_core::Settings;

    fn process(node: &'static str, in_vm: fn() -> bool) -> Process {
        Process::new(Settings {
            node,
            pf: || None,
            in_vm,
        })
    }

    fn errno<T: std::fmt::Debug>(result: Result<T, Failure>) -> i32 {
        result.unwrap_err().errno()
    }

    #[test]
    fn sizes_round_to_pages_without_the_module() {
        for in_vm in [|| true, || false] {
            let process = process("/nonexistent", in_vm);
            let page = usize::try_from(page_size()).unwrap();
            assert_eq!(remap_size(&process, 1), Ok(page));
            assert_eq!(remap_size(&process, page), Ok(page));
            assert_eq!(remap_size(&process, page + 1), Ok(2 * page));
            assert_eq!(errno(remap_size(&process, 0)), EINVAL);
            assert_eq!(errno(remap_size(&process, usize::MAX)), EOVERFLOW);
            let last = usize::MAX - page + 1;
            assert_eq!(remap_size(&process, last), Ok(last));
            assert_eq!(errno(remap_size(&process, last + 1)), EOVERFLOW);
        }
    }

    #[test]
    fn a_host_without_the_module_has_no_device() {
        let process = process("/nonexistent", || false);
        assert_eq!(errno(map(&process, 0x1000, 0x1000, 4096)), ENODEV);
        assert_eq!(errno(unmap(&process, 0x1000, 4096)), ENODEV);
    }

    #[test]
    fn a_vm_without_the_module_has_nothing_to_do() {
        let process = process("/nonexistent", || true);
        assert_eq!(map(&process, 0x1000, 0x1000, 4096), Ok(()));
        assert_eq!(map(&process, 0x1234, 0xfee0_0000, 0), Ok(()));
        assert_eq!(unmap(&process, 0x1000, 4096), Ok(()));
    }

    #[test]
    fn what_the_device_refuses_is_refused() {
        // It opens, and takes none of the commands.
        let process = process("/dev/null", || true);
        assert_eq!(errno(map(&process, 0x1000, 0x1000, 4096)), ENOTTY);
        assert_eq!(errno(unmap(&process, 0x1000, 4096)), ENOTTY);
        assert_eq!(remap_size(&process, 1).unwrap() as u64, page_size());
    }
}
