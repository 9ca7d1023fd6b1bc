// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The C library's `errno` of the calling thread.
#![allow(unsafe_code)]

pub(crate) fn get() -> i32 {
    // SAFETY: the pointer is to this thread's own variable and always good.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set(value: i32) {
    // SAFETY: as above; no reference to it exists.
    unsafe { *libc::__errno_location() = value }
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_the_one_that_c_sees() {
        super::set(libc::ERANGE);
        assert_eq!(
            std::io::Error::last_os_error().raw_os_error(),
            Some(libc::ERANGE)
        );
        assert_eq!(super::get(), libc::ERANGE);
    }
}
