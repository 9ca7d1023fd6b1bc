// SPDX-License-Identifier: GPL-2.0

//! Who makes mappings: contexts, each with an account of what it holds, and kernel clients. For
//! those who watch a host there is a register of the contexts that are open.
//!
//! Locks: the register's own, in which nothing else is locked. An account is counted without a lock.

use super::ffi;
use core::sync::atomic::{
    AtomicU64,
    Ordering::Relaxed, //
};
use kernel::{
    fmt,
    prelude::*,
    sync::{
        global_lock,
        Arc, //
    }, //
};

global_lock! {
    // SAFETY: `init` initialises it in the module's init, before anything can call in.
    unsafe(uninit) static REGISTER: Mutex<Register> = Register {
        open: KVVec::new(),
        last_id: 0,
    };
}

/// The open contexts.
///
/// # Invariants
///
/// `open` is in the order of the numbers, none of which is used again.
struct Register {
    open: KVVec<Arc<Account>>,
    last_id: u64,
}

/// Prepares the register. For the module's init, before anything else.
pub(crate) fn init() {
    // SAFETY: Called once, by the module's init.
    unsafe { REGISTER.init() };
}

/// Gives back the register's memory: nothing drops a static. For the module's exit, when no context
/// is open.
pub(crate) fn shutdown() {
    let mut register = REGISTER.lock();
    let open = core::mem::replace(&mut register.open, KVVec::new());
    drop(register);
    drop(open);
}

/// The open context with this number, or the next one.
pub(crate) fn open_from(id: u64) -> Option<Arc<Account>> {
    let register = REGISTER.lock();
    let index = register.open.partition_point(|account| account.id < id);
    register.open.get(index).cloned()
}

/// The name of a process, as the kernel keeps it. Empty for nobody's.
#[derive(Clone, Copy, Default)]
pub(crate) struct Comm([u8; ffi::COMM]);

impl Comm {
    /// As words.
    #[inline]
    pub(crate) fn words(&self) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        [
            u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            u64::from_ne_bytes(rest),
        ]
    }

    /// The one with these words.
    pub(crate) fn of(words: [u64; 2]) -> Self {
        let mut name = [0; ffi::COMM];
        for (to, byte) in name
            .iter_mut()
            .zip(words.into_iter().flat_map(u64::to_ne_bytes))
        {
            *to = byte;
        }
        Self(name)
    }
}

/// On one line: what is not printable, and the backslash, as `\x0a`; `-` for nobody's.
impl fmt::Display for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, ..] = self.0;
        if first == 0 {
            return f.write_str("-");
        }
        for byte in self.0.iter().copied().take_while(|byte| *byte != 0) {
            match byte {
                b'\\' | 0..=0x1f | 0x7f..=0xff => write!(f, "\\x{byte:02x}")?,
                _ => write!(f, "{}", char::from(byte))?,
            }
        }
        Ok(())
    }
}

/// What a context holds: how many mappings and bytes, and how many of these are pinned.
pub(crate) struct Holdings {
    pub(crate) mappings: u64,
    pub(crate) bytes: u64,
    pub(crate) pinned: u64,
}

/// One context, for as long as it is open or a mapping of it is left.
///
/// Its numbers say nothing about other memory, so the compiler's atomics will do, as elsewhere in this
/// module: those of the kernel crate call a function each time.
pub(crate) struct Account {
    /// Its number, never used again while the module is loaded.
    pub(crate) id: u64,
    /// The process that opened it.
    pub(crate) pid: i32,
    pub(crate) comm: Comm,
    space: AtomicU64,
    mappings: AtomicU64,
    /// Bytes of buffers, which are pinned.
    pinned: AtomicU64,
    /// Bytes of physical ranges.
    ranged: AtomicU64,
}

impl Account {
    /// The number of the space that the context chose, 0 before it has.
    pub(crate) fn space(&self) -> u64 {
        self.space.load(Relaxed)
    }

    /// Notes the context's choice.
    pub(crate) fn set_space(&self, id: u64) {
        self.space.store(id, Relaxed);
    }

