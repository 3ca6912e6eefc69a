//! Socket files that this process makes, and removes at its end.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, open, statat, unlinkat};

/// A socket file of ours. Dropping it removes the file, unless it is another's by now.
#[derive(Debug)]
pub struct ClaimedPath {
    path: PathBuf,
    /// Open, so that the sandbox need let nothing else be named.
    folder: OwnedFd,
    name: OsString,
    identity: (u64, u64),
}

impl ClaimedPath {
    fn new(path: &Path, folder: &Path) -> anyhow::Result<Self> {
        let name = path.file_name().context("it has no name")?.to_owned();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(folder, flags, Mode::empty())?;
        let file = statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Self {
            path: path.to_owned(),
            folder,
            name,
            identity: (file.st_dev, file.st_ino),
        })
    }

    /// Its path, as it was given.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// Where the file lies.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl Drop for ClaimedPath {
    fn drop(&mut self) {
        let is_ours = statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|file| (file.st_dev, file.st_ino) == self.identity);
        if is_ours {
            // Best effort: a file left behind is stale, and is replaced by the next.
            let _ = unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

/// Makes a socket file at `path` by `bind`, which gets the path too. A file left by a dead
/// process is replaced; a live one is not: `is_live` tells by connecting.
pub fn claim<T>(
    path: &Path,
    bind: impl FnOnce(&Path) -> io::Result<T>,
    is_live: impl FnOnce(&Path) -> io::Result<()>,
) -> anyhow::Result<(T, ClaimedPath)> {
    let shown = path.display();
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Two processes that start at once must not both find the file stale.
    let lock = open(
        folder,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .with_context(|| format!("cannot open the folder {}", folder.display()))?;
    flock(&lock, FlockOperation::LockExclusive)
        .with_context(|| format!("cannot lock the folder {}", folder.display()))?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
        Ok(file) if !file.file_type().is_socket() => bail!("{shown} is there, and is no socket"),
        Ok(_) => match is_live(path) {
            Ok(()) => bail!("another process serves {shown}"),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).with_context(|| format!("cannot replace {shown}"))?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot try {shown}")),
        },
    }
    // A socket is as open as its mode: for us alone, from its first moment on.
    let old_mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = bind(path);
    rustix::process::umask(old_mask);
    let bound = bound.with_context(|| format!("cannot make a socket at {shown}"))?;
    let claimed =
        ClaimedPath::new(path, folder).with_context(|| format!("cannot look at {shown}"))?;
    Ok((bound, claimed))
}
