//! A server and its client, end to end: how they agree, and on what limits.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use vfu::Errno;
use vfu::client::{Client, ClientError};
use vfu::server::ServerError;
use vfu::wire::dma::{DmaFlags, DmaMap};
use vfu::wire::version::{Capabilities, Version};
use vfu::wire::{Command, Header};

use crate::peer::{Peer, command, emitted, file, message};
use crate::serving::{REPLY, able, agreed, hello, read, serve};

#[test]
fn a_client_and_a_server_understand_each_other() {
    let (peer, socket) = Peer::new();
    let server = serve(socket, able(1 << 20));
    let mut client = Client::negotiate(peer.into(), able(4096)).unwrap();
    assert_eq!(client.agreed().capabilities, able(1 << 20));
    let mut data = vec![0; 1 << 20];
    client.region_read(0, 0, &mut data).unwrap();
    assert!(data.iter().all(|byte| *byte == 0x5a));
    client.region_write(0, 0, &data).unwrap();
    let file = file();
    let flags = DmaFlags::READ;
    let map = DmaMap {
        flags,
        offset: 0,
        iova: 0,
        size: 4096,
    };
    client.dma_map(&map, Some(file.as_fd())).unwrap();
    client.post(Command::DeviceReset, &[], |_| ()).unwrap();
    client.reset().unwrap();
    drop(client);
    assert_eq!(server.join().unwrap().unwrap(), 5);
}

#[test]
fn a_version_that_cannot_be_agreed_on_is_refused_and_ends_it() {
    for (name, sent, errno) in [
        ("major 1", hello(1, "{}"), Errno::NOTSUP),
        ("not JSON", hello(0, "}"), Errno::INVAL),
        ("too short", command(0, 1, &[0, 0]), Errno::INVAL),
        ("no NUL", command(0, 1, b"\0\0\0\0{}"), Errno::INVAL),
        ("another command", command(0, 4, &[0; 16]), Errno::INVAL),
        ("no command at all", command(0, 99, &[]), Errno::INVAL),
        ("a reply", message(0, 1, REPLY, &[0; 4]), Errno::INVAL),
    ] {
        let (mut peer, socket) = Peer::new();
        let server = serve(socket, able(4096));
        peer.send(&sent, &[]);
        let (header, payload) = peer.receive();
        assert_eq!((header.error(), payload.len()), (Some(errno), 0), "{name}");
        assert!(peer.sees_the_end(), "{name}");
        assert!(server.join().unwrap().is_err(), "{name}");
    }
}

#[test]
fn version_takes_no_descriptors() {
    let (mut peer, socket) = Peer::new();
    let server = serve(socket, able(4096));
    peer.send(&hello(0, "{}"), &[file().as_fd()]);
    assert_eq!(peer.receive().0.error(), Some(Errno::INVAL));
    assert!(matches!(
        server.join().unwrap(),
        Err(ServerError::Version(_))
    ));
}

#[test]
fn nothing_long_is_taken_before_a_version_is_agreed_on() {
    let (mut peer, socket) = Peer::new();
    let server = serve(socket, able(1 << 20));
    let mut sent = hello(0, "{}");
    sent[4..8].copy_from_slice(&8192_u32.to_ne_bytes());
    peer.send(&sent, &[]);
    assert_eq!(peer.receive().0.error(), Some(Errno::INVAL));
    assert!(matches!(
        server.join().unwrap(),
        Err(ServerError::Broken(_))
    ));
}

#[test]
fn a_small_limit_on_data_leaves_room_for_every_other_message() {
    let (mut peer, server) = agreed(16);
    let multi = [&200_u64.to_ne_bytes()[..], &[0; 4800]].concat();
    let set = [2068_u32, 0x22, 2, 0, 2048].map(u32::to_ne_bytes).concat();
    for (number, payload) in [(15, multi), (8, [&set[..], &[0; 2048]].concat())] {
        peer.send(&command(1, number, &payload), &[]);
        assert_eq!(peer.receive().0.error(), None, "{number}");
    }
    drop(peer);
    server.join().unwrap().unwrap();
}

/// The specification: what is not named has its default, whatever the server is able to do.
#[test]
fn a_client_that_names_no_limit_has_the_default_one() {
    for able_to in [4096, 1 << 22, u64::MAX] {
        let (mut peer, socket) = Peer::new();
        let server = serve(socket, able(able_to));
        peer.send(&hello(0, "{}"), &[]);
        assert_eq!(peer.receive().0.error(), None);
        for (count, expected) in [(1 << 20, None), ((1 << 20) + 1, Some(Errno::INVAL))] {
            peer.send(&command(1, 9, &read(0, count)), &[]);
            assert_eq!(peer.receive().0.error(), expected, "{able_to}: {count}");
        }
        drop(peer);
        server.join().unwrap().unwrap();
    }
}

#[test]
fn hundreds_of_commands_in_one_send_are_answered_in_order() {
    let (mut peer, server) = agreed(4096);
    let sent: Vec<u8> = (0..500).flat_map(|id| command(id, 13, &[])).collect();
    peer.send(&sent, &[]);
    for id in 0..500 {
        assert_eq!(
            peer.receive().0,
            Header::command(id, Command::DeviceReset, 0).reply(0)
        );
    }
    drop(peer);
    server.join().unwrap().unwrap();
}

/// A client whose server answers VERSION as a test wants, and nothing after it.
fn negotiate(answer: &Version) -> (Peer, Result<Client, ClientError>) {
    let (mut peer, socket) = Peer::new();
    let client = thread::spawn(|| {
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(50))).unwrap();
        Client::negotiate(socket, able(4096))
    });
    let (header, _) = peer.receive();
    let payload = emitted(|out| answer.emit(out));
    peer.send(&message(header.id, 1, REPLY, &payload), &[]);
    (peer, client.join().unwrap())
}

#[test]
fn a_client_gives_up_at_the_time_out_of_its_socket() {
    let version = |major| Version {
        major,
        minor: 0,
        capabilities: Capabilities::default(),
    };
    let (_peer, client) = negotiate(&version(0));
    assert!(matches!(
        client.unwrap().reset(),
        Err(ClientError::TimedOut)
    ));
    let (_peer, client) = negotiate(&version(1));
    assert!(
        matches!(client, Err(ClientError::Version(_))),
        "another major version"
    );
}
