// SPDX-License-Identifier: GPL-2.0

//! What the module's C files offer (`remap/glue.h`), behind safe functions where that is
//! possible. Owns no state and takes no lock.

use super::frames::Frames;
use crate::iova::{
    addr::{
        Address,
        Iova,
        Phys, //
    },
    span::Span, //
};
use core::mem::{
    align_of,
    size_of, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    seq_file::SeqFile, //
};

/// How many bytes the name of a process has.
pub(crate) const COMM: usize = bindings::TASK_COMM_LEN as usize;

/// `struct qat_iommu_params`.
#[repr(C)]
pub(crate) struct RawParams {
    ids: *const c_char,
    shared_fixed: *const c_char,
    phys: *const c_char,
    virt: *const c_char,
}

/// `struct qat_iommu_mapped`.
#[derive(Default)]
#[repr(C)]
pub(super) struct Mapped {
    pub(super) runs: usize,
    pub(super) bytes: usize,
}

// The kernel's own structures, some of them empty in this configuration; C gets pointers alone.
#[allow(improper_ctypes)]
extern "C" {
    fn qat_iommu_get_params(params: *mut RawParams);
    fn qat_iommu_hypervisor() -> bool;
    fn qat_iommu_phys_bits() -> u32;
    fn qat_iommu_table_pages() -> u64;
    fn qat_iommu_pause() -> bool;
    fn qat_iommu_random() -> u64;
    fn qat_iommu_alloc(size: usize) -> *mut c_void;
    fn qat_iommu_signal_pending() -> bool;
    pub(super) fn qat_iommu_charge(pages: u64) -> *mut bindings::mm_struct;
    pub(super) fn qat_iommu_uncharge(mm: *mut bindings::mm_struct, pages: u64);
    fn qat_iommu_ram_end() -> u64;
    fn qat_iommu_ram_bytes(first: u64, last: u64) -> u64;
    fn qat_iommu_is_ram_page(pfn: u64) -> bool;
    pub(super) fn qat_iommu_pin_rest(
        page: *mut bindings::page,
        va: usize,
        limit: usize,
        write: bool,
    ) -> isize;
    pub(super) fn qat_iommu_unpin(pfn: u64, pages: u64, dirty: bool);
    pub(super) fn qat_iommu_map_runs(
        domain: *mut bindings::iommu_domain,
        iova: usize,
        runs: *const Frames,
        count: usize,
        is_long: u64,
        prot: c_int,
        mapped: *mut Mapped,
    ) -> isize;
    pub(super) fn qat_iommu_read_words(to: *mut u64, from: usize, words: usize) -> bool;
    pub(super) fn qat_iommu_read_three(to: *mut u64, from: usize) -> bool;
    pub(super) fn qat_iommu_read_five(to: *mut u64, from: usize) -> bool;
    pub(super) fn qat_iommu_write_word(value: u64, to: usize) -> bool;
    pub(super) fn qat_iommu_unmap_now(
        domain: *mut bindings::iommu_domain,
        iova: usize,
        size: usize,
    ) -> usize;
    pub(super) fn qat_iommu_add_frames(
        pages: *const *mut bindings::page,
        count: usize,
        last: *mut Frames,
        room: *mut Frames,
        runs: *mut usize,
    ) -> usize;
    pub(super) fn qat_iommu_page_pfn(page: *mut bindings::page) -> u64;
    pub(super) fn qat_iommu_pci_segment(pdev: *mut bindings::pci_dev) -> u32;
    fn qat_iommu_page_get(pfn: u64) -> bool;
    fn qat_iommu_ram_page_get(pfn: u64, taken: *mut bool) -> bool;
    fn qat_iommu_page_put(pfn: u64);
    fn qat_iommu_module_get();
    fn qat_iommu_module_put();
    fn qat_iommu_clock() -> u64;
    fn qat_iommu_caller(comm: *mut u8) -> c_int;
    fn qat_iommu_debugfs_create();
    fn qat_iommu_debugfs_remove();
    fn qat_iommu_write_symbol(out: *mut bindings::seq_file, address: usize);
    fn qat_iommu_log_refusal(
        call: *const c_char,
        phys: u64,
        iova: u64,
        size: u64,
        err: c_int,
        why: *const u8,
        why_length: c_int,
    );
    fn qat_iommu_pf_driver_register() -> c_int;
    fn qat_iommu_pf_driver_unregister();
    fn qat_iommu_pf_watch_start() -> c_int;
    fn qat_iommu_pf_watch_stop();
    pub(super) fn qat_iommu_gather_init(gather: *mut bindings::iommu_iotlb_gather);
    pub(super) fn qat_iommu_gather_sync(
        domain: *mut bindings::iommu_domain,
        gather: *mut bindings::iommu_iotlb_gather,
    );
    pub(super) fn qat_iommu_flush_domain(domain: *mut bindings::iommu_domain);
}

