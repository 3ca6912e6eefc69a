//! SOCK_SEQPACKET: each packet is one document, whole or not at all, and may carry one file
//! descriptor.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    bind, connect, listen, recvmsg, sendmsg, socket_with,
};

use crate::protocol::MAX_DOCUMENT;

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// A socket that listens at `path`.
pub fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, 16)?;
    Ok(socket)
}

/// A socket connected to `path`. Whoever listens there may take so long to take it in, and later what is
/// sent: after that it is [`io::ErrorKind::WouldBlock`].
pub fn connect_to(path: &Path, patience: Duration) -> io::Result<OwnedFd> {
    let socket = socket()?;
    // Before it connects: the kernel waits for as long where too many have come.
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Sends one document, and a descriptor with it.
pub fn send(socket: impl AsFd, document: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if fd.is_some() && !ancillary.push(SendAncillaryMessage::ScmRights(fd.as_slice())) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(
        socket,
        &[IoSlice::new(document)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// The next document, and the descriptor that came with it. `None` when the other end has closed.
pub fn receive(socket: impl AsFd) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut document = vec![0; MAX_DOCUMENT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut document)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if message
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the document is too long, or carries too many descriptors",
        ));
    }
    if message.bytes == 0 {
        return Ok(None);
    }
    document.truncate(message.bytes);
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Some((document, fd)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_nobody_in_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let _listener = listen_at(&path).unwrap();
        let patience = Duration::from_millis(20);
        let mut taken = Vec::new();
        let error = loop {
            match connect_to(&path, patience) {
                Ok(socket) => taken.push(socket),
                Err(error) => break error,
            }
            assert!(taken.len() < 1000, "all of them were let in");
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