    /// Counts a buffer; undone by [`Self::unpinned`].
    pub(crate) fn pinned(&self, bytes: u64) {
        self.mappings.fetch_add(1, Relaxed);
        self.pinned.fetch_add(bytes, Relaxed);
    }

    /// A buffer is gone.
    pub(crate) fn unpinned(&self, bytes: u64) {
        self.mappings.fetch_sub(1, Relaxed);
        self.pinned.fetch_sub(bytes, Relaxed);
    }

    /// Whether there are buffers, or what is just being mapped or unmapped.
    #[inline]
    pub(crate) fn has_buffers(&self) -> bool {
        self.pinned.load(Relaxed) != 0
    }

    /// Counts a physical range; undone by [`Self::unranged`].
    pub(crate) fn ranged(&self, bytes: u64) {
        self.mappings.fetch_add(1, Relaxed);
        self.ranged.fetch_add(bytes, Relaxed);
    }

    /// A physical range is gone.
    pub(crate) fn unranged(&self, bytes: u64) {
        self.mappings.fetch_sub(1, Relaxed);
        self.ranged.fetch_sub(bytes, Relaxed);
    }

    /// What it holds, with what is just being mapped or unmapped.
    pub(crate) fn holdings(&self) -> Holdings {
        let pinned = self.pinned.load(Relaxed);
        Holdings {
            mappings: self.mappings.load(Relaxed),
            bytes: self.ranged.load(Relaxed).saturating_add(pinned),
            pinned,
        }
    }

    /// Whether both are the account of one context.
    pub(crate) fn is(&self, other: &Account) -> bool {
        core::ptr::eq(self, other)
    }

    /// How listings name it.
    pub(crate) fn by(&self) -> By {
        By {
            context: self.id,
            pid: self.pid,
            caller: 0,
            comm: self.comm,
        }
    }
}

/// The account of an open context; dropping it takes it out of the register.
pub(crate) struct OpenAccount(Arc<Account>);

impl OpenAccount {
    /// The account of a context that the calling process opens.
    pub(crate) fn new() -> Result<Self> {
        let (pid, comm) = ffi::caller();
        let mut register = REGISTER.lock();
        let id = register.last_id.checked_add(1).ok_or(ENOSPC)?;
        let account = Arc::new(
            Account {
                id,
                pid,
                comm: Comm(comm),
                space: AtomicU64::new(0),
                mappings: AtomicU64::new(0),
                pinned: AtomicU64::new(0),
                ranged: AtomicU64::new(0),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        register.open.push(account.clone(), GFP_KERNEL)?;
        register.last_id = id;
        Ok(Self(account))
    }

    /// The account.
    pub(crate) fn get(&self) -> &Arc<Account> {
        &self.0
    }
}

impl Drop for OpenAccount {
    fn drop(&mut self) {
        let mut register = REGISTER.lock();
        let found = register
            .open
            .binary_search_by_key(&self.0.id, |account| account.id);
        let gone = found.ok().and_then(|at| register.open.remove(at).ok());
        drop(register);
        drop(gone);
    }
}

/// Who makes or removes a mapping.
#[derive(Clone, Copy)]
pub(crate) enum Owner<'a> {
    /// Kernel clients, all of them: they cannot be told apart. With the address that called.
    Kernel(usize),
    /// A context.
    Context(&'a Arc<Account>),
}

impl Owner<'_> {
    /// How listings name it.
    pub(crate) fn by(self) -> By {
        match self {
            Owner::Kernel(caller) => By {
                caller,
                ..By::default()
            },
            Owner::Context(account) => account.by(),
        }
    }
}

/// How listings name the maker of a mapping: a context and its process, or the address in a kernel
/// client; all 0 for nobody.
#[derive(Clone, Copy, Default)]
pub(crate) struct By {
    pub(crate) context: u64,
    pub(crate) pid: i32,
    pub(crate) caller: usize,
    pub(crate) comm: Comm,
}