/// The module parameters as given.
pub(crate) struct Params {
    pub(crate) ids: &'static CStr,
    pub(crate) shared_fixed: &'static CStr,
    pub(crate) phys: &'static CStr,
    pub(crate) virt: &'static CStr,
}

/// Reads the module parameters. They cannot change while the module is loaded (mode 0444).
pub(crate) fn params() -> Params {
    let mut raw = RawParams {
        ids: core::ptr::null(),
        shared_fixed: core::ptr::null(),
        phys: core::ptr::null(),
        virt: core::ptr::null(),
    };
    // SAFETY: The function fills every field of the structure it is given.
    unsafe { qat_iommu_get_params(&mut raw) };

    // SAFETY: A charp parameter is never NULL here (each has a default) and points to a
    // NUL-terminated string that lives as long as the module, for it cannot be written to.
    let text = |s: *const c_char| unsafe { CStr::from_char_ptr(s) };
    Params {
        ids: text(raw.ids),
        shared_fixed: text(raw.shared_fixed),
        phys: text(raw.phys),
        virt: text(raw.virt),
    }
}

/// Whether the processor says that this kernel runs under a hypervisor.
pub(crate) fn hypervisor() -> bool {
    // SAFETY: Reads a processor feature bit.
    unsafe { qat_iommu_hypervisor() }
}

/// How many bits the physical addresses of this processor have.
pub(crate) fn phys_bits() -> u32 {
    // SAFETY: Reads a processor property.
    unsafe { qat_iommu_phys_bits() }
}

/// Pages in the page tables of all IOMMUs of this host.
pub(crate) fn table_pages() -> u64 {
    // SAFETY: Reads a counter.
    unsafe { qat_iommu_table_pages() }
}

/// Lets others run; `true` if the caller is being killed and had better stop. May sleep.
pub(crate) fn pause() -> bool {
    // SAFETY: Every caller is in process context and holds sleeping locks at most.
    unsafe { qat_iommu_pause() }
}

/// A random number that nobody knows.
pub(crate) fn random() -> u64 {
    // SAFETY: May be called in any context.
    unsafe { qat_iommu_random() }
}

/// Puts a value into a box, as `KBox::new` does, which takes the detour over a reallocation of nothing.
/// May sleep.
#[inline]
pub(crate) fn boxed<T>(value: T) -> Result<KBox<T>> {
    const { assert!(size_of::<T>() > 0 && align_of::<T>() <= align_of::<u64>()) };
    // SAFETY: Every caller is in process context and holds sleeping locks at most.
    let raw = unsafe { qat_iommu_alloc(size_of::<T>()) }.cast::<T>();
    if raw.is_null() {
        return Err(ENOMEM);
    }
    // SAFETY: There is room for a value, aligned as whatever kmalloc gives: for a word at least.
    unsafe { raw.write(value) };
    // SAFETY: It is kmalloc's, has its value now, and is nobody else's.
    Ok(unsafe { KBox::from_raw(raw) })
}

/// Whether the caller has a signal to handle.
pub(crate) fn signal_pending() -> bool {
    // SAFETY: Asks about the current task.
    unsafe { qat_iommu_signal_pending() }
}

/// Where this host's RAM ends, as an IOVA: 1:1 maps of RAM lie below.
pub(crate) fn ram_end() -> Iova {
    // SAFETY: Reads a variable.
    Iova::new(unsafe { qat_iommu_ram_end() })
}

/// How many bytes of a physical range are RAM.
pub(crate) fn ram_bytes(span: Span<Phys>) -> u64 {
    // SAFETY: Looks the range up in the kernel's resource tree.
    unsafe { qat_iommu_ram_bytes(span.first().raw(), span.last().raw()) }
}

/// Whether the page with this number is RAM for certain. If not, it may be RAM all the same.
#[inline]
pub(super) fn is_ram_page(pfn: u64) -> bool {
    // SAFETY: The function checks that there is such a page.
    unsafe { qat_iommu_is_ram_page(pfn) }
}

/// References the page of RAM with this number, if that is possible.
///
/// The caller owes one [`page_put`] for each `true`.
pub(super) fn page_get(pfn: u64) -> bool {
    // SAFETY: The function checks that there is such a page.
    unsafe { qat_iommu_page_get(pfn) }
}

/// The same for a page that is RAM for certain; no answer, and no reference, if it may be something else.
#[inline]
pub(super) fn ram_page_get(pfn: u64) -> Option<bool> {
    let mut taken = false;
    // SAFETY: The function checks that there is such a page. There is room for its answer.
    unsafe { qat_iommu_ram_page_get(pfn, &mut taken) }.then_some(taken)
}

