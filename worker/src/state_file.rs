//! The file in which a state travels over the control socket: a memory file, which nothing but its
//! two ends can make slow. The device stands still while it is read or written.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, fcntl_get_seals, memfd_create};

/// Name of the file, as `/proc/PID/maps` shows it.
const NAME: &str = "vgpud-state";

/// A fresh, empty file.
pub fn create() -> io::Result<File> {
    let fd = memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    Ok(File::from(fd))
}

/// A file that came over a socket, from its beginning; an error if it is no memory file: a file
/// elsewhere may take for ever to read.
pub fn open(fd: OwnedFd) -> io::Result<File> {
    // Only files in memory have seals, though there may be none on it.
    fcntl_get_seals(&fd)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "it is not a memory file"))?;
    let mut file = File::from(fd);
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_file_is_read_from_its_beginning() {
        let mut file = create().unwrap();
        file.write_all(b"state").unwrap();
        let mut read = String::new();
        open(file.into())
            .unwrap()
            .read_to_string(&mut read)
            .unwrap();
        assert_eq!(read, "state");
    }

    #[test]
    fn what_could_be_slow_is_not_read() {
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert!(open(pipe).is_err());
        let null = File::open("/dev/null").unwrap();
        assert!(open(null.into()).is_err());
    }
}
