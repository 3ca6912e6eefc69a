//! The kernel's mdev files, without the kernel's mdev: a tree that `mdevctl` finds under its
//! `MDEVCTL_ENV_ROOT`. The program `vgpu-mdev` mounts it, and asks the daemon for all that is in it.
//!
//! A request of the kernel's crosses these modules, in this order:
//!
//! - [`mount`]: where the tree is mounted, and what a dead predecessor left there.
//! - `fuse`: the kernel's requests; which of them wait, and where (`lanes`).
//! - `answers`: what the kernel is told.
//! - `inodes`, `handles`: the kernel's numbers for paths, and for what is open.
//! - `nodes`: the one table of what a path is, by its form.
//! - `snapshot`: what the daemon has, no older than the question.
//! - `find`, `content`, `write`: what is there, what it holds, and what writing to it does.
//! - `refusal`: the errno of each refusal, whose words go to the log.
//!
//! Not here: definitions (mdevctl keeps them in files by itself), policy (the daemon's).

mod answers;
mod content;
mod find;
mod fuse;
mod handles;
mod inodes;
mod lanes;
pub mod mount;
mod nodes;
mod refusal;
mod snapshot;
mod write;

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::client::Client;

pub use find::{Kind, Meta};

use snapshot::Snapshots;

/// The names that lead to a node, from the root of the tree.
pub type Names = [String];

/// The tree, whoever reads it. Each question is asked of a client of the daemon, and may take as
/// long as that waits.
#[derive(Debug)]
pub struct Tree {
    /// mdevctl's folder of definitions, on the host.
    definitions: PathBuf,
    /// mdevctl's folder of scripts, on the host.
    scripts: PathBuf,
    snapshots: Snapshots,
}

impl Tree {
    /// A tree whose links to the host lead to these.
    pub fn new(definitions: &Path, scripts: &Path) -> Self {
        Self {
            definitions: definitions.to_owned(),
            scripts: scripts.to_owned(),
            snapshots: Snapshots::default(),
        }
    }

    /// What is at a path. ENOENT if nothing is.
    pub fn find(&self, client: &Client, path: &Names) -> Result<Meta, Errno> {
        let node = nodes::find(path).ok_or(Errno::NOENT)?;
        self.look_up(client, &node)
    }

    /// What is in a folder, in the order of names.
    pub fn list(&self, client: &Client, path: &Names) -> Result<Vec<(String, Kind)>, Errno> {
        match nodes::find(path).ok_or(Errno::NOENT)? {
            nodes::Node::Folder(folder) => self.entries(client, &folder),
            nodes::Node::Link(_) | nodes::Node::File(_) => Err(Errno::NOTDIR),
        }
    }

    /// Where a link leads.
    pub fn target(&self, client: &Client, path: &Names) -> Result<PathBuf, Errno> {
        match nodes::find(path).ok_or(Errno::NOENT)? {
            nodes::Node::Link(link) => self.follow(client, &link),
            nodes::Node::Folder(_) | nodes::Node::File(_) => Err(Errno::INVAL),
        }
    }

    /// Whether a file may be opened for reading, and for writing: its mode holds for root too, as it
    /// does in sysfs. EACCES if not.
    pub fn open(&self, path: &Names, reads: bool, writes: bool) -> Result<(), Errno> {
        let Some(nodes::Node::File(file)) = nodes::find(path) else {
            return Err(Errno::NOENT);
        };
        let mode = file.mode();
        if (reads && mode & 0o444 == 0) || (writes && mode & 0o222 == 0) {
            return Err(Errno::ACCESS);
        }
        Ok(())
    }

    /// All that a file holds. ENODEV if what it belongs to is gone.
    pub fn read(&self, client: &Client, path: &Names) -> Result<Vec<u8>, Errno> {
        match nodes::find(path).ok_or(Errno::NODEV)? {
            nodes::Node::File(file) => self.content(client, &file),
            nodes::Node::Folder(_) => Err(Errno::ISDIR),
            nodes::Node::Link(_) => Err(Errno::INVAL),
        }
    }

    /// Does what writing `data` at `offset` of a file does. On error nothing has changed.
    pub fn write(
        &self,
        client: &Client,
        path: &Names,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        match nodes::find(path).ok_or(Errno::NODEV)? {
            nodes::Node::File(file) if offset == 0 => write::store(client, &file, data),
            nodes::Node::File(_) | nodes::Node::Link(_) => Err(Errno::INVAL),
            nodes::Node::Folder(_) => Err(Errno::ISDIR),
        }
    }
}
