//! The kernel's requests. What has to ask is given to a lane: one that asks the daemon alone, which
//! answers at once, or one that may have to wait for a worker. What is always there asks nobody, and
//! waits for nobody.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::client::Client;

use super::answers::{Shared, TTL, below, errno, file_type, with_dots};
use super::lanes::Lane;
use super::nodes::{self, File, Folder, Link, Node};
use super::{Names, Tree};

/// Most bytes of one write. More than any file here takes.
const MAX_WRITE: u32 = 4096;

/// Threads that ask the daemon for what it knows by itself, and how long it may take.
const QUICK: (usize, Duration) = (4, Duration::from_secs(10));

/// Threads that ask for what a worker is asked for, or started, and how long that may take.
const SLOW: (usize, Duration) = (16, Duration::from_secs(60));

/// `O_APPEND` of x86 and Arm: whoever opens a file so means to write, and not where.
const O_APPEND: i32 = 0o2000;

/// The tree as a file system.
pub(super) struct Fuse {
    shared: Arc<Shared>,
    /// Asks nobody.
    fixed: Lane,
    quick: Lane,
    slow: Lane,
}

impl Fuse {
    /// The tree, for the daemon that listens at `api`.
    pub(super) fn new(tree: Tree, api: &Path) -> io::Result<Self> {
        Ok(Self {
            shared: Arc::new(Shared::new(tree)),
            fixed: Lane::start("fixed", 1, api, QUICK.1)?,
            quick: Lane::start("quick", QUICK.0, api, QUICK.1)?,
            slow: Lane::start("slow", SLOW.0, api, SLOW.1)?,
        })
    }

    /// The lane for questions about a path.
    fn lane(&self, path: &Names) -> &Lane {
        match nodes::find(path) {
            Some(
                Node::Folder(Folder::Fixed(_)) | Node::Link(Link::Definitions | Link::Scripts),
            ) => &self.fixed,
            Some(
                Node::Folder(Folder::Device(_))
                | Node::File(File::Attribute(..) | File::Statistic(..)),
            ) => &self.slow,
            _ => &self.quick,
        }
    }

    /// Has a question about a path answered.
    fn answer(&self, path: &Names, answer: impl FnOnce(&Shared, &Client) + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        self.lane(path).give(move |client| answer(&shared, client));
    }
}

/// What is there whatever the daemon says.
fn is_fixed(node: &Node<'_>) -> bool {
    matches!(
        node,
        Node::Folder(
            Folder::Fixed(_) | Folder::ParentLinks | Folder::DeviceLinks | Folder::Parents
        ) | Node::Link(Link::Definitions | Link::Scripts)
    )
}

impl Filesystem for Fuse {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // It says what it would take, if not this.
        let _ = config.set_max_write(MAX_WRITE);
        // Else who looks for one file would wait for who looks for another in the same folder.
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let parent = self.shared.inodes.path(parent.0);
        let (Some(parent), Some(name)) = (parent, name.to_str()) else {
            return reply.error(Errno::ENOENT);
        };
        let path = below(&parent, name);
        match nodes::find(&path) {
            None => reply.error(Errno::ENOENT),
            Some(node) if is_fixed(&node) => self.shared.enter(&path, node.meta(), reply),
            Some(_) => self.answer(&path.clone(), move |shared, client| {
                match shared.tree.find(client, &path) {
                    Ok(meta) => shared.enter(&path, meta, reply),
                    Err(error) => reply.error(errno(error)),
                }
            }),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, lookups: u64) {
        self.shared.inodes.forget(number.0, lookups);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let Some(path) = self.shared.inodes.path(number.0) else {
            return reply.error(Errno::ENOENT);
        };
        match nodes::find(&path) {
            None => reply.error(Errno::ENOENT),
            Some(node) if is_fixed(&node) => {
                reply.attr(&TTL, &self.shared.attributes(number.0, node.meta()));
            }
            Some(_) => self.answer(&path.clone(), move |shared, client| {
                match shared.tree.find(client, &path) {
                    Ok(meta) => reply.attr(&TTL, &shared.attributes(number.0, meta)),
                    Err(error) => reply.error(errno(error)),
                }
            }),
        }
    }

