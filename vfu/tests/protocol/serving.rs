//! A small server on a thread of its own, and the raw end of its socket.

use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use vfu::server::{Incoming, Server, ServerError};
use vfu::socket::Received;
use vfu::wire::version::Capabilities;
use vfu::wire::{Command, Header, Request};

use crate::peer::{Peer, command};

pub(crate) const NO_REPLY: u32 = 1 << 4;
pub(crate) const REPLY: u32 = 1;

pub(crate) fn able(max_data_xfer_size: u64) -> Capabilities {
    Capabilities {
        max_msg_fds: Some(16),
        max_data_xfer_size: Some(max_data_xfer_size),
        ..Capabilities::default()
    }
}

/// Serves until the client is gone: reads give 0x5a, other commands succeed. Tells how many
/// requests it was handed.
pub(crate) fn serve(socket: OwnedFd, able: Capabilities) -> JoinHandle<Result<usize, ServerError>> {
    thread::spawn(move || {
        let mut server = Server::new(socket, able);
        let mut served = 0;
        loop {
            poll(&mut [PollFd::new(&server, PollFlags::IN)], None).unwrap();
            if server.receive()? == Received::Closed {
                return Ok(served);
            }
            while let Some(Incoming { request, reply }) = server.next_request()? {
                served += 1;
                match request {
                    Ok(Request::RegionRead(access)) => reply.with(|out| {
                        access.emit(out);
                        out.resize(out.len() + usize::try_from(access.count).unwrap(), 0x5a);
                    })?,
                    Ok(Request::RegionWrite(access, _)) => reply.with(|out| access.emit(out))?,
                    Ok(_) => reply.empty()?,
                    Err(malformed) => reply.error(malformed.errno())?,
                }
            }
        }
    })
}

pub(crate) fn hello(major: u16, json: &str) -> Vec<u8> {
    let payload = [&major.to_ne_bytes(), &[0, 0], json.as_bytes(), &[0]].concat();
    command(0, 1, &payload)
}

/// A server that has answered VERSION, and the raw end of its socket.
pub(crate) fn agreed(max_data_xfer_size: u64) -> (Peer, JoinHandle<Result<usize, ServerError>>) {
    let (mut peer, socket) = Peer::new();
    let server = serve(socket, able(max_data_xfer_size));
    peer.send(
        &hello(0, r#"{"capabilities":{"max_data_xfer_size":1048576}}"#),
        &[],
    );
    assert_eq!(peer.receive().0.error(), None);
    (peer, server)
}

pub(crate) fn read(offset: u64, count: u32) -> Vec<u8> {
    [&offset.to_ne_bytes()[..], &[0; 4], &count.to_ne_bytes()].concat()
}

/// The server still answers, and to this: nothing is left over of what came before.
pub(crate) fn assert_in_step(peer: &mut Peer, why: &str) {
    peer.send(&command(0x7777, 9, &read(8, 4)), &[]);
    let (header, payload) = peer.receive();
    assert_eq!(
        header,
        Header::command(0x7777, Command::RegionRead, 0).reply(20),
        "{why}"
    );
    assert_eq!(payload, [&read(8, 4)[..], &[0x5a; 4]].concat(), "{why}");
}
