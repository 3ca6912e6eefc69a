//! What has come on a stream, from its first byte that is not dealt with.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use crate::header::{self, Header};
use crate::memory::{Bytes, Memory, Words};

/// Words that it takes.
const WORDS: usize = 8;

/// Its words, by their number. Positions count the bytes of the stream from its beginning.
mod word {
    /// The position of the first byte of the buffer.
    pub(super) const BASE: usize = 0;
    /// Before this, everything is dealt with.
    pub(super) const START: usize = 1;
    /// Before this, everything has come, if `FOLDING` is 0: and what the header says beside.
    pub(super) const END: usize = 2;
    /// If `FOLDING` is 1, this is in place of it.
    pub(super) const NEXT_END: usize = 3;
    pub(super) const FOLDING: usize = 4;
    /// The end of the last read that brought descriptors.
    pub(super) const FDS_END: usize = 5;
}

/// What one attempt to receive brought.
#[derive(Debug)]
pub struct Received {
    /// How many bytes.
    pub bytes: usize,
    /// Whether they are as many as there was room for.
    pub is_full: bool,
    /// Descriptors that came with them.
    pub fds: Vec<OwnedFd>,
    /// Whether more descriptors came than could be taken.
    pub is_cut_off: bool,
}

/// The bytes of a stream that have come, are handed out one message after the other, and are dealt
/// with in that order.
///
/// # Invariants
///
/// `base <= start <= next <= end <= base + buffer.len()`. A byte that was handed out stays where it
/// is until [`Self::make_room`].
#[derive(Debug)]
pub struct Inbox {
    words: Words,
    header: Header,
    bytes: Bytes,
    /// What comes next is handed out next.
    next: u64,
    end: u64,
}

impl Inbox {
    /// How much memory it takes with a buffer of `capacity` bytes, parts of pages included.
    pub const fn len_in_memory(capacity: usize) -> usize {
        (WORDS + header::WORDS) * 8 + capacity + 2 * 4096
    }

    /// Takes an inbox, empty or as it was left, off the front of `memory`.
    ///
    /// Messages of up to half its capacity can be received.
    pub fn new(memory: &mut Memory, capacity: usize) -> io::Result<Self> {
        let words = memory.words(WORDS)?;
        let header = Header::new(memory.words(header::WORDS)?);
        let bytes = memory.bytes(capacity)?;
        let mut inbox = Self {
            next: words.get(word::START),
            end: words.get(word::END).saturating_add(header.moved()),
            words,
            header,
            bytes,
        };
        if inbox.words.get(word::FOLDING) != 0 {
            inbox.end = inbox.words.get(word::NEXT_END);
        } else if inbox.header.moved() != 0 && inbox.header.had_fds() {
            inbox.words.set(word::FDS_END, inbox.end);
        }
        inbox.note_end();
        let base = inbox.base();
        let is_sound = base <= inbox.next
            && inbox.next <= inbox.end
            && inbox.end - base <= inbox.bytes.len() as u64;
        is_sound
            .then_some(inbox)
            .ok_or(io::ErrorKind::InvalidData.into())
    }

    /// One in memory of its own.
    pub fn private(capacity: usize) -> Self {
        let mut memory = Memory::private(Self::len_in_memory(capacity));
        Self::new(&mut memory, capacity).expect("zeros are an empty inbox")
    }

    /// One in memory of its own that goes on from this one, with another capacity.
    #[must_use]
    pub fn moved(&self, capacity: usize) -> Self {
        let mut other = Self::private(capacity);
        let unread = self.unread();
        other.bytes[..unread.len()].copy_from_slice(unread);
        (other.next, other.end) = (self.next, self.end);
        for (index, value) in [
            (word::BASE, self.next),
            (word::START, self.start()),
            (word::END, self.end),
        ] {
            other.words.set(index, value);
        }
        other
    }

    fn base(&self) -> u64 {
        self.words.get(word::BASE)
    }

