//! What a server refuses, and that it serves the next command all the same.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use vfu::Errno;
use vfu::server::ServerError;

use crate::peer::{command, file, message};
use crate::serving::{NO_REPLY, REPLY, agreed, assert_in_step, hello, read};

#[test]
fn a_refused_command_gets_an_error_and_the_next_one_is_served() {
    let (mut peer, server) = agreed(4096);
    let ours: BTreeSet<u16> = [2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 15, 16, 17, 18].into();
    let others = (0..=300).filter(|number| !ours.contains(number));
    let mut refused: Vec<_> = others
        .map(|number| {
            (
                format!("command {number}"),
                command(number, number, &[0; 8]),
            )
        })
        .collect();
    for number in &ours {
        let short = message(*number, *number, 0, &[1]);
        refused.push((format!("command {number} of one byte"), short));
        let reply = message(*number, *number, REPLY, &[]);
        refused.push((format!("reply {number}"), reply));
        let unknown = message(*number, *number, 2, &[]);
        refused.push((format!("type 2, {number}"), unknown));
    }
    for (name, payload) in [
        ("VERSION again", command(1, 1, &hello(0, "{}")[16..])),
        ("a read of too much", command(1, 9, &read(0, 4097))),
        (
            "a write of too much",
            command(1, 10, &[&read(0, 4097)[..], &[0; 4097]].concat()),
        ),
        (
            "a write with too little",
            command(1, 10, &[&read(0, 4)[..], &[0; 3]].concat()),
        ),
        (
            "a write with a count of 4 GiB",
            command(1, 10, &read(0, u32::MAX)),
        ),
        (
            "a part of the stream that is too long",
            command(1, 17, &[4105_u32, 4097].map(u32::to_ne_bytes).concat()),
        ),
        ("a multi-write that is cut", command(1, 15, &[1; 31])),
        (
            "a multi-write of too many",
            command(1, 15, &u64::MAX.to_ne_bytes()),
        ),
    ] {
        refused.push((name.to_owned(), payload));
    }
    for (name, sent) in &refused {
        peer.send(sent, &[]);
        let (header, payload) = peer.receive();
        assert_eq!(header.error(), Some(Errno::INVAL), "{name}");
        assert!(payload.is_empty(), "{name}");
        assert_eq!(header.id.to_ne_bytes(), sent[..2], "{name}");
        assert_eq!(header.command.to_ne_bytes(), sent[2..4], "{name}");
        assert_in_step(&mut peer, name);
    }
    drop(peer);
    assert_eq!(server.join().unwrap().unwrap(), 2 * refused.len());
}

#[test]
fn a_command_that_wants_no_reply_gets_none_even_when_it_is_refused() {
    let (mut peer, server) = agreed(4096);
    for (name, number, payload) in [
        ("a write", 10, &[&read(0, 4)[..], b"data"].concat()[..]),
        ("a read", 9, &read(0, 4)),
        ("a cut write", 10, &read(0, 4)),
        ("an unknown command", 99, b"what"),
        ("VERSION again", 1, &[0; 4]),
        ("a cut map", 2, &[0; 3]),
    ] {
        peer.send(&message(3, number, NO_REPLY, payload), &[]);
        assert_in_step(&mut peer, name);
    }
    drop(peer);
    assert_eq!(server.join().unwrap().unwrap(), 12);
}

#[test]
fn descriptors_where_none_belong_are_an_error_and_no_more() {
    let (mut peer, server) = agreed(4096);
    let file = file();
    for (number, fds) in [(9, 1), (10, 3), (13, 1), (2, 2), (2, 253), (99, 16)] {
        let fds: Vec<_> = (0..fds).map(|_| file.as_fd()).collect();
        peer.send(&command(1, number, &read(0, 4)), &fds);
        let why = format!("command {number} with {}", fds.len());
        assert_eq!(peer.receive().0.error(), Some(Errno::INVAL), "{why}");
        assert_in_step(&mut peer, &why);
    }
    drop(peer);
    server.join().unwrap().unwrap();
}

#[test]
fn a_frame_over_the_limit_is_refused_and_ends_it() {
    for (size, flags) in [
        (0_u32, 0),
        (15, 0),
        ((1 << 20) + 33, 0),
        (u32::MAX, 0),
        (1, NO_REPLY),
    ] {
        let (mut peer, server) = agreed(1 << 20);
        let mut sent = message(5, 10, flags, &read(0, 4));
        sent[4..8].copy_from_slice(&size.to_ne_bytes());
        peer.send(&sent, &[]);
        if flags == 0 {
            let (header, _) = peer.receive();
            assert_eq!(
                (header.id, header.error()),
                (5, Some(Errno::INVAL)),
                "{size}"
            );
        }
        assert!(peer.sees_the_end(), "{size}");
        assert!(matches!(
            server.join().unwrap(),
            Err(ServerError::Broken(_))
        ));
    }
}
