//! No descriptor that a peer sends stays open. These tests count all that this process has open,
//! so they are a program of their own, and take turns.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::RecvFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vfu::server::{Incoming, Server};
use vfu::socket::{BrokenStream, Received, Receiver, SCM_MAX_FD, Sender};
use vfu::wire::Header;
use vfu::wire::version::Capabilities;

const NO_REPLY: u32 = 1 << 4;

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn file() -> OwnedFd {
    fs::File::open("/dev/null").unwrap().into()
}

fn pair() -> (Arc<OwnedFd>, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Arc::new(ours.into()), theirs.into())
}

fn message(number: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        id: 0,
        command: number,
        size: u32::try_from(Header::LEN + payload.len()).unwrap(),
        flags,
        errno: 0,
    };
    [&header.to_bytes(), payload].concat()
}

#[test]
fn a_hundred_thousand_bad_messages_leak_nothing() {
    let _turn = turn();
    let before = open();
    let (socket, theirs) = pair();
    let peer = Sender::new(Arc::clone(&socket));
    let mut server = Server::new(theirs, Capabilities::default());
    let file = file();
    let fds = [file.as_fd(); 3];
    peer.send(&message(1, NO_REPLY, &[0; 4]), &[]).unwrap();
    let mut refused = 0;
    for n in 0..100_000_usize {
        let number = u16::try_from(n % 20).unwrap();
        // Now and then a message is wrong in nothing but its descriptors.
        let payload = [0xff; 40];
        let len = n % payload.len();
        let sent = message(number, NO_REPLY, &payload[..len]);
        // DMA_MAP takes a file, and SET_IRQS an eventfd: here they are wrong in the payload.
        peer.send(&sent, &fds[..n % 4]).unwrap();
        assert_eq!(server.receive().unwrap(), Received::Some);
        while let Some(Incoming { request, reply }) = server.next_request().unwrap() {
            refused += usize::from(request.is_err());
            reply.empty().unwrap();
        }
    }
    // DEVICE_RESET without payload and descriptors is sound, and so are other rare ones.
    assert!(refused > 95_000, "{refused}");
    let held = before + 3;
    assert_eq!(open(), held, "two sockets and a file are open");
    drop((server, peer, socket, file));
    assert_eq!(open(), before);
}

/// Sends `parts` with as many descriptors each, reads until the end, and expects `is_expected`
/// of the error and that nothing stays open.
fn breaks(parts: &[(&[u8], usize)], is_expected: impl Fn(&BrokenStream) -> bool) {
    let before = open();
    let (socket, theirs) = pair();
    let peer = Sender::new(socket);
    let mut receiver = Receiver::new(Arc::new(theirs), 4096);
    let file = file();
    let mut broken = None;
    for (bytes, fds) in parts {
        peer.send(bytes, &vec![file.as_fd(); *fds]).unwrap();
        broken = receiver.receive(RecvFlags::DONTWAIT).err();
        if broken.is_some() {
            break;
        }
    }
    drop((peer, file));
    let error = match broken {
        Some(error) => error,
        None => receiver.receive(RecvFlags::DONTWAIT).unwrap_err(),
    };
    assert!(is_expected(&error), "{error}");
    drop(receiver);
    assert_eq!(open(), before, "{error}");
}

#[test]
fn descriptors_on_every_byte_of_a_message_end_it() {
    let _turn = turn();
    let sent = message(10, 0, &[0; 1000]);
    let one_each: Vec<_> = sent.chunks(1).map(|byte| (byte, 1)).collect();
    breaks(&one_each, |error| matches!(error, BrokenStream::TooManyFds));
    let many_each: Vec<_> = sent.chunks(1).map(|byte| (byte, 100)).collect();
    breaks(&many_each, |error| {
        matches!(error, BrokenStream::TooManyFds)
    });
}

