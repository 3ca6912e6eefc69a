//! Where the tree is mounted: by one program at a time, over nothing but what a dead one left.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, bail};
use fuser::{Config, MountOption, Session, SessionACL};
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{UnmountFlags, unmount};

use crate::files;

use super::Tree;
use super::fuse::Fuse;

/// What our mounts are called in the kernel's list.
const NAME: &str = "vgpud";

/// The tree where it is mounted, until [`Mounted::unmount`].
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    /// Held while the tree is served: whoever else serves one there is not dead.
    _lock: File,
    ended: Option<mpsc::Receiver<io::Result<()>>>,
}

impl Mounted {
    /// Mounts a tree at a folder, which is made, and serves it for the daemon that listens at `api`.
    /// What a predecessor that has ended left there is detached.
    pub fn mount(tree: Tree, at: &Path, api: &Path) -> anyhow::Result<Self> {
        let (at, lock) = take_place(at)?;
        let what = || format!("cannot mount at {}", at.display());
        let fuse = Fuse::new(tree, api).context("cannot start threads")?;
        let session = Session::new(fuse, &at, &options()).with_context(what)?;
        let (tell, ended) = mpsc::channel();
        thread::Builder::new()
            .name("fuse".to_owned())
            .spawn(move || {
                // Nobody listens any more once it is unmounted from here.
                let _ = tell.send(session.run());
            })
            .context("cannot start a thread")?;
        Ok(Self {
            at,
            _lock: lock,
            ended: Some(ended),
        })
    }

    /// Where it is, without links.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// What tells once that the kernel asks no more: somebody has unmounted the tree.
    pub fn take_end(&mut self) -> Option<mpsc::Receiver<io::Result<()>>> {
        self.ended.take()
    }

    /// Takes the tree away. Whoever has something of it open gets errors from then on.
    pub fn unmount(self) -> io::Result<()> {
        Ok(detach(&self.at)?)
    }
}

fn options() -> Config {
    let mut options = Config::default();
    options.mount_options = vec![
        MountOption::FSName(NAME.to_owned()),
        MountOption::DefaultPermissions,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::NoAtime,
    ];
    // Modes say who may do what. Others than root may only let themselves in.
    if rustix::process::geteuid().is_root() {
        options.acl = SessionACL::All;
    }
    options
}

/// Makes the folder ours: its path without links, and the lock that keeps others out.
fn take_place(at: &Path) -> anyhow::Result<(PathBuf, File)> {
    let at = std::path::absolute(at)?;
    let shown = at.display();
    let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
        bail!("nothing can be mounted at {shown}");
    };
    files::make_folder(parent, 0o755).with_context(|| format!("cannot make {shown}"))?;
    let at = parent.canonicalize()?.join(name);
    let mut lock = name.to_owned();
    lock.push(".lock");
    let lock = at.with_file_name(lock);
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(&lock);
    let file = file.with_context(|| format!("cannot make {}", lock.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "another vgpu-mdev serves {shown}: it holds {}",
            lock.display()
        );
    }
    detach_stale(&at)?;
    // No link: root would mount where somebody else says.
    if fs::symlink_metadata(&at).is_ok_and(|found| !found.is_dir()) {
        bail!("{shown} is no folder");
    }
    files::make_folder(&at, 0o755).with_context(|| format!("cannot make {shown}"))?;
    Ok((at, file))
}

/// Detaches what our predecessors have left, and nothing else.
fn detach_stale(at: &Path) -> anyhow::Result<()> {
    /// More than this is no accident.
    const MOST: usize = 100;
    for _ in 0..MOST {
        let list = fs::read("/proc/self/mountinfo").context("cannot see what is mounted")?;
        let shown = at.display();
        match topmost(&String::from_utf8_lossy(&list), at) {
            None => return Ok(()),
            Some(Found::Other(kind)) => bail!("{shown} has another file system mounted: {kind}"),
            Some(Found::Ours) => {
                tracing::info!("detaching the tree that another vgpu-mdev left at {shown}");
                let words = || format!("cannot detach {shown}; fusermount3 -u -z may");
                detach(at).with_context(words)?;
            }
        }
    }
    bail!("{} does not come free", at.display());
}

fn detach(at: &Path) -> rustix::io::Result<()> {
    unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
}

/// What is mounted at a folder.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Ours,
    Other(String),
}

/// What was mounted there last, by `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn topmost(list: &str, at: &Path) -> Option<Found> {
    let mut found = None;
    for line in list.lines() {
        let (front, back) = line.split_once(" - ")?;
        let place = front.split(' ').nth(4)?;
        if Path::new(&unescape(place)) != at {
            continue;
        }
        let mut words = back.split(' ');
        let (kind, source) = (words.next()?, words.next()?);
        let is_fuse = kind == "fuse" || kind.starts_with("fuse.");
        found = Some(match is_fuse && source == NAME {
            true => Found::Ours,
            false => Found::Other(kind.to_owned()),
        });
    }
    found
}

/// A path as it is: spaces and the like stand there as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail
            .get(..3)
            .and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ours_and_only_what_is_on_top_is_taken_for_stale() {
        let ours = "35 1 0:31 / /run/vgpud/mdev rw,nosuid - fuse vgpud rw,user_id=0";
        let named = ours.replace("- fuse ", "- fuse.mdev ");
        let other = ours.replace(" vgpud rw", " sshfs rw");
        let tmpfs = ours.replace("fuse vgpud", "tmpfs vgpud");
        let at = Path::new("/run/vgpud/mdev");
        let is_other = |kind: &str| Some(Found::Other(kind.to_owned()));
        for (list, found) in [
            (String::new(), None),
            (ours.to_owned(), Some(Found::Ours)),
            (named, Some(Found::Ours)),
            (other.clone(), is_other("fuse")),
            (tmpfs.clone(), is_other("tmpfs")),
            (format!("{ours}\n{tmpfs}"), is_other("tmpfs")),
            (format!("{other}\n{ours}"), Some(Found::Ours)),
            (ours.replace("/mdev", "/mdev2"), None),
            ("rubbish".to_owned(), None),
        ] {
            assert_eq!(topmost(&list, at), found, "{list}");
        }
        let spaced = ours.replace("/run/", "/a\\040b\\134/");
        let at = Path::new("/a b\\/vgpud/mdev");
        assert_eq!(topmost(&spaced, at), Some(Found::Ours));
    }
}
