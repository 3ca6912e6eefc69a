//! The end of a connection that a client can bear.

use std::os::fd::AsFd;

use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::Errno;
use crate::wire::Header;

/// Answers a client that will not be served. Its first command must be here, whose id the answer
/// has to bear: one process counts the ids of all its connections, and QEMU aborts on an answer to
/// what it has not asked. Without a command nothing is said.
pub fn refuse_client(socket: impl AsFd, errno: Errno) {
    let mut header = [0; Header::LEN];
    let received = rustix::net::recv(&socket, &mut header, RecvFlags::DONTWAIT);
    if let (Ok((_, Header::LEN)), Ok(command)) = (received, Header::parse(&header)) {
        // A client that is gone already needs no answer; a fresh socket has room for this one.
        let _ = rustix::net::send(
            &socket,
            &command.error_reply(errno).to_bytes(),
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        );
    }
    hang_up(socket);
}

/// Ends a connection, whoever else has duplicates of the socket, without a reset: that is what a
/// client sees if bytes of its are left unread at the close, and QEMU 11.1 aborts on it, guest and
/// all.
pub fn hang_up(socket: impl AsFd) {
    // From here on the client's sends fail, so what is left to read has an end.
    let _ = rustix::net::shutdown(&socket, Shutdown::Both);
    let mut unread = [0; 4096];
    while rustix::net::recv(&socket, &mut unread, RecvFlags::DONTWAIT)
        .is_ok_and(|(_, bytes)| bytes > 0)
    {}
}
