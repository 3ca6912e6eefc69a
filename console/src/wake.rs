//! A bell that a thread can wait for together with sockets. To ring it takes no system call that
//! could write to a file: see [`crate::confinement`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

/// Who rings.
#[derive(Debug)]
pub(crate) struct Ringer(OwnedFd);

/// Who hears it.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

/// A bell, and who rings it.
pub(crate) fn bell() -> io::Result<(Ringer, Bell)> {
    let kind = SocketType::STREAM;
    let (ringer, bell) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    Ok((Ringer(ringer), Bell(bell)))
}

impl Ringer {
    /// Rings. Where it rings already, nothing more is needed.
    pub(crate) fn ring(&self) {
        let _ = send(&self.0, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

impl Bell {
    /// Stops it.
    pub(crate) fn silence(&self) {
        let mut heard = [0_u8; 64];
        while matches!(recv(&self.0, &mut heard, RecvFlags::DONTWAIT), Ok((_, 64))) {}
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
