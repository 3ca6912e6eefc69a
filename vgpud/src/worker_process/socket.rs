//! The socket where a VMM connects.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use worker::seqpacket;

use crate::accounts::Access;
use crate::error::Error;
use crate::files;
use crate::functions::Name;
use crate::paths::Paths;

/// A socket file. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl SocketFile {
    /// Keeps the file: its worker lives.
    pub(crate) fn keep(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Best effort: a file left behind is replaced by the next.
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes the socket of a vGPU. Nobody can open it before it is theirs: it is made in a folder that
/// is closed to others, given away there, and moved.
pub(crate) fn bind(
    paths: &Paths,
    name: Name,
    access: Access,
) -> Result<(OwnedFd, SocketFile), Error> {
    bind_at(paths, &paths.socket(name), access).map(|(listener, file)| (listener.into(), file))
}

/// Makes a socket at `path`, which lies in the run folder. A file that is there is replaced.
pub(crate) fn bind_at(
    paths: &Paths,
    path: &Path,
    access: Access,
) -> Result<(UnixListener, SocketFile), Error> {
    let listen = |new: &Path| UnixListener::bind(new);
    make(paths, path, listen, |new| access.apply(new))
}

/// Makes the control socket of a seat, which the daemon alone may open. One that a killed worker left
/// behind is replaced.
pub(crate) fn bind_control(paths: &Paths, name: Name) -> Result<(OwnedFd, SocketFile), Error> {
    let close = |new: &Path| {
        let closed = fs::set_permissions(new, Permissions::from_mode(0o600));
        closed.map_err(Error::os(format!("close {} to others", new.display())))
    };
    make(paths, &paths.control(name), seqpacket::listen_at, close)
}

/// Makes a socket by `listen`, has `close` say who may open it, and moves it to `path`.
fn make<T>(
    paths: &Paths,
    path: &Path,
    listen: impl FnOnce(&Path) -> io::Result<T>,
    close: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<(T, SocketFile), Error> {
    let folder = paths.new_sockets();
    let what = || format!("make a socket at {}", path.display());
    files::make_folder(&folder, 0o700).map_err(Error::os(what()))?;
    let name = path
        .file_name()
        .ok_or_else(|| Error::os(what())(io::Error::from(io::ErrorKind::InvalidInput)))?;
    let new = folder.join(name);
    remove(&new).map_err(Error::os(what()))?;
    let listener = listen(&new).map_err(Error::os::<io::Error>(what()))?;
    let new = SocketFile(new);
    close(&new.0)?;
    fs::rename(&new.0, path).map_err(Error::os::<io::Error>(what()))?;
    new.keep();
    Ok((listener, SocketFile(path.to_owned())))
}

/// Removes a file. It is no error if it is not there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::api::SocketAccess;

    #[test]
    fn a_socket_is_as_open_as_was_asked_and_goes_with_its_value() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let uuid = uuid::Uuid::from_u128(1);
        let asked = SocketAccess {
            mode: Some("0640".to_owned()),
            ..SocketAccess::default()
        };
        let access = Access::resolve(&asked, &SocketAccess::default()).unwrap();
        let path = paths.socket(uuid);
        for _ in 0..2 {
            let (_listener, file) = bind(&paths, uuid.into(), access).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o640);
            UnixStream::connect(&path).unwrap();
            // As after a kill: the file stays, and the next bind replaces it.
            file.keep();
        }
        let (_listener, file) = bind(&paths, uuid.into(), access).unwrap();
        drop(file);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(paths.new_sockets()).unwrap().count(), 0);
    }

    #[test]
    fn a_control_socket_is_never_open_to_others() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let uuid = uuid::Uuid::from_u128(1);
        let folder = paths.new_sockets();
        for _ in 0..2 {
            let (listener, file) = bind_control(&paths, uuid.into()).unwrap();
            let mode = fs::metadata(&file.0).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            // It was made where nobody else comes.
            let name = rustix::net::getsockname(&listener).unwrap();
            let name = rustix::net::SocketAddrUnix::try_from(name).unwrap();
            let made = Path::new(OsStr::from_bytes(name.path_bytes().unwrap())).to_owned();
            assert_eq!(made.parent(), Some(folder.as_path()));
            let mode = fs::metadata(&folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
            file.keep();
        }
    }
}