#[test]
fn descriptors_of_a_message_that_never_ends_are_closed() {
    let _turn = turn();
    let sent = message(10, 0, &[0; 100]);
    for (at, fds) in [(1, 1), (15, 253), (16, 16), (115, 253)] {
        let truncated = |error: &BrokenStream| matches!(error, BrokenStream::Truncated);
        breaks(&[(&sent[..at], fds)], truncated);
    }
    let mut impossible = sent;
    impossible[4..8].copy_from_slice(&5_u32.to_ne_bytes());
    breaks(&[(&impossible, 253)], |error| {
        matches!(error, BrokenStream::FrameSize { .. })
    });
}

#[test]
fn one_message_may_have_as_many_descriptors_as_the_kernel_passes() {
    let _turn = turn();
    let before = open();
    let (socket, theirs) = pair();
    let peer = Sender::new(socket);
    let mut receiver = Receiver::new(Arc::new(theirs), 4096);
    let file = file();
    let fds = vec![file.as_fd(); SCM_MAX_FD];
    let sent = message(8, 0, &[0; 20]);
    // The limit is on one message: the rest of the first comes in one read with the second.
    peer.send(&sent[..20], &fds).unwrap();
    receiver.receive(RecvFlags::DONTWAIT).unwrap();
    assert!(receiver.next_frame().unwrap().is_none());
    peer.send(&sent[20..], &[]).unwrap();
    peer.send(&sent, &fds).unwrap();
    receiver.receive(RecvFlags::DONTWAIT).unwrap();
    for _ in 0..2 {
        let frame = receiver.next_frame().unwrap().unwrap();
        assert_eq!(frame.fds.len(), SCM_MAX_FD);
    }
    drop((peer, receiver, file));
    assert_eq!(open(), before);
}

/// The kernel then installs as many as it can, and sets MSG_CTRUNC.
#[test]
fn descriptors_that_this_process_has_no_room_for_end_it() {
    let _turn = turn();
    let before = open();
    let (socket, theirs) = pair();
    let peer = Sender::new(socket);
    let mut receiver = Receiver::new(Arc::new(theirs), 4096);
    let file = file();
    peer.send(&message(8, 0, &[0; 20]), &[file.as_fd(); 8])
        .unwrap();

    let limit = getrlimit(Resource::Nofile);
    // A new descriptor has the lowest number that is free; there is room for three at most.
    let lowest = u64::try_from(self::file().as_raw_fd()).unwrap();
    let current = Some(lowest + 3);
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    let received = receiver.receive(RecvFlags::DONTWAIT);
    setrlimit(Resource::Nofile, limit).unwrap();

    assert!(matches!(received, Err(BrokenStream::TooManyFds)));
    drop((peer, receiver, file));
    assert_eq!(open(), before);
}

#[test]
fn descriptors_that_are_received_do_not_outlive_exec() {
    let _turn = turn();
    let (socket, theirs) = pair();
    let peer = Sender::new(socket);
    let mut receiver = Receiver::new(Arc::new(theirs), 4096);
    peer.send(&message(2, 0, &[0; 32]), &[file().as_fd()])
        .unwrap();
    receiver.receive(RecvFlags::DONTWAIT).unwrap();
    let frame = receiver.next_frame().unwrap().unwrap();
    let flags = rustix::io::fcntl_getfd(&frame.fds[0]).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

/// The reply that refuses a frame still reaches a client whose own bytes were never read, and what
/// follows is an end: at a reset QEMU 11.1 aborts.
#[test]
fn a_refusal_is_read_although_the_connection_closed_with_bytes_unread() {
    let _turn = turn();
    let (socket, theirs) = pair();
    let peer = Sender::new(Arc::clone(&socket));
    let mut server = Server::new(theirs, Capabilities::default());
    let mut sent = message(1, 0, &[0; 4]);
    sent[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    peer.send(&sent, &[]).unwrap();
    assert_eq!(server.receive().unwrap(), Received::Some);
    peer.send(&[0; 1000], &[]).unwrap();
    assert!(server.next_request().is_err());
    drop(server);
    let mut refusal = [0; 16];
    let mut stream = UnixStream::from(socket.try_clone().unwrap());
    stream.read_exact(&mut refusal).unwrap();
    assert!(Header::parse(&refusal).unwrap().error().is_some());
    assert_eq!(stream.read(&mut refusal).unwrap(), 0);
}
