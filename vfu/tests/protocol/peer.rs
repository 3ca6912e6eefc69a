//! The other end of a socket, which sends whatever bytes a test wants.

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vfu::wire::Header;

/// No test waits longer than this for a message, so that a failure is not a hang.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Peer {
    socket: UnixStream,
}

impl Peer {
    /// A peer, and the socket that it talks to.
    pub(crate) fn new() -> (Self, OwnedFd) {
        let (socket, other) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        (Self { socket }, other.into())
    }

    /// Sends all of `bytes` in one call, with `fds`.
    pub(crate) fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let sent = sendmsg(
            &self.socket,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        );
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// Waits for one message.
    pub(crate) fn receive(&mut self) -> (Header, Vec<u8>) {
        let mut bytes = [0; Header::LEN];
        self.socket.read_exact(&mut bytes).unwrap();
        let header = Header::parse(&bytes).unwrap();
        let len = usize::try_from(header.size).unwrap() - Header::LEN;
        let mut payload = vec![0; len];
        self.socket.read_exact(&mut payload).unwrap();
        (header, payload)
    }

    /// Whether the other end closes, and sends nothing before.
    pub(crate) fn sees_the_end(&mut self) -> bool {
        match self.socket.read(&mut [0]) {
            Ok(received) => received == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

impl From<Peer> for OwnedFd {
    fn from(peer: Peer) -> Self {
        peer.socket.into()
    }
}

/// A command with any number, sound or not.
pub(crate) fn command(id: u16, number: u16, payload: &[u8]) -> Vec<u8> {
    message(id, number, 0, payload)
}

pub(crate) fn message(id: u16, number: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        id,
        command: number,
        size: u32::try_from(Header::LEN + payload.len()).unwrap(),
        flags,
        errno: 0,
    };
    [&header.to_bytes(), payload].concat()
}

/// A file that [`identity`] knows from every other.
pub(crate) fn file() -> OwnedFd {
    rustix::fs::memfd_create("vfu-test", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
}

pub(crate) fn identity(fd: impl AsFd) -> u64 {
    rustix::fs::fstat(fd).unwrap().st_ino
}

/// The payload that `emit` appends.
pub(crate) fn emitted(emit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    emit(&mut out);
    out
}
