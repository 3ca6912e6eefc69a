//! Whole messages and their descriptors, however the bytes arrive.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use rustix::net::RecvFlags;
use vfu::socket::{BrokenStream, Received, Receiver, Sender};

use crate::peer::{Peer, command, file, identity};

const MAX_FRAME: usize = (1 << 20) + 32;

fn receiver() -> (Peer, Receiver) {
    let (peer, socket) = Peer::new();
    (peer, Receiver::new(Arc::new(socket), MAX_FRAME))
}

/// Reads once.
fn receive(receiver: &mut Receiver) -> Result<Received, BrokenStream> {
    receiver.receive(RecvFlags::DONTWAIT)
}

/// The messages that are here whole: id, payload, identities of the descriptors.
fn frames(receiver: &mut Receiver) -> Vec<(u16, Vec<u8>, Vec<u64>)> {
    let mut frames = Vec::new();
    while let Some(frame) = receiver.next_frame().unwrap() {
        let fds = frame.fds.iter().map(identity).collect();
        frames.push((frame.header.id, frame.payload.to_vec(), fds));
    }
    frames
}

/// All that has come, with as many reads as it takes.
fn drain(receiver: &mut Receiver) -> Vec<(u16, Vec<u8>, Vec<u64>)> {
    let mut all = Vec::new();
    while receive(receiver).unwrap() == Received::Some {
        all.extend(frames(receiver));
    }
    all
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let (peer, mut receiver) = receiver();
    let sent = [command(1, 10, b"hello"), command(2, 13, b"")].concat();
    let mut seen = Vec::new();
    for byte in &sent {
        peer.send(&[*byte], &[]);
        assert_eq!(receive(&mut receiver).unwrap(), Received::Some);
        seen.extend(frames(&mut receiver));
    }
    let expected = [(1, b"hello".to_vec(), vec![]), (2, vec![], vec![])];
    assert_eq!(seen, expected);
    assert!(!receiver.is_mid_message());
}

#[test]
fn a_message_may_be_split_anywhere() {
    let sent = command(7, 10, b"payload");
    for at in 1..sent.len() {
        let (peer, mut receiver) = receiver();
        peer.send(&sent[..at], &[]);
        assert_eq!(drain(&mut receiver), [], "split at {at}");
        assert!(receiver.is_mid_message(), "split at {at}");
        peer.send(&sent[at..], &[]);
        let expected = [(7, b"payload".to_vec(), vec![])];
        assert_eq!(drain(&mut receiver), expected, "split at {at}");
    }
}

#[test]
fn hundreds_of_messages_come_in_one_read() {
    let (peer, mut receiver) = receiver();
    let mut sent = Vec::new();
    for id in 0..1000_u16 {
        sent.extend(command(id, 10, &id.to_ne_bytes()));
    }
    peer.send(&sent, &[]);
    assert_eq!(receive(&mut receiver).unwrap(), Received::Some);
    let seen = frames(&mut receiver);
    assert_eq!(seen.len(), 1000);
    for (id, (seen_id, payload, _)) in (0_u16..).zip(&seen) {
        assert_eq!((*seen_id, &payload[..]), (id, &id.to_ne_bytes()[..]));
    }
    assert_eq!(receive(&mut receiver).unwrap(), Received::Nothing);
}

#[test]
fn messages_of_every_size_follow_each_other_in_step() {
    let (peer, mut receiver) = receiver();
    let sizes = [
        0,
        1,
        65_519,
        65_520,
        65_521,
        100_000,
        3,
        1 << 20,
        1 << 20,
        17,
    ];
    let writer = thread::spawn(move || {
        for (id, size) in (0_u16..).zip(sizes) {
            peer.send(&command(id, 10, &vec![id.to_ne_bytes()[0]; size]), &[]);
        }
        peer
    });
    let mut seen = Vec::new();
    while seen.len() < sizes.len() {
        receiver.receive(RecvFlags::empty()).unwrap();
        seen.extend(frames(&mut receiver));
    }
    for ((id, size), (seen_id, payload, _)) in (0_u16..).zip(sizes).zip(&seen) {
        assert_eq!((*seen_id, payload.len()), (id, size));
        assert!(payload.iter().all(|byte| *byte == id.to_ne_bytes()[0]));
    }
    writer.join().unwrap();
}

#[test]
fn nothing_is_read_or_lost_while_whole_messages_wait() {
    let (peer, mut receiver) = receiver();
    // More than one read holds.
    let count = 6000_u16;
    let mut sent = Vec::new();
    for id in 0..count {
        sent.extend(command(id, 13, &[]));
    }
    peer.send(&sent, &[]);
    drop(peer);
    for id in 0..count {
        for _ in 0..3 {
            assert_eq!(receive(&mut receiver).unwrap(), Received::Some);
        }
        assert_eq!(receiver.next_frame().unwrap().unwrap().header.id, id);
    }
    assert_eq!(receive(&mut receiver).unwrap(), Received::Closed);
}

