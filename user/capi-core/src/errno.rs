// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The C library's `errno` of the calling thread.
#![allow(unsafe_code)]

/// Where it is: asked for once, since that is a call of its own. The pointer keeps the value
/// from other threads, which have their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Errno(*mut i32);

impl Errno {
    #[inline]
    pub(crate) fn of_this_thread() -> Self {
        // SAFETY: it may be called at any time.
        Self(unsafe { libc::__errno_location() })
    }

    #[inline]
    pub(crate) fn get(self) -> i32 {
        // SAFETY: the pointer is to this thread's own variable, which is there as long as
        // the thread, which this value does not leave.
        unsafe { *self.0 }
    }

    #[inline]
    pub(crate) fn set(self, value: i32) {
        // SAFETY: as above; no reference to it exists.
        unsafe { *self.0 = value }
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn is_the_one_that_c_sees() {
        let errno = Errno::of_this_thread();
        errno.set(libc::ERANGE);
        assert_eq!(
            std::io::Error::last_os_error().raw_os_error(),
            Some(libc::ERANGE)
        );
        assert_eq!(errno.get(), libc::ERANGE);
    }
}