/// Gives back a reference.
///
/// # Safety
///
/// The caller owns a reference that [`page_get`] or [`ram_page_get`] took on the same page.
pub(super) unsafe fn page_put(pfn: u64) {
    // SAFETY: By the contract of this function.
    unsafe { qat_iommu_page_put(pfn) }
}

/// Keeps the module loaded for as long as it lives; held by what a kernel client owns.
pub(crate) struct ModuleHold(());

impl ModuleHold {
    /// Takes a hold. The caller must itself run while the module cannot go away: a kernel client
    /// that uses its symbols holds it.
    pub(crate) fn take() -> Self {
        // SAFETY: The module is live, see above.
        unsafe { qat_iommu_module_get() };
        Self(())
    }
}

impl Drop for ModuleHold {
    fn drop(&mut self) {
        // SAFETY: Gives back the hold that `take` took. The last ones to drop a hold are callers
        // that run with another one: a client through its symbols, a context through its file.
        unsafe { qat_iommu_module_put() };
    }
}

/// The time, by the clock that stamps the kernel log, in nanoseconds.
pub(crate) fn clock() -> u64 {
    // SAFETY: Reads a clock.
    unsafe { qat_iommu_clock() }
}

/// The number of the present tick of the timer.
#[inline]
pub(crate) fn tick() -> u64 {
    // SAFETY: The kernel writes the word as a whole.
    unsafe { (&raw const bindings::jiffies).read_volatile() as u64 }
}

/// The processor's counter of cycles.
#[inline]
pub(crate) fn cycles() -> u64 {
    // SAFETY: Every processor that a 64-bit kernel runs on has one.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// How far the counter gets in a millisecond, by what the kernel has measured; 0 if it cannot be used.
pub(crate) fn cycles_per_millisecond() -> u64 {
    // SAFETY: The kernel writes the word as a whole.
    u64::from(unsafe { (&raw const bindings::tsc_khz).read_volatile() })
}

/// Number and name of the calling process.
pub(crate) fn caller() -> (i32, [u8; COMM]) {
    let mut comm = [0; COMM];
    // SAFETY: The function writes as many bytes as there are.
    let pid = unsafe { qat_iommu_caller(comm.as_mut_ptr()) };
    (pid, comm)
}

/// Writes the function and the module that `address` is in.
pub(crate) fn write_symbol(out: &SeqFile, address: usize) {
    // CAST: `SeqFile` is a transparent wrapper of `struct seq_file`.
    let out: *mut bindings::seq_file = core::ptr::from_ref(out).cast_mut().cast();
    // SAFETY: The file is valid and, by the type, used by this thread only.
    unsafe { qat_iommu_write_symbol(out, address) };
}

/// The files in debugfs.
pub(crate) struct Listings(());

impl Listings {
    /// Makes them. What they list must be ready.
    pub(crate) fn create() -> Self {
        // SAFETY: Called at most once: the module's init is the only caller.
        unsafe { qat_iommu_debugfs_create() };
        Self(())
    }
}

impl Drop for Listings {
    fn drop(&mut self) {
        // SAFETY: They were created. No reader is left when this returns.
        unsafe { qat_iommu_debugfs_remove() };
    }
}

/// Tells, at debug level, why a call was refused.
pub(crate) fn log_refusal(call: &CStr, phys: u64, iova: u64, size: u64, err: Error, why: &str) {
    let why_length = c_int::try_from(why.len()).unwrap_or(0);
    // SAFETY: `call` is NUL-terminated, `why` has the length given; both outlive the call.
    unsafe {
        qat_iommu_log_refusal(
            call.as_char_ptr(),
            phys,
            iova,
            size,
            err.to_errno(),
            why.as_ptr(),
            why_length,
        )
    };
}

/// The registered PCI driver; PFs can be bound to it while this lives.
pub(crate) struct PfDriver(());

impl PfDriver {
    /// Registers the driver.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: Registered at most once: the module's init is the only caller.
        to_result(unsafe { qat_iommu_pf_driver_register() })?;
        Ok(Self(()))
    }
}

impl Drop for PfDriver {
    fn drop(&mut self) {
        // SAFETY: It was registered. Its remove has run for every bound PF when this returns.
        unsafe { qat_iommu_pf_driver_unregister() };
    }
}

/// The watch over PFs that other drivers hold.
pub(crate) struct PfWatch(());

impl PfWatch {
    /// Starts the watch; PFs that are bound already are reported before this returns.
    pub(crate) fn start() -> Result<Self> {
        // SAFETY: Started at most once: the module's init is the only caller.
        to_result(unsafe { qat_iommu_pf_watch_start() })?;
        Ok(Self(()))
    }
}

impl Drop for PfWatch {
    fn drop(&mut self) {
        // SAFETY: It was started. No callback runs any more when this returns.
        unsafe { qat_iommu_pf_watch_stop() };
    }
}
