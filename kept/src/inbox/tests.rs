use std::io::Write;
use std::os::unix::net::UnixStream;

use rustix::net::RecvFlags;

use super::*;

const CAPACITY: usize = 8192;

fn memory() -> Memory {
    Memory::new("test", Inbox::len_in_memory(CAPACITY)).unwrap()
}

/// As another process finds it.
fn reopen(memory: &Memory) -> io::Result<Inbox> {
    let file = memory.file().unwrap().try_clone().unwrap();
    let mut memory = Memory::open(file, Inbox::len_in_memory(CAPACITY))?;
    Inbox::new(&mut memory, CAPACITY)
}

#[test]
fn who_takes_over_finds_what_has_come_and_what_is_dealt_with() {
    let (mut peer, socket) = UnixStream::pair().unwrap();
    let mut memory = memory();
    let mut inbox = Inbox::new(&mut memory, CAPACITY).unwrap();
    peer.write_all(b"onetwothree").unwrap();
    inbox.receive(&socket, 6, RecvFlags::DONTWAIT).unwrap();
    assert_eq!(inbox.hand_out(3), b"one");
    assert_eq!(reopen(&memory).unwrap().unread(), b"onetwo");
    inbox.deal();
    let mut next = reopen(&memory).unwrap();
    assert_eq!(next.unread(), b"two");
    assert_eq!(next.bytes(0..3), Some(&b"one"[..]));
    next.receive(&socket, 99, RecvFlags::DONTWAIT).unwrap();
    assert_eq!(next.unread(), b"twothree");
}

/// The kernel has moved the bytes, and the process was killed before its next instruction.
#[test]
fn bytes_that_came_in_the_last_call_are_not_lost() {
    let (mut peer, socket) = UnixStream::pair().unwrap();
    let mut memory = memory();
    let mut inbox = Inbox::new(&mut memory, CAPACITY).unwrap();
    peer.write_all(b"one").unwrap();
    inbox.receive(&socket, 99, RecvFlags::DONTWAIT).unwrap();
    peer.write_all(b"two").unwrap();
    let at = inbox.end_place();
    inbox
        .header
        .receive(&socket, &mut inbox.bytes[at..], 0)
        .unwrap();
    assert_eq!(reopen(&memory).unwrap().unread(), b"onetwo");
    // And at every step of taking note of it.
    inbox.end += 3;
    for (index, value) in [(word::NEXT_END, 6), (word::FOLDING, 1), (word::END, 6)] {
        inbox.words.set(index, value);
        let before: Vec<_> = (0..WORDS).map(|index| inbox.words.get(index)).collect();
        let moved = inbox.header.moved();
        assert_eq!(reopen(&memory).unwrap().end(), 6, "word {index}");
        // Looking at it took note of it: back to the moment of the kill.
        before
            .iter()
            .enumerate()
            .for_each(|(index, value)| inbox.words.set(index, *value));
        inbox.header.set_moved(moved);
    }
}

#[test]
fn a_message_that_does_not_fit_moves_to_the_front() {
    let (mut peer, socket) = UnixStream::pair().unwrap();
    let mut memory = memory();
    let mut inbox = Inbox::new(&mut memory, CAPACITY).unwrap();
    peer.write_all(&[1; 6000]).unwrap();
    inbox.receive(&socket, 6000, RecvFlags::DONTWAIT).unwrap();
    inbox.hand_out(5000);
    inbox.deal();
    inbox.make_room(4000);
    assert_eq!(inbox.unread(), [1; 1000]);
    assert_eq!(reopen(&memory).unwrap().unread(), [1; 1000]);
    assert_eq!(inbox.next_place(), 0);
    assert_eq!((inbox.next(), inbox.end()), (5000, 6000));
}

#[test]
fn words_that_make_no_sense_are_refused() {
    for (index, value) in [
        (word::BASE, 5),
        (word::START, 5),
        (word::END, CAPACITY as u64 + 1),
        (word::END, u64::MAX),
    ] {
        let mut memory = memory();
        let inbox = Inbox::new(&mut memory, CAPACITY).unwrap();
        inbox.words.set(index, value);
        assert!(reopen(&memory).is_err(), "word {index}");
        inbox.header.set_moved(1);
        assert!(reopen(&memory).is_err(), "word {index}, and more");
    }
}

#[test]
fn descriptors_come_with_their_bytes() {
    let (peer, socket) = UnixStream::pair().unwrap();
    let mut outbox = crate::Outbox::private();
    outbox.begin(None, 4);
    outbox
        .send(
            &peer,
            b"with",
            &[peer.as_fd(), socket.as_fd()],
            rustix::net::SendFlags::empty(),
        )
        .unwrap();
    let mut inbox = Inbox::private(CAPACITY);
    let received = inbox.receive(&socket, 99, RecvFlags::DONTWAIT).unwrap();
    assert_eq!((received.bytes, received.fds.len()), (4, 2));
    assert!(!received.is_cut_off);
    assert_eq!(inbox.fds_end(), 4);
}

#[test]
fn descriptors_that_were_lost_are_known_to_have_been_there() {
    let (peer, socket) = UnixStream::pair().unwrap();
    let mut memory = memory();
    let mut inbox = Inbox::new(&mut memory, CAPACITY).unwrap();
    let mut outbox = crate::Outbox::private();
    for (fds, end) in [(&[peer.as_fd()][..], 4), (&[], 4), (&[peer.as_fd()], 12)] {
        outbox.begin(None, 4);
        let flags = rustix::net::SendFlags::empty();
        outbox.send(&peer, b"with", fds, flags).unwrap();
        let at = inbox.end_place();
        inbox
            .header
            .receive(&socket, &mut inbox.bytes[at..], 0)
            .unwrap();
        // Killed there.
        inbox = reopen(&memory).unwrap();
        assert_eq!(inbox.fds_end(), end);
    }
}
