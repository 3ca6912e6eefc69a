//! What the kernel is told, whoever finds it out.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{Errno, FileAttr, FileType, Generation, INodeNo, ReplyEntry};

use crate::client::Client;

use super::find::{Kind, Meta};
use super::handles::{Handles, Taken};
use super::inodes::{Inodes, number_of};
use super::{Names, Tree};

/// What the kernel may keep of an answer: nothing, since vGPUs come and go behind its back.
pub(super) const TTL: Duration = Duration::ZERO;

/// What `stat` says of each file, as in sysfs.
const FILE_SIZE: u64 = 4096;

/// The tree, and what the kernel knows of it.
pub(super) struct Shared {
    pub(super) tree: Tree,
    pub(super) inodes: Inodes,
    pub(super) handles: Handles,
    owner: (u32, u32),
    begun: SystemTime,
}

impl Shared {
    /// A tree that the kernel knows nothing of yet. It belongs to who runs this program.
    pub(super) fn new(tree: Tree) -> Self {
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        Self {
            tree,
            inodes: Inodes::default(),
            handles: Handles::default(),
            owner: (user, group),
            begun: SystemTime::now(),
        }
    }

    /// What `stat` tells.
    pub(super) fn attributes(&self, number: u64, meta: Meta) -> FileAttr {
        let (uid, gid) = self.owner;
        FileAttr {
            ino: INodeNo(number),
            size: match meta.kind {
                Kind::File => FILE_SIZE,
                Kind::Folder | Kind::Link => 0,
            },
            blocks: 0,
            atime: self.begun,
            mtime: self.begun,
            ctime: self.begun,
            crtime: self.begun,
            kind: file_type(meta.kind),
            perm: meta.mode,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// Tells the kernel of a path, which it remembers from then on.
    pub(super) fn enter(&self, path: &Arc<Names>, meta: Meta, reply: ReplyEntry) {
        let number = self.inodes.remember(path);
        reply.entry(&TTL, &self.attributes(number, meta), Generation(0));
    }

    /// What a file holds, as it was when it was read from the beginning.
    pub(super) fn read(
        &self,
        client: &Client,
        path: &Names,
        handle: u64,
        offset: u64,
    ) -> Result<Arc<Vec<u8>>, rustix::io::Errno> {
        if offset > 0
            && let Some(Taken::Content(content)) = self.handles.kept(handle)
        {
            return Ok(content);
        }
        let content = Arc::new(self.tree.read(client, path)?);
        self.handles
            .keep(handle, Taken::Content(Arc::clone(&content)));
        Ok(content)
    }

    /// The same of a folder.
    pub(super) fn list(
        &self,
        client: &Client,
        path: &Names,
        handle: u64,
        offset: u64,
    ) -> Result<Arc<Vec<(String, Kind)>>, rustix::io::Errno> {
        if offset > 0
            && let Some(Taken::Entries(entries)) = self.handles.kept(handle)
        {
            return Ok(entries);
        }
        let entries = Arc::new(self.tree.list(client, path)?);
        self.handles
            .keep(handle, Taken::Entries(Arc::clone(&entries)));
        Ok(entries)
    }
}

pub(super) fn below(path: &Names, name: &str) -> Arc<Names> {
    path.iter().cloned().chain([name.to_owned()]).collect()
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Folder => FileType::Directory,
        Kind::Link => FileType::Symlink,
        Kind::File => FileType::RegularFile,
    }
}

pub(super) fn errno(errno: rustix::io::Errno) -> Errno {
    Errno::from_i32(errno.raw_os_error())
}

/// `.` and `..` before what is in a folder.
pub(super) fn with_dots<'a>(
    path: &'a Names,
    entries: &'a [(String, Kind)],
) -> impl Iterator<Item = (u64, Kind, &'a str)> {
    let above = path.split_last().map_or(path, |(_, above)| above);
    let dots = [
        (number_of(path), Kind::Folder, "."),
        (number_of(above), Kind::Folder, ".."),
    ];
    let entries = entries.iter().map(|(name, kind)| {
        let number = number_of(&below(path, name));
        (number, *kind, name.as_str())
    });
    dots.into_iter().chain(entries)
}