    /// Where a byte of the stream lies, if it is here.
    fn place(&self, position: u64) -> Option<usize> {
        let place = usize::try_from(position.checked_sub(self.base())?).ok()?;
        (place <= self.bytes.len()).then_some(place)
    }

    /// Where the first byte lies that was not handed out.
    fn next_place(&self) -> usize {
        (self.next - self.base()) as usize
    }

    fn end_place(&self) -> usize {
        (self.end - self.base()) as usize
    }

    /// How many bytes it holds.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// The position of the first byte that was not handed out.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The position up to which everything is dealt with.
    pub fn start(&self) -> u64 {
        self.words.get(word::START)
    }

    /// The position up to which everything has come.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The position after the last byte of the last read that brought descriptors: they belong to
    /// the message that holds that byte. Whoever takes over does not have them.
    pub fn fds_end(&self) -> u64 {
        self.words.get(word::FDS_END)
    }

    /// What has come and was not handed out.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.next_place()..self.end_place()]
    }

    /// Bytes that are here still, though they may be dealt with. `None` if they are not.
    pub fn bytes(&self, range: Range<u64>) -> Option<&[u8]> {
        let places = self.place(range.start)?..self.place(range.end)?;
        self.bytes.get(places).filter(|_| range.end <= self.end)
    }

    /// Hands out the next `len` bytes of [`Self::unread`].
    pub fn hand_out(&mut self, len: usize) -> &[u8] {
        let at = self.next_place();
        self.next += len as u64;
        debug_assert!(self.next <= self.end);
        &self.bytes[at..at + len]
    }

    /// Everything that was handed out is dealt with.
    pub fn deal(&self) {
        self.words.set(word::START, self.next);
    }

    /// What tells from elsewhere that bytes are dealt with: [`crate::Outbox`] with the answer.
    pub(crate) fn start_word(&self) -> (Words, usize) {
        (self.words.clone(), word::START)
    }

    /// Makes room for `len` bytes from [`Self::next`] on. Everything that was handed out is dealt
    /// with, and is not kept.
    ///
    /// A byte moves only if its message does not fit where it began, and never over itself: who is
    /// killed half-way leaves it where it was.
    pub fn make_room(&mut self, len: usize) {
        debug_assert!(self.start() == self.next && 2 * len <= self.bytes.len());
        if self.next == self.end {
            self.words.set(word::BASE, self.next);
        } else if self.next_place() + len > self.bytes.len() {
            let places = self.next_place()..self.end_place();
            debug_assert!(places.len() <= places.start);
            self.bytes.copy_within(places, 0);
            self.words.set(word::BASE, self.next);
        }
    }

    /// Gives memory past the first `len` bytes of the buffer back. Nothing lies there.
    pub fn shrink(&mut self, len: usize) {
        if self.end_place() <= len {
            self.bytes.release(len);
        }
    }

    /// Receives once, at most `most` bytes.
    pub fn receive(
        &mut self,
        socket: impl AsFd,
        most: usize,
        flags: rustix::net::RecvFlags,
    ) -> io::Result<Received> {
        let at = self.end_place();
        let room = self.bytes.len().min(at.saturating_add(most));
        let flags = flags.bits().cast_signed();
        let (bytes, fds, is_cut_off) =
            self.header
                .receive(socket, &mut self.bytes[at..room], flags)?;
        self.end += bytes as u64;
        if !fds.is_empty() {
            self.words.set(word::FDS_END, self.end);
        }
        self.note_end();
        Ok(Received {
            bytes,
            is_full: bytes == room - at,
            fds,
            is_cut_off,
        })
    }

    /// Notes the end, which the header tells until then. At no moment do both count.
    fn note_end(&self) {
        self.words.set(word::NEXT_END, self.end);
        self.words.set(word::FOLDING, 1);
        self.words.set(word::END, self.end);
        self.header.clear();
        self.words.set(word::FOLDING, 0);
    }
}

#[cfg(test)]
mod tests {
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
}
