//! The socket for the server's own commands.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::net::RecvFlags;
use vfu::server::{Incoming, Server};
use vfu::socket::{Receiver, Sender};
use vfu::wire::version::{Capabilities, TwinSocket};
use vfu::wire::{Command, Header, Malformed};

use crate::serving::hello;

const OFFER: &str = r#"{"capabilities":{"twin_socket":{"supported":true}}}"#;

/// A server that has agreed, the client's end, and what came with its answer.
fn agreed(offer: &str) -> (Server, Sender, Vec<OwnedFd>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let able = Capabilities {
        twin_socket: Some(TwinSocket {
            supported: true,
            fd_index: None,
        }),
        ..Capabilities::default()
    };
    let mut server = Server::new(ours.into(), able);
    let theirs = Arc::new(OwnedFd::from(theirs));
    let client = Sender::new(Arc::clone(&theirs));
    client.send(&hello(0, offer), &[]).unwrap();
    server.receive().unwrap();
    assert!(server.agree().unwrap().is_some());
    let mut receiver = Receiver::new(theirs, 4096);
    receiver.receive(RecvFlags::empty()).unwrap();
    let fds = receiver.next_frame().unwrap().unwrap().fds;
    (server, client, fds)
}

fn dma_reply(id: u16) -> Vec<u8> {
    let header = Header::command(id, Command::DmaRead, 16).reply(16);
    [&header.to_bytes()[..], &[0; 16]].concat()
}

/// The ids of the replies that have come.
fn replies(server: &mut Server) -> Vec<u16> {
    let mut ids = Vec::new();
    while server.receive_twin(|header, _| ids.push(header.id)) {}
    ids
}

#[test]
fn the_servers_commands_and_their_replies_go_by_the_twin() {
    let (mut server, client, mut fds) = agreed(OFFER);
    let twin = Arc::new(fds.pop().unwrap());
    assert!(fds.is_empty() && server.twin().is_some());
    server.sender().send(b"to the twin.....", &[]).unwrap();
    let mut bytes = [0; 16];
    rustix::net::recv(&twin, &mut bytes, RecvFlags::empty()).unwrap();
    assert_eq!(&bytes, b"to the twin.....");

    let twin = Sender::new(twin);
    twin.send(&dma_reply(7), &[]).unwrap();
    // A command of the client's has no business there.
    let stray = Header::command(8, Command::DeviceReset, 0).to_bytes();
    twin.send(&stray, &[]).unwrap();
    twin.send(&dma_reply(9), &[]).unwrap();
    assert_eq!(replies(&mut server), [7, 9]);
    assert!(replies(&mut server).is_empty());

    client.send(&dma_reply(10), &[]).unwrap();
    server.receive().unwrap();
    let Incoming { request, .. } = server.next_request().unwrap().unwrap();
    assert_eq!(request.unwrap_err(), Malformed::UnexpectedReply);
}

#[test]
fn a_twin_that_is_closed_or_garbled_is_no_more_and_the_client_is_served() {
    for garble in [true, false] {
        let (mut server, client, mut fds) = agreed(OFFER);
        let twin = Sender::new(Arc::new(fds.pop().unwrap()));
        if garble {
            twin.send(&[0; 16], &[]).unwrap();
        } else {
            drop(twin);
        }
        assert!(replies(&mut server).is_empty());
        assert!(server.twin().is_none());
        let reset = Header::command(1, Command::DeviceReset, 0).to_bytes();
        client.send(&reset, &[]).unwrap();
        server.receive().unwrap();
        assert!(server.next_request().unwrap().unwrap().request.is_ok());
    }
}

#[test]
fn who_does_not_offer_a_twin_gets_none() {
    for offer in [
        "{}",
        r#"{"capabilities":{"twin_socket":{}}}"#,
        r#"{"capabilities":{"twin_socket":{"supported":false}}}"#,
    ] {
        let (server, _, fds) = agreed(offer);
        assert!(fds.is_empty() && server.twin().is_none(), "{offer}");
    }
}