/// vfio-user.md, section 5: a read ends after the first data that carries descriptors.
#[test]
fn descriptors_go_to_their_own_message_among_many() {
    let files: Vec<OwnedFd> = (0..4).map(|_| file()).collect();
    let ids: Vec<u64> = files.iter().map(identity).collect();
    let plain = |id| (command(id, 10, b"xx"), 0..0);
    let with = |id, which| (command(id, 2, b"yyyy"), which);
    for (name, sent) in [
        ("after plain ones", vec![plain(0), plain(1), with(2, 0..1)]),
        ("before plain ones", vec![with(0, 0..1), plain(1), plain(2)]),
        (
            "in a row",
            vec![with(0, 0..1), with(1, 1..3), with(2, 3..4)],
        ),
        (
            "between",
            vec![plain(0), with(1, 1..3), plain(2), with(3, 0..1), plain(4)],
        ),
    ] {
        let (peer, mut receiver) = receiver();
        let mut expected = Vec::new();
        for (id, (bytes, which)) in (0..).zip(&sent) {
            let fds: Vec<_> = files[which.clone()].iter().map(AsFd::as_fd).collect();
            peer.send(bytes, &fds);
            expected.push((id, bytes[16..].to_vec(), ids[which.clone()].to_vec()));
        }
        assert_eq!(drain(&mut receiver), expected, "{name}");
    }
}

#[test]
fn plain_messages_and_the_next_one_with_a_descriptor_come_in_one_read() {
    let (peer, mut receiver) = receiver();
    let file = file();
    peer.send(&command(0, 10, b"plain"), &[]);
    peer.send(&command(1, 2, b"map"), &[file.as_fd()]);
    peer.send(&command(2, 10, b"plain"), &[]);
    assert_eq!(receive(&mut receiver).unwrap(), Received::Some);
    let seen = frames(&mut receiver);
    assert_eq!(seen.len(), 2, "the kernel ends the read at the descriptor");
    assert!(seen[0].2.is_empty());
    assert_eq!(seen[1].2, [identity(&file)]);
    assert!(drain(&mut receiver)[0].2.is_empty());
}

#[test]
fn descriptors_stay_with_a_message_that_comes_in_pieces() {
    let file = file();
    let before = command(0, 10, b"plain");
    let sent = command(1, 2, &[7; 32]);
    for at in [1, 8, 15, 16, 17, 47] {
        let (peer, mut receiver) = receiver();
        peer.send(&before, &[]);
        peer.send(&sent[..at], &[file.as_fd()]);
        let mut seen = drain(&mut receiver);
        // The rest, and the next message with one, come in one read.
        peer.send(&sent[at..], &[]);
        peer.send(&command(2, 2, b""), &[file.as_fd()]);
        seen.extend(drain(&mut receiver));
        let own: Vec<_> = seen.iter().map(|(id, _, fds)| (*id, fds.len())).collect();
        assert_eq!(own, [(0, 0), (1, 1), (2, 1)], "cut at {at}");
    }
}

#[test]
fn a_large_message_keeps_its_descriptor() {
    let (peer, mut receiver) = receiver();
    let file = file();
    let id = identity(&file);
    let writer = thread::spawn(move || {
        peer.send(&command(0, 10, &[1; 40_000]), &[]);
        peer.send(&command(1, 2, &vec![2; 1 << 20]), &[file.as_fd()]);
        peer.send(&command(2, 2, &[3; 10]), &[file.as_fd()]);
        peer
    });
    let mut seen = Vec::new();
    while seen.len() < 3 {
        receiver.receive(RecvFlags::empty()).unwrap();
        seen.extend(frames(&mut receiver));
    }
    let fds: Vec<_> = seen.into_iter().map(|(_, _, fds)| fds).collect();
    assert_eq!(fds, [vec![], vec![id], vec![id]]);
    writer.join().unwrap();
}

#[test]
fn an_end_between_messages_is_not_an_error_and_one_inside_is() {
    let whole = command(1, 13, b"");
    for (sent, expected) in [(0, true), (16, true), (1, false), (15, false)] {
        let (peer, mut receiver) = receiver();
        peer.send(&whole[..sent], &[]);
        if sent > 0 {
            receive(&mut receiver).unwrap();
            frames(&mut receiver);
        }
        drop(peer);
        match receive(&mut receiver) {
            Ok(received) => assert!(expected && received == Received::Closed, "{sent}"),
            Err(error) => {
                assert!(!expected, "{sent}: {error}");
                assert!(matches!(error, BrokenStream::Truncated), "{sent}: {error}");
            }
        }
    }
}

#[test]
fn an_end_with_our_messages_unread_is_not_an_error() {
    let (peer, socket) = Peer::new();
    let socket = Arc::new(socket);
    let mut receiver = Receiver::new(Arc::clone(&socket), MAX_FRAME);
    let sender = Sender::new(socket);
    sender.send(&command(1, 13, b""), &[]).unwrap();
    drop(peer);
    assert_eq!(receive(&mut receiver).unwrap(), Received::Closed);
}

#[test]
fn an_impossible_size_breaks_the_stream() {
    for size in [0, 1, 15, MAX_FRAME as u64 + 1, 1 << 31, u64::from(u32::MAX)] {
        let (peer, mut receiver) = receiver();
        let mut sent = command(9, 13, b"");
        sent[4..8].copy_from_slice(&u32::try_from(size).unwrap().to_ne_bytes());
        peer.send(&sent, &[]);
        receive(&mut receiver).unwrap();
        for _ in 0..2 {
            let error = receiver.next_frame().expect_err("it stays broken");
            assert!(
                matches!(error, BrokenStream::FrameSize { header, .. } if header.id == 9),
                "{size}: {error}"
            );
        }
        assert!(receive(&mut receiver).is_err(), "{size}");
    }
}