    /// Times and sizes are what they are: whoever opens a file with `O_TRUNC`, as shells and mdevctl
    /// do, is let. Owners and modes are not to be changed.
    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let path = self.shared.inodes.path(number.0);
        match path.as_deref().and_then(nodes::find) {
            _ if mode.or(uid).or(gid).is_some() => reply.error(Errno::EPERM),
            None => reply.error(Errno::ENOENT),
            Some(node) => reply.attr(&TTL, &self.shared.attributes(number.0, node.meta())),
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        let Some(path) = self.shared.inodes.path(number.0) else {
            return reply.error(Errno::ENOENT);
        };
        self.answer(&path.clone(), move |shared, client| {
            match shared.tree.target(client, &path) {
                Ok(target) => reply.data(target.as_os_str().as_bytes()),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let Some(path) = self.shared.inodes.path(number.0) else {
            return reply.error(Errno::ENOENT);
        };
        let (reads, writes) = match flags.acc_mode() {
            OpenAccMode::O_RDONLY => (true, false),
            OpenAccMode::O_WRONLY => (false, true),
            OpenAccMode::O_RDWR => (true, true),
        };
        match self.shared.tree.open(&path, reads, writes) {
            Ok(()) => {
                let handle = self.shared.handles.open();
                reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(path) = self.shared.inodes.path(number.0) else {
            return reply.error(Errno::ENODEV);
        };
        self.answer(&path.clone(), move |shared, client| {
            match shared.read(client, &path, handle.0, offset) {
                Ok(content) => {
                    let begin = usize::try_from(offset).unwrap_or(usize::MAX);
                    let rest = content.get(begin..).unwrap_or_default();
                    let size = rest.len().min(size as usize);
                    reply.data(rest.get(..size).unwrap_or(rest));
                }
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(path) = self.shared.inodes.path(number.0) else {
            return reply.error(Errno::ENODEV);
        };
        let offset = if flags.0 & O_APPEND != 0 { 0 } else { offset };
        let (shared, data) = (Arc::clone(&self.shared), data.to_vec());
        self.slow.give(
            move |client| match shared.tree.write(client, &path, offset, &data) {
                // One write has MAX_WRITE bytes at most.
                Ok(()) => reply.written(data.len() as u32),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.shared.handles.close(handle.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let handle = self.shared.handles.open();
        reply.opened(FileHandle(handle), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(path) = self.shared.inodes.path(number.0) else {
            return reply.error(Errno::ENOENT);
        };
        self.answer(&path.clone(), move |shared, client| {
            let entries = match shared.list(client, &path, handle.0, offset) {
                Ok(entries) => entries,
                Err(error) => return reply.error(errno(error)),
            };
            let begin = usize::try_from(offset).unwrap_or(usize::MAX);
            let all = with_dots(&path, &entries);
            for (next, (number, kind, name)) in (1u64..).zip(all).skip(begin) {
                if reply.add(INodeNo(number), next, file_type(kind), name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.shared.handles.close(handle.0);
        reply.ok();
    }

    // Nothing is made or removed but by what files are for. The errno are those of sysfs.

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, no: ReplyCreate) {
        no.error(Errno::EACCES);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, no: ReplyEntry) {
        no.error(Errno::EPERM);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, no: ReplyEntry) {
        no.error(Errno::EPERM);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, no: ReplyEmpty) {
        no.error(Errno::EPERM);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, no: ReplyEmpty) {
        no.error(Errno::EPERM);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, no: ReplyEntry) {
        no.error(Errno::EPERM);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        no: ReplyEmpty,
    ) {
        no.error(Errno::EPERM);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, no: ReplyEntry) {
        no.error(Errno::EPERM);
    }
}
