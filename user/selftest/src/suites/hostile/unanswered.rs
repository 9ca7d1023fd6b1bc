// SPDX-License-Identifier: GPL-2.0
//! A buffer of a file whose file system never answers: whoever maps it waits for it alone.
//! Everyone else maps, PFs come and go, contexts are closed, and who waits can be killed.

use anyhow::{Context as _, Result};
use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyData,
    ReplyEntry, Request,
};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::expect;
use crate::helper::{user::Task, Helper};
use crate::host::{Host, OWN_DRIVER};
use crate::ktap::{list_tests, skip, Test};
use crate::ledger;
use crate::mem::user::UserMemory;
use crate::mem::PAGE;
use crate::suites::user::Rig;

pub fn tests() -> Vec<Test<Host>> {
    list_tests![others_go_on, the_context_is_closed, pfs_come_and_go]
}

const PATIENCE: Duration = Duration::from_secs(30);
/// The inode of the folder; those of its files follow.
const FOLDER: u64 = 1;
const FOREVER: Duration = Duration::from_secs(3600);

fn attributes(ino: u64) -> FileAttr {
    FileAttr {
        ino,
        size: 16 * PAGE as u64,
        blocks: 8 * 16,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: match ino {
            FOLDER => FileType::Directory,
            _ => FileType::RegularFile,
        },
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: PAGE as u32,
        flags: 0,
    }
}

/// A file for each small number, whose contents are never told.
struct Silent {
    asked: Sender<()>,
    /// Dropped, an answer is an error.
    owed: Vec<ReplyData>,
}

impl Filesystem for Silent {
    fn lookup(&mut self, _: &Request<'_>, _parent: u64, name: &OsStr, reply: ReplyEntry) {
        match name.to_str().and_then(|name| name.parse::<u32>().ok()) {
            Some(number) => reply.entry(&FOREVER, &attributes(FOLDER + 1 + u64::from(number)), 0),
            None => reply.error(libc::ENOENT),
        }
    }

    fn getattr(&mut self, _: &Request<'_>, ino: u64, _handle: Option<u64>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &attributes(ino));
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        _ino: u64,
        _handle: u64,
        _offset: i64,
        _size: u32,
        _flags: i32,
        _owner: Option<u64>,
        reply: ReplyData,
    ) {
        self.owed.push(reply);
        // A test that has ended does not listen any more.
        let _ = self.asked.send(());
    }
}

/// The file system, mounted until this goes.
struct Mounted {
    // First: what it holds in the folder goes before the folder.
    _session: BackgroundSession,
    folder: PathBuf,
    asked: Receiver<()>,
}

impl Mounted {
    fn new() -> Result<Self> {
        // Where it is a module, nobody has loaded it.
        let _ = Command::new("modprobe").arg("fuse").status();
        if !Path::new("/dev/fuse").exists() {
            return Err(skip("this kernel has no FUSE"));
        }
        let folder = std::env::temp_dir().join("qat-iommu-silent");
        std::fs::create_dir_all(&folder)?;
        let (sender, asked) = mpsc::channel();
        let silent = Silent {
            asked: sender,
            owed: Vec::new(),
        };
        let session = fuser::spawn_mount2(silent, &folder, &[MountOption::RO])
            .context("cannot mount a file system of our own")?;
        Ok(Self {
            _session: session,
            folder,
            asked,
        })
    }

    /// A process in the middle of a map, waiting for a file. (To open one that somebody waits for
    /// would be to wait as well.)
    fn waiting(&self, number: u32, rig: Option<&Rig>) -> Result<Helper> {
        let task = Task::StuckFile {
            file: self.folder.join(number.to_string()),
        };
        let mut helper = Helper::doing(&task, rig.map(Rig::context))?;
        expect::equal("what it says", helper.line()?.as_str(), "mapping")?;
        let asked = self.asked.recv_timeout(PATIENCE);
        asked.context("nobody asks for the file's contents")?;
        Ok(helper)
    }
}

/// It waited to the end, and goes when it is killed.
fn goes(helper: Helper, pins: i64) -> Result<()> {
    let start = Instant::now();
    helper.kill()?;
    expect::holds("it goes at once", start.elapsed() < PATIENCE)?;
    expect::equal("pins", ledger::pins()?, pins)
}

fn others_go_on(host: &Host) -> Result<()> {
    let pins = ledger::pins()?;
    let mounted = Mounted::new()?;
    let mut rig = Rig::new(host)?;
    // With the same context, and with another.
    let helpers = [mounted.waiting(1, Some(&rig))?, mounted.waiting(2, None)?];
    let memory = UserMemory::scattered(4 * PAGE)?;
    let iova = rig.map(&memory)?;
    rig.reaches(iova, &memory)?;
    rig.unmap(&memory)?;
    rig.refused(iova, &memory)?;
    drop(rig);
    helpers
        .into_iter()
        .try_for_each(|helper| goes(helper, pins))
}

/// The last descriptor but that of the process that waits; then that process.
fn the_context_is_closed(host: &Host) -> Result<()> {
    let pins = ledger::pins()?;
    let mounted = Mounted::new()?;
    let rig = Rig::new(host)?;
    let memory = UserMemory::scattered(4 * PAGE)?;
    let iova = rig.map(&memory)?;
    let helper = mounted.waiting(1, Some(&rig))?;
    drop(rig);
    let mut rig = Rig::new(host)?;
    rig.reaches(iova, &memory)?;
    goes(helper, pins)?;
    rig.refused(iova, &memory)
}

fn pfs_come_and_go(host: &Host) -> Result<()> {
    let pins = ledger::pins()?;
    let mounted = Mounted::new()?;
    let helper = mounted.waiting(1, None)?;
    let pf = host.pf()?;
    pf.unbind()?;
    pf.bind(OWN_DRIVER)?;
    let memory = UserMemory::scattered(PAGE)?;
    {
        let mut rig = Rig::new(host)?;
        let iova = rig.map(&memory)?;
        rig.reaches(iova, &memory)?;
    }
    goes(helper, pins)
}
