// SPDX-License-Identifier: GPL-2.0
//! Doing something with fewer privileges: in a thread of its own, as Linux keeps
//! credentials for each thread, so that the test program stays what it is.

use anyhow::Result;
use rustix::thread::{CapabilitySet, Gid, Uid};

/// Does something in a thread of its own, whose credentials may change.
pub fn apart<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        scope
            .spawn(act)
            .join()
            .expect("the thread returns its errors")
    })
}

/// Gives up everything for the user nobody.
pub fn become_nobody() -> Result<()> {
    become_nobody_in(&[])
}

/// The same, as a member of a group.
pub fn become_member(group: u32) -> Result<()> {
    become_nobody_in(&[Gid::from_raw(group)])
}

fn become_nobody_in(groups: &[Gid]) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(65534), Gid::from_raw(65534));
    rustix::thread::set_thread_groups(groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Gives up one capability.
pub fn drop_capability(capability: CapabilitySet) -> Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective.remove(capability);
    Ok(rustix::thread::set_capabilities(None, sets)?)
}
